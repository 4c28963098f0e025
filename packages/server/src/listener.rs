//! Listening: plain or with TLS of our own.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::serve::Listener;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;

use crate::{
    config,
    federation::tls::{certificates, provider},
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many handshakes may be under way; who comes then waits until one is done.
const HANDSHAKES: usize = 512;
/// How many connections may wait to be taken.
const WAITING: usize = 64;

/// Why nobody can listen. Each sentence is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or no address.
    #[error("can't listen on {address} (listener.{name}): {source}")]
    Address {
        /// Which listener.
        name: &'static str,
        /// Host and port.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the certificate can't be used.
    #[error("the file {path} (listener.{name}.{key}) can't be used: {why}", path = path.display())]
    File {
        /// Which listener.
        name: &'static str,
        /// Which key of it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// An open door for connections.
#[derive(Debug)]
pub(crate) struct Door {
    address: SocketAddr,
    tls: bool,
    connections: Connections,
}

#[derive(Debug)]
enum Connections {
    Plain(TcpListener),
    /// Those whose handshake is done, and the task that shakes hands, which ends with the door.
    Tls {
        ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
        _shaking: JoinSet<()>,
    },
}

impl Door {
    /// Takes the address, and reads the certificate where there is one.
    ///
    /// # Errors
    /// When the address or a file can't be used.
    pub(crate) async fn open(
        name: &'static str,
        config: &config::Listener,
    ) -> Result<Self, ListenError> {
        let tls = if config.tls { Some(acceptor(name, config)?) } else { None };
        let failed = |source| ListenError::Address {
            name,
            address: format!("{}:{}", config.bind, config.port),
            source,
        };
        let host = config.bind.trim_matches(['[', ']']);
        let listener = TcpListener::bind((host, config.port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let connections = match tls {
            None => Connections::Plain(listener),
            Some(acceptor) => {
                let (done, ready) = mpsc::channel(WAITING);
                let mut tasks = JoinSet::new();
                tasks.spawn(shake_hands(listener, acceptor, done));
                Connections::Tls { ready, _shaking: tasks }
            }
        };
        Ok(Self { address, tls: config.tls, connections })
    }

    /// The address; the port that was taken, where the configuration says 0.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl Listener for Door {
    type Io = Either<TcpStream, TlsStream<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match &mut self.connections {
            Connections::Plain(listener) => {
                let (stream, address) = Listener::accept(listener).await;
                at_once(&stream);
                (Either::Left(stream), address)
            }
            Connections::Tls { ready, .. } => match ready.recv().await {
                Some((stream, address)) => (Either::Right(stream), address),
                // The task ends only with the door.
                None => std::future::pending().await,
            },
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Takes connections and shakes hands with all at the same time: one that says nothing keeps nobody waiting.
async fn shake_hands(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    let mut handshakes = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, address) = Listener::accept(&mut listener).await;
        at_once(&stream);
        let (acceptor, done) = (acceptor.clone(), done.clone());
        handshakes.spawn(async move {
            let shaken = timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(place);
            match shaken {
                // Fails when the door is closed.
                Ok(Ok(stream)) => drop(done.send((stream, address)).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "tls.handshake"),
                Err(_) => tracing::debug!(%address, "tls.handshake took too long"),
            }
        });
        while handshakes.try_join_next().is_some() {}
    }
}

/// A reply is written at once; waiting for more to send costs a client 40 ms.
fn at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection.nodelay");
    }
}

fn acceptor(name: &'static str, config: &config::Listener) -> Result<TlsAcceptor, ListenError> {
    // Both are there: the configuration was checked.
    let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
    let (cert, key) = (path(&config.tls_cert), path(&config.tls_key));
    let failed = |key, path: &Path, why: String| {
        let path = path.to_owned();
        ListenError::File { name, key, path, why }
    };
    let chain = certificates(&cert).map_err(|why| failed("tls_cert", &cert, why))?;
    let private = PrivateKeyDer::from_pem_file(&key)
        .map_err(|error| failed("tls_key", &key, error.to_string()))?;
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| failed("tls_cert", &cert, error.to_string()))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}
