//! What discovery asks of the world, asked of the real one.

use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use ruma::OwnedServerName;

use super::super::discovery::{Dns, Outside, Service, WellKnown, is_public};

/// How often a redirect is followed.
const REDIRECTS: usize = 10;

/// The real world.
#[derive(Debug)]
pub(super) struct TheInternet {
    pub(super) dns: Dns,
    pub(super) well_known: WellKnown,
}

impl Outside for TheInternet {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(self.dns.addresses(host))
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        Box::pin(self.dns.services(name))
    }

    fn delegated<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Option<OwnedServerName>> {
        Box::pin(self.well_known.delegated(host))
    }
}

/// A client for well-known files: it follows redirects to other hosts, but to no private address and out of no TLS.
pub(super) fn well_known_client(
    tls: rustls::ClientConfig,
    dns: Dns,
    allow_private: bool,
    https: u16,
) -> reqwest::Result<Client> {
    let policy = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("it redirects too often");
        }
        if !may_follow(attempt.url(), allow_private) {
            return attempt.error("it redirects where nobody follows");
        }
        attempt.follow()
    });
    super::builder(tls).redirect(policy).dns_resolver(Guarded { dns, allow_private, https }).build()
}

fn may_follow(url: &Url, allow_private: bool) -> bool {
    let literal = url.host_str().map(|host| host.trim_matches(['[', ']']).parse::<IpAddr>());
    url.scheme() == "https"
        && match literal {
            Some(Ok(address)) => allow_private || is_public(address),
            Some(Err(_)) => true,
            None => false,
        }
}

/// Looks names up, and keeps what is private to itself.
#[derive(Clone)]
struct Guarded {
    dns: Dns,
    allow_private: bool,
    /// Where URLs lead that name no port; 0: where they usually do.
    https: u16,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { dns, allow_private, https } = self.clone();
        Box::pin(async move {
            let found = dns.addresses(name.as_str()).await?;
            let allowed = found.into_iter().filter(move |ip| allow_private || is_public(*ip));
            let addresses: Addrs = Box::new(allowed.map(move |ip| SocketAddr::new(ip, https)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_in_tls_and_in_public() {
        for (url, strict, open) in [
            ("https://example.org/", true, true),
            ("https://1.1.1.1:8443/x", true, true),
            ("http://example.org/", false, false),
            ("https://127.0.0.1/", false, true),
            ("https://[::1]/", false, true),
            ("https://2130706433/", false, true),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(may_follow(&url, false), strict, "{url}");
            assert_eq!(may_follow(&url, true), open, "{url}");
        }
    }
}
