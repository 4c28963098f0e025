//! `[listener]`

use std::{net::IpAddr, path::PathBuf};

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
        if !is_host(&self.bind) {
            problems.push(format!(
                "listener.{name}.bind is \"{}\": it must be a host name or an address such as 127.0.0.1 or ::, without a port",
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

/// Whether this could be a host: an address, or a name whose last part is no number.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = || {
        let last = host.rsplit('.').next().unwrap_or(host);
        host.len() <= 253
            && host.split('.').all(label)
            && !last.bytes().all(|byte| byte.is_ascii_digit())
    };
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || name()
}
