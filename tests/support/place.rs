//! Addresses for servers that must be known before the servers start.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
};

use matryx_server::config::Config;

use super::ca;

/// A server's name and addresses.
pub struct Place {
    /// Its name, which nothing but the configuration of the others knows.
    pub name: String,
    /// For clients.
    pub client: SocketAddr,
    /// For other servers.
    pub federation: SocketAddr,
}

impl Place {
    /// A place of its own for a server whose name begins with `name`.
    pub fn new(name: &str) -> Self {
        let (client, federation) = (free_address(), free_address());
        Self { name: format!("{name}{}.test", federation.port()), client, federation }
    }

    /// Puts a server here: it trusts the tests' authority, and has a certificate of it.
    pub fn settle(&self, config: &mut Config) {
        config.server_name = self.name.as_str().try_into().expect("a server name");
        let (clients, federation) = (&mut config.listener.client, &mut config.listener.federation);
        for (listener, address) in [(clients, self.client), (federation, self.federation)] {
            listener.bind = address.ip().to_string();
            listener.port = address.port();
        }
        let (chain, key) = ca().certificate(&[&self.name]).write(&config.data_dir);
        config.listener.federation.tls = true;
        config.listener.federation.tls_cert = Some(chain);
        config.listener.federation.tls_key = Some(key);
        config.federation.trusted_ca_file = Some(ca().file());
        config.testing.allow_private_ip_destinations = true;
        config.testing.short_federation_backoff = true;
    }
}

/// An address of this machine that nobody else takes: the process's own, with ports in turn.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 1 + (high ^ middle) % 250, low, 1);
    SocketAddr::from((ip, NEXT.fetch_add(1, Ordering::Relaxed)))
}
