//! From a configuration to a server that answers, and back to silence.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use matryx_repository::{Database, DatabaseSettings, OpenError, StoreError};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

pub use crate::listener::ListenError;
use crate::{
    api,
    app::App,
    clock::Clock,
    config::{self, Config, Secret},
    federation::{Network, NetworkError, OwnKeys, keys::OwnKeysError},
    files,
    http::{layers, serve},
    listener::Door,
    random::Random,
};

/// How long open connections may take to end once the server stops: together with the rest less than five seconds.
const CONNECTIONS: Duration = Duration::from_secs(2);
/// How long what is being written may take after that.
const WRITES: Duration = Duration::from_secs(1);

/// Why the server does not start. Each sentence is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody can listen where the configuration says.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The way to other servers can't be prepared.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The database does not open.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The database opens, but fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the data directory can't be read or made.
    #[error("the file {path} can't be used: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the server's keys is damaged.
    #[error("the file {path} can't be used: {source}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: OwnKeysError,
    },
    /// There is a database, but the key is gone that belongs to it.
    #[error(
        "the signing key {path} is missing, but the database of its server is there: put the key back from a backup. Where it is lost for good, `matryx generate-key --output {path}` makes another",
        path = .0.display()
    )]
    KeyMissing(PathBuf),
}

/// The way to a [`RunningServer`].
#[derive(Debug)]
pub struct Server;

/// A server that answers. Dropping it leaves it running; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub struct RunningServer {
    app: App,
    clients: Listening,
    federation: Option<Listening>,
    new_token: bool,
}

/// A listener that is served.
#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    scheme: &'static str,
    serving: JoinHandle<()>,
}

impl Server {
    /// Starts a server: takes the port, opens the database, answers.
    ///
    /// # Errors
    /// When an address, the data directory or a file in it can't be used.
    pub async fn start(mut config: Config, clock: Clock) -> Result<RunningServer, StartError> {
        let clients = Door::open("client", &config.listener.client).await?;
        config.listener.client.port = clients.address().port();
        let federation = federation_door(&config.listener.federation).await?;
        if let Some(door) = &federation {
            config.listener.federation.port = door.address().port();
        }

        let (database, keys) = open(&config).await?;
        let (app, new_token) = match assemble(config, clock, keys, database.clone()).await {
            Ok(parts) => parts,
            Err(error) => {
                // In order, so that the log has nothing but the reason.
                if let Err(error) = database.close().await {
                    tracing::debug!(%error, "database.close");
                }
                return Err(error);
            }
        };

        // Clients and servers may come in by the same door: a proxy in front needs to know only one.
        let routes = api::client::routes().merge(api::admin::routes());
        let places = Arc::new(Semaphore::new(serve::places()));
        let clients = serve(&app, clients, routes.merge(api::federation::routes()), &places);
        let federation =
            federation.map(|door| serve(&app, door, api::federation::routes(), &places));
        Ok(RunningServer { app, clients, federation, new_token })
    }
}

/// Opens the federation's door. Where the configuration says nothing of it and its address is taken, the server does
/// without: others can still come in by the clients' door.
async fn federation_door(config: &config::Listener) -> Result<Option<Door>, ListenError> {
    match Door::open("federation", config).await {
        Ok(door) => Ok(Some(door)),
        Err(ListenError::Address { address, source, .. }) if config.is_federation_default() => {
            tracing::warn!(
                "nothing listens for other servers, because {address} can't be had: {source}; another server may have it. Set listener.federation.port, and 0 for any that is free"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Answers whoever comes in by a door.
fn serve(app: &App, door: Door, routes: Router<App>, places: &Arc<Semaphore>) -> Listening {
    let (address, scheme) = (door.address(), door.scheme());
    let routes = layers::surround(routes).with_state(app.clone());
    let (stop, places) = (app.shutdown.clone(), Arc::clone(places));
    let serving = tokio::spawn(serve::serve(door, routes, stop, serve::HEAD, places));
    Listening { address, scheme, serving }
}

impl RunningServer {
    /// The server's parts.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Where it listens for clients; the port that was taken, where the configuration says 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.clients.address
    }

    /// The address for clients as a URL, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> String {
        format!("{}://{}", self.clients.scheme, self.clients.address)
    }

    /// The same for other servers; none, where nothing listens for them alone.
    #[must_use]
    pub fn federation_base(&self) -> Option<String> {
        self.federation.as_ref().map(|at| format!("{}://{}", at.scheme, at.address))
    }

    /// Whether this start has made the registration token.
    #[must_use]
    pub fn made_registration_token(&self) -> bool {
        self.new_token
    }

    /// Stops: takes no more connections, lets those that wait answer, finishes what is being written, closes the
    /// database. Takes less than five seconds.
    pub async fn stop(self) {
        let Self { app, clients, federation, .. } = self;
        app.shutdown.cancel();
        let serving = std::iter::once(clients).chain(federation).map(|at| at.serving);
        if timeout(CONNECTIONS, futures::future::join_all(serving)).await.is_err() {
            tracing::warn!("connections are still open: they are cut");
        }
        app.tasks.close();
        if timeout(WRITES, app.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = app.tasks.len(), "requests are still running: they are cut");
        }
        match timeout(WRITES, app.database.clone().close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "database.close"),
            Err(_) => tracing::warn!("the database takes too long to close; nothing is lost"),
        }
    }
}

/// Puts the server together; also says whether the registration token is new.
async fn assemble(
    mut config: Config,
    clock: Clock,
    own_keys: OwnKeys,
    database: Database,
) -> Result<(App, bool), StartError> {
    let new_token = registration_token(&mut config)?;
    let random = Random::machine();
    let network = Arc::new(Network::new(&config, clock.clone(), random.clone())?);
    Ok((App::open(config, clock, own_keys, database, network, random).await?, new_token))
}

/// Opens the database that the configuration names, with the keys that belong to it.
///
/// # Errors
/// When it is in use, another server's, of a newer schema, or damaged; or its signing key can't be used or is gone.
pub async fn open(config: &Config) -> Result<(Database, OwnKeys), StartError> {
    let settings = DatabaseSettings {
        url: config.database_url(),
        memtable: config.database.memtable.bytes(),
        block_cache: config.database.block_cache.bytes(),
    };
    // The key comes first: a start that is cut short leaves no database without one.
    let keys = own_keys(config, Database::is_there(&settings.url)?)?;
    Ok((Database::open(&settings, &config.server_name).await?, keys))
}

/// The server's own keys; the one that signs is made at the first start. Later it is never made anew: other servers would
/// no longer believe what this one says, and nobody would know why.
fn own_keys(config: &Config, later: bool) -> Result<OwnKeys, StartError> {
    let path = config.data_dir.join(files::SIGNING_KEY);
    let signing = match files::read(&path) {
        Ok(Some(keys)) => keys,
        Ok(None) if later => return Err(StartError::KeyMissing(path)),
        Ok(None) => {
            let line = files::signing_key(&Random::machine());
            if let Err(source) = files::make(&path, &line) {
                return Err(StartError::File { path, source });
            }
            tracing::info!("made a new signing key: {}", path.display());
            line
        }
        Err(source) => return Err(StartError::File { path, source }),
    };
    let beside = config.data_dir.join(files::OLD_KEYS);
    let old = match files::read(&beside) {
        Ok(old) => old.unwrap_or_default(),
        Err(source) => return Err(StartError::File { path: beside, source }),
    };
    OwnKeys::parse(&signing, &old).map_err(|source| match source {
        OwnKeysError::Key(_) => StartError::Key { path, source },
        OwnKeysError::Old(_) => StartError::Key { path: beside, source },
    })
}

/// Fills in the registration token that the configuration leaves open; whether it is new.
fn registration_token(config: &mut Config) -> Result<bool, StartError> {
    match &config.registration.token {
        Some(token) if token.reveal().is_empty() => {
            config.registration.token = None;
            Ok(false)
        }
        Some(_) => Ok(false),
        None => {
            let path = config.data_dir.join("registration_token");
            let found = match files::read(&path) {
                Ok(None) => {
                    let token = Random::machine().secret();
                    files::make(&path, &token).map(|()| (token, true))
                }
                Ok(Some(token)) => Ok((token, false)),
                Err(source) => Err(source),
            };
            let (token, new) = found.map_err(|source| StartError::File { path, source })?;
            config.registration.token = Some(Secret::new(token));
            Ok(new)
        }
    }
}
