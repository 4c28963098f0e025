//! `[federation]`

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ruma::{OwnedServerName, ServerName};

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

impl Federation {
    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (server, address) in &self.resolve {
            if ServerName::parse(server).is_err() {
                problems.push(format!(
                    "federation.resolve has the key \"{server}\": it must be a server's name such as \"example.org\""
                ));
            }
            if address.parse::<SocketAddr>().map_or(0, |address| address.port()) == 0 {
                problems.push(format!(
                    "federation.resolve has \"{address}\" for \"{server}\": it must be an address and a port such as \"127.0.0.1:8448\""
                ));
            }
        }
        problems
    }
}
