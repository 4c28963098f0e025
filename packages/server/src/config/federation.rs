//! `[federation]`

use std::{collections::BTreeMap, path::PathBuf};

use ruma::OwnedServerName;

use super::section::section;

section! {
    /// Other servers.
    Federation {
        /// The name and port under which other servers reach this one, for /.well-known/matrix/server. Without it that
        /// file is not there, and they come to port 8448 of the server's own name.
        public_name: Option<OwnedServerName> = None, e.g. "\"matrix.example.org:443\"";
        /// Certificate authorities to trust beside the usual ones, PEM.
        trusted_ca_file: Option<PathBuf> = None, e.g. "\"ca.pem\"";
        /// Servers that are asked for the keys of others, where those do not answer themselves.
        key_notaries: Vec<OwnedServerName> = Vec::new();
        /// Whether other servers may read the list of public rooms.
        public_rooms_over_federation: bool = false;
        /// Where to find servers, instead of looking them up: { "example.org" = "127.0.0.1:8448" }. Their certificates
        /// must be for their names all the same.
        resolve: BTreeMap<String, String> = BTreeMap::new();
    }
}
