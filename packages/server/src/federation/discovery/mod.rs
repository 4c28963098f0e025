//! From a server's name to where it is: the specification's way, step by step.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

mod address;
mod dns;
#[cfg(test)]
mod tests;
mod well_known;

use std::{
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use ruma::{OwnedServerName, ServerName};

pub(super) use self::{address::is_public, dns::Dns, well_known::WellKnown};
use crate::random::Random;

/// The port of servers that name no other.
const PORT: u16 = 8448;

/// What discovery asks of the world.
pub(super) trait Outside: Send + Sync + Debug {
    /// The addresses of a host, through aliases. None: there is no such host.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>>;

    /// The SRV records of a name. None: there are none.
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>>;

    /// The server that a host delegates to, if it does.
    fn delegated<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Option<OwnedServerName>>;
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Where a server is, and what it is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Whom the certificate must be for; also the SNI, unless it is an address. An IPv6 address is in brackets.
    pub(super) certificate: String,
    /// The `Host` header.
    pub(super) host: String,
    /// Where to connect, in the order in which to try.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Finds servers.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    outside: Arc<dyn Outside>,
    allow_private: bool,
    random: Random,
}

impl Discovery {
    pub(super) fn new(outside: Arc<dyn Outside>, allow_private: bool, random: Random) -> Self {
        Self { outside, allow_private, random }
    }

    /// Finds a server.
    ///
    /// # Errors
    /// A part of a sentence: why it can't be found.
    pub(super) async fn find(&self, server: &ServerName) -> Result<Target, String> {
        // Steps 1 and 2: an address, or a port.
        if server.is_ip_literal() || server.port().is_some() {
            return self.at(server, server.port().unwrap_or(PORT)).await;
        }
        // Step 3: what the host says. The same steps again for what it names, which delegates no further.
        let delegated = self.outside.delegated(server.host()).await;
        let server = delegated.as_deref().unwrap_or(server);
        if server.is_ip_literal() || server.port().is_some() {
            return self.at(server, server.port().unwrap_or(PORT)).await;
        }
        // Steps 3.3, 3.4, 4 and 5: services, the newer name first.
        for kind in ["_matrix-fed._tcp", "_matrix._tcp"] {
            let name = format!("{kind}.{}.", server.host());
            let found = self.outside.services(&name).await;
            // Many name servers do not know how to say that there are none.
            let services = found.unwrap_or_default();
            if let Some(target) = self.served(server, services).await? {
                return Ok(target);
            }
        }
        // Steps 3.5 and 6: the host itself.
        self.at(server, PORT).await
    }

    /// A server on its own host.
    async fn at(&self, server: &ServerName, port: u16) -> Result<Target, String> {
        let addresses = self.addresses(server.host()).await?;
        Ok(Target {
            certificate: server.host().to_owned(),
            host: server.as_str().to_owned(),
            addresses: addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        })
    }

    /// A server on the hosts of its SRV records, of which at least one must be there; none without records.
    async fn served(
        &self,
        server: &ServerName,
        mut services: Vec<Service>,
    ) -> Result<Option<Target>, String> {
        // A record that names the root says that there is no such service.
        services.retain(|service| !matches!(&*service.host, "" | "."));
        if services.is_empty() {
            return Ok(None);
        }
        let mut addresses = Vec::new();
        let mut failed = None;
        for service in self.in_order(services) {
            let host = service.host.strip_suffix('.').unwrap_or(&service.host);
            match self.addresses(host).await {
                Ok(found) => {
                    let found = found.into_iter().map(|ip| SocketAddr::new(ip, service.port));
                    addresses.extend(found);
                }
                Err(why) => failed = Some(why),
            }
        }
        match failed {
            Some(why) if addresses.is_empty() => Err(why),
            _ => Ok(Some(Target {
                certificate: server.host().to_owned(),
                host: server.host().to_owned(),
                addresses,
            })),
        }
    }

    /// By priority; among equals by chance, which weight makes likelier (RFC 2782).
    fn in_order(&self, mut services: Vec<Service>) -> Vec<Service> {
        let mut ordered = Vec::new();
        while let Some(priority) = services.iter().map(|service| service.priority).min() {
            let equal = || services.iter().enumerate().filter(|(_, one)| one.priority == priority);
            // One more each, so that those without weight have their turn, too.
            let total: u64 = equal().map(|(_, one)| u64::from(one.weight) + 1).sum();
            let mut draw = u64::from_le_bytes(self.random.bytes()) % total;
            let drawn = equal().find(|(_, one)| {
                let weight = u64::from(one.weight) + 1;
                let hit = draw < weight;
                draw = draw.saturating_sub(weight);
                hit
            });
            let index = drawn.map_or(0, |(index, _)| index);
            ordered.push(services.remove(index));
        }
        ordered
    }

    /// The addresses of a host that may be connected to, at least one.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let found = match literal {
            Ok(address) => vec![address],
            Err(_) => self
                .outside
                .addresses(host)
                .await
                .map_err(|why| format!("the address of {host} can't be had: {why}"))?,
        };
        if found.is_empty() {
            return Err(format!("there is no host {host}"));
        }
        let allowed: Vec<IpAddr> =
            found.into_iter().filter(|ip| self.allow_private || is_public(*ip)).collect();
        if allowed.is_empty() {
            return Err(format!("{host} is on a private address, which is not connected to"));
        }
        Ok(allowed)
    }
}
