//! The real way to other servers: discovery, TLS, HTTP.

mod outside;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::{
    collections::BTreeMap, error::Error, fmt, net::SocketAddr, path::PathBuf, sync::Arc,
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use moka::sync::Cache;
use outside::TheInternet;
use reqwest::{Client, Url, redirect::Policy};
use ruma::{OwnedServerName, ServerName};
use tokio::time::timeout;

use super::{
    Transport, TransportError,
    discovery::{Discovery, Dns, Target, WellKnown},
};
use crate::{clock::Clock, config::Config, random::Random};

/// How long finding a server may take.
const FINDING: Duration = Duration::from_secs(30);
/// How long connecting may take, with TLS, to all addresses together.
const CONNECTING: Duration = Duration::from_secs(15);
/// How long the head of an answer may take, from the request on.
const HEAD: Duration = Duration::from_mins(3);
/// How long an answer may be silent in its midst.
const SILENCE: Duration = Duration::from_mins(1);
/// How long it is remembered where a server was found.
const FOUND: Duration = Duration::from_mins(10);
/// To how many servers connections are kept.
const POOLS: u64 = 2_000;
/// How long a connection waits for its next request.
const IDLE: Duration = Duration::from_secs(90);

/// Who we are, for whoever reads the logs of another server.
const USER_AGENT: &str = concat!("Matryx/", env!("CARGO_PKG_VERSION"));

/// Why the way to other servers can't be prepared. Each sentence is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The file of authorities can't be used.
    #[error("the file {path} (federation.trusted_ca_file) can't be used: {why}", path = path.display())]
    TrustedCa {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An address in `federation.resolve` is none.
    #[error(
        "federation.resolve says that {server} is at \"{address}\", which is no address and port"
    )]
    Resolve {
        /// The server.
        server: String,
        /// Its address.
        address: String,
    },
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// The real way to other servers.
#[derive(Clone)]
pub struct Network {
    discovery: Discovery,
    resolve: Arc<BTreeMap<String, Vec<SocketAddr>>>,
    tls: rustls::ClientConfig,
    /// A pool of connections for each server.
    pools: Cache<OwnedServerName, Pool>,
}

/// The connections to one server, found at its target.
#[derive(Clone, Debug)]
struct Pool {
    client: Client,
    /// Where requests go; only the path and the query change.
    base: Url,
    host: HeaderValue,
}

impl Network {
    /// Prepares the way that the configuration describes.
    ///
    /// # Errors
    /// When a file or an address in it can't be used.
    pub fn new(config: &Config, clock: Clock, random: Random) -> Result<Self, NetworkError> {
        Self::by(config, clock, random, Dns::of_the_machine(), 0)
    }

    /// The same, by what looks names up. Well-known files are at port `https`, or at the usual one if that is 0.
    fn by(
        config: &Config,
        clock: Clock,
        random: Random,
        dns: Dns,
        https: u16,
    ) -> Result<Self, NetworkError> {
        let federation = &config.federation;
        let insecure = config.testing.insecure_outgoing_tls;
        let mut tls = tls::config(federation.trusted_ca_file.as_deref(), insecure)?;
        // The Host header is ours to choose, which HTTP/2 would take from the URL.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let allow_private = config.testing.allow_private_ip_destinations;
        let client = outside::well_known_client(tls.clone(), dns.clone(), allow_private, https)
            .map_err(|error| NetworkError::Tls(error.to_string()))?;
        let outside = TheInternet { dns, well_known: WellKnown::new(client, clock) };
        Ok(Self {
            discovery: Discovery::new(Arc::new(outside), allow_private, random),
            resolve: Arc::new(overrides(&federation.resolve)?),
            tls,
            pools: Cache::builder().max_capacity(POOLS).time_to_live(FOUND).build(),
        })
    }

    /// The connections to a server, which is found first where that is not remembered.
    async fn pool(&self, server: &ServerName) -> Result<Pool, TransportError> {
        if let Some(pool) = self.pools.get(server) {
            return Ok(pool);
        }
        let target = if let Some(addresses) = self.resolve.get(server.as_str()) {
            Target {
                certificate: server.host().to_owned(),
                host: server.as_str().to_owned(),
                addresses: addresses.clone(),
            }
        } else {
            let found = timeout(FINDING, self.discovery.find(server)).await;
            let found = found.map_err(|_| TransportError::TimedOut("finding its address"))?;
            found.map_err(TransportError::Unreachable)?
        };
        let pool = self.connections(&target).map_err(TransportError::Unreachable)?;
        self.pools.insert(server.to_owned(), pool.clone());
        Ok(pool)
    }

    /// Connections to a target, none of which is open yet.
    fn connections(&self, target: &Target) -> Result<Pool, String> {
        let no_host = || format!("{} is no name of a host", target.certificate);
        let first = target.addresses.first().ok_or_else(no_host)?;
        // An address goes with its port into the URL. A name goes without: the ports are those of its addresses.
        let literal = target.certificate.starts_with('[')
            || target.certificate.parse::<std::net::Ipv4Addr>().is_ok();
        let base = if literal {
            format!("https://{first}/")
        } else {
            format!("https://{}/", target.certificate)
        };
        let base = Url::parse(&base).map_err(|_| no_host())?;
        // Some names are addresses for a URL, which would then be connected to unseen.
        if !literal && base.domain().is_none() {
            return Err(no_host());
        }
        let host = HeaderValue::from_str(&target.host).map_err(|_| no_host())?;
        let client = builder(self.tls.clone())
            .redirect(Policy::none())
            .resolve_to_addrs(&target.certificate, &target.addresses)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Pool { client, base, host })
    }
}

impl Transport for Network {
    fn send<'a>(
        &'a self,
        to: &'a ServerName,
        request: Request<Bytes>,
    ) -> BoxFuture<'a, Result<Response<Body>, TransportError>> {
        Box::pin(async move {
            let pool = self.pool(to).await?;
            let (parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            // Joined as text: what was signed must go out letter by letter.
            let url = format!("{}{path}", pool.base.as_str().trim_end_matches('/'));
            let send = || {
                let request = pool.client.request(parts.method.clone(), &url);
                let request = request.headers(parts.headers.clone()).body(body.clone());
                timeout(HEAD, request.header(header::HOST, pool.host.clone()).send())
            };
            let mut answer = send().await;
            if matches!(&answer, Ok(Err(error)) if has_broken(error)) {
                // A connection that has waited for long may be dead without our knowing. Every request between servers
                // may be repeated.
                answer = send().await;
            }
            match answer {
                Ok(Ok(response)) => Ok(Response::from(response).map(Body::new)),
                Ok(Err(error)) => {
                    if error.is_connect() {
                        // It may have moved.
                        self.pools.invalidate(to);
                    }
                    Err(failure(&error))
                }
                Err(_) => Err(TransportError::TimedOut("the head of the answer")),
            }
        })
    }
}

/// Whether a connection that was there has ended without an answer.
fn has_broken(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// What all clients have in common.
fn builder(tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECTING)
        .read_timeout(SILENCE)
        .pool_idle_timeout(IDLE)
}

/// The addresses of `federation.resolve`.
fn overrides(
    resolve: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Vec<SocketAddr>>, NetworkError> {
    let parse = |(server, address): (&String, &String)| {
        let parsed = address.parse().map_err(|_| NetworkError::Resolve {
            server: server.clone(),
            address: address.clone(),
        })?;
        Ok((server.clone(), vec![parsed]))
    };
    resolve.iter().map(parse).collect()
}

/// What went wrong, with the reason that is at its root.
fn failure(error: &reqwest::Error) -> TransportError {
    let mut root: &dyn Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    if error.is_connect() {
        if error.is_timeout() {
            return TransportError::TimedOut("connecting");
        }
        return TransportError::Unreachable(format!("connecting failed: {root}"));
    }
    if error.is_timeout() {
        return TransportError::TimedOut("the answer");
    }
    TransportError::Unreachable(format!("the connection broke: {root}"))
}
