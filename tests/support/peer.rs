//! A server that does what a test tells it to: signs what a server signs, and what no server should.
//!
//! ```ignore
//! let peer = Peer::start().await;                          // https://127.…:port, which is also its name
//! peer.on("/_matrix/federation/v1/make_join", |asked| Told::json(403, json!({ "errcode": "M_FORBIDDEN" })));
//! let answer = peer.get(&server, "/_matrix/federation/v1/event/$x").await;       // signed by its key
//! let answer = peer.put(&server, "/_matrix/federation/v1/send/1", &json!({ "pdus": [] })).await;
//! let (id, pdu) = peer.event(&RoomVersionId::V11, json!({ "type": "m.room.message", "room_id": …, … }));
//! let asked = peer.hears("/_matrix/federation/v1/send/").await;                  // what it is asked, now or later
//! ```
//!
//! It publishes its key; everything else is 404 `M_UNRECOGNIZED` until `on` says otherwise. Of several scripts for a path
//! the last one that was given counts. A server finds it without configuration, if it may connect to private addresses
//! and trusts the tests' authority: servers of `TestServer::together` do, and `peer.befriend(&mut config)` makes others.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
    serve::Listener,
};
use futures::{StreamExt, stream};
use http::{Method, StatusCode, Uri, header};
use matryx_core::event::SigningKey;
use matryx_server::{clock::Clock, config::Config, federation::OwnKeys, random::Random};
use reqwest::Client;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName,
    api::federation::authentication::{XMatrix, XMatrixSigningInput},
    signatures::{hash_and_sign_event, reference_hash, sign_event},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{answer::Answer, ca, place::free_address, server::TestServer, sync::PATIENCE};

/// Where a server publishes its keys.
pub const KEYS: &str = "/_matrix/key/v2/server";

/// What the peer was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The path and the query, as they came.
    pub path: String,
    /// The body; null where it is no JSON.
    pub body: Value,
}

/// What the peer answers.
#[derive(Clone, Debug)]
pub enum Told {
    /// A status and a body.
    Json(u16, Value),
    /// A status and what may be no JSON.
    Raw(u16, Bytes),
    /// A body that begins like this and never ends: a space comes every few milliseconds, and each is told of.
    Trickle(&'static str, Arc<Notify>),
    /// A body that is given when the test says so.
    Held(Arc<Notify>, Value),
    /// Nothing, ever.
    Hang,
}

impl Told {
    pub fn json(status: u16, body: Value) -> Self {
        Self::Json(status, body)
    }

    pub fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    pub fn error(status: u16, errcode: &str) -> Self {
        Self::json(status, json!({ "errcode": errcode, "error": "The test says so." }))
    }
}

type Script = Box<dyn Fn(&Asked) -> Told + Send + Sync>;

/// A server of the test's own.
pub struct Peer {
    name: OwnedServerName,
    keys: Arc<OwnKeys>,
    client: Client,
    inner: Arc<Inner>,
    serving: JoinHandle<()>,
}

struct Inner {
    scripts: Mutex<Vec<(String, Script)>>,
    asked: watch::Sender<Vec<Asked>>,
}

impl Peer {
    /// Starts one with a key of its own.
    pub async fn start() -> Self {
        Self::start_with(new_key()).await
    }

    /// Starts one with these keys.
    pub async fn start_with(keys: impl Into<OwnKeys>) -> Self {
        Self::start_at(free_address(), keys).await
    }

    /// Starts one at an address, which is its name.
    pub async fn start_at(address: SocketAddr, keys: impl Into<OwnKeys>) -> Self {
        let name: OwnedServerName = address.to_string().try_into().expect("a server name");
        let keys = Arc::new(keys.into());
        let inner = Arc::new(Inner { scripts: Mutex::default(), asked: watch::Sender::default() });
        let door = Tls::open(address).await;
        let routes = Router::new().fallback({
            let (name, keys, inner) = (name.clone(), Arc::clone(&keys), Arc::clone(&inner));
            async move |uri: Uri, bytes: Bytes| {
                let body = serde_json::from_slice(&bytes).unwrap_or_default();
                let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
                inner.answer(&name, &keys, Asked { path, body }).await
            }
        });
        let serving = tokio::spawn(async move {
            axum::serve(door, routes).await.expect("a listener that lasts");
        });
        // The server is connected to by its address, and its certificate is for its name.
        let client = Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build();
        Self { name, keys, client: client.expect("a client"), inner, serving }
    }

    /// Its name, which is its address.
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// The key that it signs with.
    pub fn key(&self) -> &SigningKey {
        self.keys.signing()
    }

    /// Its keys, for scripts that sign.
    pub fn keys(&self) -> Arc<OwnKeys> {
        Arc::clone(&self.keys)
    }

    /// A user of its own.
    pub fn user(&self, localpart: &str) -> OwnedUserId {
        format!("@{localpart}:{}", self.name).try_into().expect("a user id")
    }

    /// Lets a server find it.
    pub fn befriend(config: &mut Config) {
        config.federation.trusted_ca_file = Some(ca().file());
        config.testing.allow_private_ip_destinations = true;
        config.testing.short_federation_backoff = true;
    }

    /// What it answers where the path, as it comes over the wire, begins like this.
    pub fn on(&self, path: &str, script: impl Fn(&Asked) -> Told + Send + Sync + 'static) {
        let mut scripts = self.inner.scripts.lock().expect("no panic in a script");
        scripts.push((path.to_owned(), Box::new(script)));
    }

    /// Everything that it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.inner.asked.borrow().clone()
    }

    /// How often it was asked for what begins like this.
    pub fn count(&self, path: &str) -> usize {
        self.inner.asked.borrow().iter().filter(|asked| asked.path.starts_with(path)).count()
    }

    /// The first request whose path begins like this, now or when it comes.
    pub async fn hears(&self, path: &str) -> Asked {
        self.hears_one(|asked| asked.path.starts_with(path)).await
    }

    /// The first request that is wanted, now or when it comes.
    pub async fn hears_one(&self, wanted: impl Fn(&Asked) -> bool) -> Asked {
        let mut news = self.inner.asked.subscribe();
        let found = news.wait_for(|asked| asked.iter().any(&wanted));
        let asked = timeout(PATIENCE, found).await.expect("a request").expect("a peer").clone();
        asked.into_iter().find(wanted).expect("it was there")
    }

    /// Asks a server for something, signed.
    pub async fn get(&self, server: &TestServer, path: &str) -> Answer {
        self.ask(server, Method::GET, path, None).await
    }

    /// Puts something to a server, signed.
    pub async fn put(&self, server: &TestServer, path: &str, body: &Value) -> Answer {
        self.ask(server, Method::PUT, path, Some(body)).await
    }

    /// Posts something to a server, signed.
    pub async fn post(&self, server: &TestServer, path: &str, body: &Value) -> Answer {
        self.ask(server, Method::POST, path, Some(body)).await
    }

    /// Asks a server, signed.
    pub async fn ask(
        &self,
        server: &TestServer,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        let to = &server.app().server_name;
        let signed = self.sign(to, &method, path, &body);
        self.send(server, method, path, &[signed.to_string()], body.into()).await
    }

    /// The header that signs a request.
    pub fn sign(&self, to: &ServerName, method: &Method, path: &str, body: &str) -> XMatrix {
        let request = http::Request::builder().method(method).uri(path).body(body.as_bytes());
        let input = XMatrixSigningInput::new(self.name.clone(), to.to_owned(), self.key().pair());
        XMatrix::sign_http_request(&request.expect("a path"), input).expect("a signature")
    }

    /// Sends anything, with any `Authorization` headers.
    pub async fn send(
        &self,
        server: &TestServer,
        method: Method,
        path: &str,
        authorization: &[String],
        body: Bytes,
    ) -> Answer {
        let url = format!("{}{path}", server.federation_base());
        let mut request = self.client.request(method.clone(), &url).body(body);
        for value in authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let response = request.header(header::CONTENT_TYPE, "application/json").send().await;
        let asked = format!("{method} {path}");
        Answer::of(asked.clone(), response.unwrap_or_else(|error| panic!("{asked}: {error:?}")))
            .await
    }

    /// An event with its id, hashed and signed, `origin_server_ts` filled in where it is missing.
    pub fn event(&self, version: &RoomVersionId, event: Value) -> (OwnedEventId, Value) {
        let rules = version.rules().expect("a known version");
        let mut object = canonical(event);
        if !object.contains_key("origin_server_ts") {
            let now = Clock::machine().now();
            object.insert("origin_server_ts".to_owned(), ruma::Int::from(now.0).into());
        }
        let name = self.name.as_str();
        hash_and_sign_event(name, self.key(), &mut object, &rules.redaction).expect("an event");
        let id = format!("${}", reference_hash(&object, &rules).expect("an event"));
        let event = serde_json::to_value(&object).expect("JSON");
        (id.try_into().expect("an event id"), event)
    }

    /// Adds its signature to an event, whoever has made it, and changes nothing else.
    pub fn sign_event(&self, version: &RoomVersionId, event: Value) -> Value {
        self.sign_event_with(self.key(), version, event)
    }

    /// The same with another key, whose signature is then the only one.
    pub fn resign_event(&self, key: &SigningKey, version: &RoomVersionId, event: Value) -> Value {
        let mut event = event;
        event.as_object_mut().expect("an object").remove("signatures");
        self.sign_event_with(key, version, event)
    }

    fn sign_event_with(&self, key: &SigningKey, version: &RoomVersionId, event: Value) -> Value {
        let rules = version.rules().expect("a known version");
        let mut object = canonical(event);
        sign_event(self.name.as_str(), key, &mut object, &rules.redaction).expect("an event");
        serde_json::to_value(&object).expect("JSON")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Inner {
    async fn answer(&self, name: &ServerName, keys: &OwnKeys, asked: Asked) -> Response {
        let told = {
            let scripts = self.scripts.lock().expect("no panic in a script");
            let script = scripts.iter().rev().find(|(path, _)| asked.path.starts_with(path));
            script.map(|(_, script)| script(&asked))
        };
        let told = told.unwrap_or_else(|| {
            if asked.path.starts_with(KEYS) {
                let document = keys.document(name, Clock::machine().now()).expect("a document");
                Told::ok(serde_json::to_value(&document).expect("JSON"))
            } else {
                Told::error(404, "M_UNRECOGNIZED")
            }
        });
        self.asked.send_modify(|all| all.push(asked));
        let (status, body) = match told {
            Told::Json(status, body) => (status, Body::from(body.to_string())),
            Told::Raw(status, body) => (status, body.into()),
            Told::Trickle(begin, going) => (200, trickle(begin, going)),
            Told::Held(until, body) => {
                until.notified().await;
                (200, body.to_string().into())
            }
            Told::Hang => std::future::pending().await,
        };
        let status = StatusCode::from_u16(status).expect("a status");
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// A body that begins like this and goes on with spaces for as long as somebody reads it, telling of each.
fn trickle(begin: &'static str, going: Arc<Notify>) -> Body {
    let spaces = stream::repeat(" ").then(move |space| {
        let going = Arc::clone(&going);
        async move {
            // A pace, and no wait: at once, they would come to more than an answer may have.
            tokio::time::sleep(Duration::from_millis(5)).await;
            going.notify_one();
            space
        }
    });
    let all = stream::iter([begin]).chain(spaces);
    Body::from_stream(all.map(Ok::<_, Infallible>))
}

/// A new key.
pub fn new_key() -> SigningKey {
    let random = Random::machine();
    let version = random.text(6, b"abcdefghijklmnopqrstuvwxyz");
    SigningKey::from_seed(&version, random.bytes()).expect("a key")
}

fn canonical(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).expect("an object of canonical JSON")
}

/// A listener with TLS, for the address that the certificate is for.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tls {
    async fn open(address: SocketAddr) -> Self {
        let certificate = ca().certificate(&[&address.ip().to_string()]);
        let chain = CertificateDer::from_pem_slice(certificate.chain.as_bytes());
        let chain = vec![chain.expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a certificate that fits")));
        // Who was here before may still be about to go.
        let listener = timeout(PATIENCE, async {
            loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        let listener = listener.await.expect("an address of its own");
        Self { listener, acceptor }
    }
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Who does not trust the certificate is gone.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
