//! `[listener]`

use std::path::PathBuf;

use super::section::section;

section! {
    /// Where the server listens.
    Listeners {
        /// For clients.
        client: Listener = Listener::default();
        /// For other servers. If nothing is changed here and the port is taken, the server does without: it answers other
        /// servers on the client listener, too.
        federation: Listener = Listener { port: 8448, ..Listener::default() };
    }
}

section! {
    /// One address to listen on.
    Listener {
        /// The host or address. "0.0.0.0" and "::" are all of the machine's.
        bind: String = "127.0.0.1".to_owned();
        /// The port. 0 takes any that is free.
        port: u16 = 8008;
        /// Whether to speak TLS here, rather than in a proxy in front.
        tls: bool = false;
        /// The certificate and its chain, PEM.
        tls_cert: Option<PathBuf> = None, e.g. "\"cert.pem\"";
        /// The certificate's key, PEM.
        tls_key: Option<PathBuf> = None, e.g. "\"key.pem\"";
    }
}

impl Listeners {
    pub(super) fn validate(&self) -> Vec<String> {
        let both = [("client", &self.client), ("federation", &self.federation)];
        both.into_iter().flat_map(|(name, listener)| listener.validate(name)).collect()
    }
}

impl Listener {
    /// Whether this is where other servers are listened for when nobody says anything about it.
    #[must_use]
    pub fn is_federation_default(&self) -> bool {
        let Self { bind, port, tls, .. } = Listeners::default().federation;
        self.bind == bind && self.port == port && self.tls == tls
    }

    fn validate(&self, name: &str) -> Vec<String> {
        let mut problems = Vec::new();
        if self.bind.trim().is_empty() || self.bind.contains('/') {
            problems.push(format!(
                "listener.{name}.bind is \"{}\": it must be a host name or an address such as 127.0.0.1",
                self.bind
            ));
        }
        if self.tls && (self.tls_cert.is_none() || self.tls_key.is_none()) {
            problems.push(format!(
                "listener.{name}.tls is true: tls_cert and tls_key must name the two PEM files"
            ));
        }
        problems
    }
}
