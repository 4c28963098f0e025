//! A small internet on loopback addresses: a name server, and servers that tell how they were asked for.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use axum::{Router, response::IntoResponse, serve::Listener};
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfigGroup, ResolverConfig},
    name_server::TokioConnectionProvider,
    proto::{
        op::{Message, MessageType, ResponseCode},
        rr::{Name, RData, Record, rdata},
        serialize::binary::{BinDecodable, BinEncodable},
    },
};
use http::{HeaderMap, StatusCode, Uri, header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::federation::{discovery::Dns, network::tls};

/// What a name server says, by the names that it is asked for, which end in a dot.
pub(super) type Zone = BTreeMap<&'static str, Vec<RData>>;

/// How a server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) sni: Option<String>,
    pub(super) host: String,
    pub(super) path: String,
}

/// What a server answers: a status, a header and a body.
pub(super) type Told = (StatusCode, Vec<(header::HeaderName, String)>, String);

/// A server that answers everything alike, with a certificate for whatever it is called, or for one name alone.
pub(super) struct House {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    told: Arc<Mutex<Told>>,
}

/// An address that is this process's and nobody else's in it.
pub(super) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 1 + middle % 250, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A record with an address.
pub(super) fn at(ip: impl Into<IpAddr>) -> RData {
    match ip.into() {
        IpAddr::V4(ip) => RData::A(ip.into()),
        IpAddr::V6(ip) => RData::AAAA(ip.into()),
    }
}

/// A record of a service.
pub(super) fn service(priority: u16, port: u16, host: &str) -> RData {
    let host = Name::from_ascii(host).unwrap();
    RData::SRV(rdata::SRV::new(priority, 0, port, host))
}

/// Starts a name server that knows a zone, and gives what asks it.
pub(super) async fn name_server(zone: Zone) -> Dns {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            let answer = resolved(&zone, &Message::from_bytes(&packet[..length]).unwrap());
            socket.send_to(&answer.to_bytes().unwrap(), from).await.unwrap();
        }
    });
    let group = NameServerConfigGroup::from_ips_clear(&[address.ip()], address.port(), true);
    let config = ResolverConfig::from_parts(None, Vec::new(), group);
    let connections = TokioConnectionProvider::default();
    Dns::with(TokioResolver::builder_with_config(config, connections).build())
}

/// An answer: what the zone has of the wanted kind, behind aliases too.
fn resolved(zone: &Zone, asked: &Message) -> Message {
    let mut answer = Message::new();
    answer.set_id(asked.id()).set_message_type(MessageType::Response);
    answer.set_recursion_desired(true).set_recursion_available(true);
    let query = asked.query().unwrap().clone();
    let mut name = query.name().clone();
    answer.add_query(query.clone());
    loop {
        let Some(data) = zone.get(&*name.to_ascii()) else {
            answer.set_response_code(ResponseCode::NXDomain);
            return answer;
        };
        let record = |data: &RData| Record::from_rdata(name.clone(), 60, data.clone());
        let alias = data.iter().find_map(|data| data.as_cname().map(|alias| (data, alias)));
        let Some((data, alias)) = alias else {
            let wanted = data.iter().filter(|data| data.record_type() == query.query_type());
            answer.add_answers(wanted.map(record));
            return answer;
        };
        answer.add_answer(record(data));
        name = alias.0.clone();
    }
}

impl House {
    /// Opens a server.
    pub(super) async fn open(address: impl Into<SocketAddr>) -> Self {
        Self::named(address, None).await
    }

    /// Opens a server that only has a certificate for one name.
    pub(super) async fn named(address: impl Into<SocketAddr>, name: Option<&str>) -> Self {
        let listener = TcpListener::bind(address.into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let name = name
            .map_or_else(|| Called::Anything(address.ip()), |name| Called::One(name.to_owned()));
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(name));
        let told = (StatusCode::OK, Vec::new(), "{}".to_owned());
        let (asked, told) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(Mutex::new(told)));
        let house = Self { address, asked: Arc::clone(&asked), told: Arc::clone(&told) };
        let sni = Arc::<Mutex<Option<String>>>::default();
        let door = Door { listener, acceptor: Arc::new(config).into(), sni: Arc::clone(&sni) };
        let routes = Router::new().fallback(async move |uri: Uri, headers: HeaderMap| {
            let host = headers[header::HOST].to_str().unwrap().to_owned();
            let sni = sni.lock().unwrap().clone();
            asked.lock().unwrap().push(Asked { sni, host, path: uri.path().to_owned() });
            let (status, headers, body) = told.lock().unwrap().clone();
            let headers = headers.into_iter().map(|(name, value)| (name, value.parse().unwrap()));
            (status, headers.collect::<HeaderMap>(), body).into_response()
        });
        tokio::spawn(async move { axum::serve(door, routes).await });
        house
    }

    /// Sets what it answers from now on.
    pub(super) fn tell(&self, status: u16, headers: &[(header::HeaderName, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| (name.clone(), (*value).to_owned()));
        let status = StatusCode::from_u16(status).unwrap();
        *self.told.lock().unwrap() = (status, headers.collect(), body.to_owned());
    }

    /// How it has been asked since this was called last.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// The door of a server: TLS, of which it remembers who was called.
struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    sni: Arc<Mutex<Option<String>>>,
}

impl Listener for Door {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Who does not trust the certificate is gone.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                let sni = stream.get_ref().1.server_name().map(str::to_owned);
                *self.sni.lock().unwrap() = sni;
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Whom a server's certificate is for.
#[derive(Debug)]
enum Called {
    /// Whoever is called; its address, if nobody is.
    Anything(IpAddr),
    One(String),
}

impl ResolvesServerCert for Called {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = match (self, hello.server_name()) {
            (Self::One(name), _) => name.clone(),
            (Self::Anything(_), Some(name)) => name.to_owned(),
            (Self::Anything(ip), None) => ip.to_string(),
        };
        let params = CertificateParams::new(vec![name]).ok()?;
        let key = KeyPair::generate().ok()?;
        let chain = vec![params.signed_by(&key, authority()).ok()?.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = tls::provider().key_provider.load_private_key(key).ok()?;
        Some(Arc::new(CertifiedKey::new(chain, key)))
    }
}

/// The authority of this town.
pub(super) fn authority() -> &'static CertifiedIssuer<'static, KeyPair> {
    static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    });
    &AUTHORITY
}

/// Whether this machine has IPv6 at all.
pub(super) fn loopback_v6() -> Option<SocketAddr> {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    std::net::TcpListener::bind(address).is_ok().then_some(address)
}
