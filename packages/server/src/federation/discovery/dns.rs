//! The domain name system, as the machine is configured for it.

use std::net::IpAddr;

use hickory_resolver::{ResolveError, ResolverBuilder, TokioResolver};

use super::Service;

/// Looks names up.
#[derive(Clone)]
pub(in crate::federation) struct Dns {
    /// None where the machine says nothing of DNS: then its own functions look addresses up, and there are no services.
    resolver: Option<TokioResolver>,
}

impl Dns {
    /// Reads how the machine looks names up.
    pub(in crate::federation) fn of_the_machine() -> Self {
        let resolver = TokioResolver::builder_tokio().map(ResolverBuilder::build);
        if let Err(error) = &resolver {
            tracing::warn!(%error, "dns: no name servers are configured; SRV records are not looked up");
        }
        Self { resolver: resolver.ok() }
    }

    /// Asks somebody else.
    #[cfg(test)]
    pub(in crate::federation) fn with(resolver: TokioResolver) -> Self {
        Self { resolver: Some(resolver) }
    }

    /// The addresses of a host; none, where there is no such host.
    pub(in crate::federation) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let Some(resolver) = &self.resolver else {
            let found = tokio::net::lookup_host((host, 0)).await.map_err(|e| e.to_string())?;
            return Ok(found.map(|address| address.ip()).collect());
        };
        match resolver.lookup_ip(host).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) => none_or(&error),
        }
    }

    /// The SRV records of a name; none, where there are none.
    pub(in crate::federation) async fn services(&self, name: &str) -> Result<Vec<Service>, String> {
        let Some(resolver) = &self.resolver else { return Ok(Vec::new()) };
        match resolver.srv_lookup(name).await {
            Ok(found) => Ok(found
                .iter()
                .map(|record| Service {
                    priority: record.priority(),
                    weight: record.weight(),
                    host: record.target().to_ascii(),
                    port: record.port(),
                })
                .collect()),
            Err(error) => none_or(&error),
        }
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dns")
    }
}

fn none_or<T>(error: &ResolveError) -> Result<Vec<T>, String> {
    if error.is_no_records_found() || error.is_nx_domain() {
        return Ok(Vec::new());
    }
    Err(error.to_string())
}
