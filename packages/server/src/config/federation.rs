//! `[federation]`

use std::{collections::BTreeMap, path::PathBuf};

use ruma::OwnedServerName;

use super::section::section;

section! {
    /// Other servers.
    Federation {
        /// Certificate authorities to trust beside the usual ones, PEM.
        trusted_ca_file: Option<PathBuf> = None, e.g. "\"ca.pem\"";
        /// Servers that are asked for the keys of others.
        key_notaries: Vec<OwnedServerName> = Vec::new();
        /// Whether other servers may read the list of public rooms.
        public_rooms_over_federation: bool = false;
        /// Where to find servers, instead of looking them up: { "example.org" = "127.0.0.1:8448" }.
        resolve: BTreeMap<String, String> = BTreeMap::new();
    }
}
