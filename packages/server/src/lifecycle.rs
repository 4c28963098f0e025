//! From a configuration to a server that answers, and back to silence.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use axum::serve::{Listener, ListenerExt};
use matryx_core::event::{KeyFileError, SigningKey};
use matryx_repository::{Database, DatabaseSettings, OpenError, StoreError};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use crate::{
    api,
    app::App,
    clock::Clock,
    config::{Config, Secret},
    files,
    http::layers,
    random::Random,
};

/// How long open connections may take to end once the server stops: together with the rest less than five seconds.
const CONNECTIONS: Duration = Duration::from_secs(2);
/// How long what is being written may take after that.
const WRITES: Duration = Duration::from_secs(1);

/// Why the server does not start. Each sentence is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, not ours, or no address.
    #[error("can't listen on {address} (listener.{name}): {source}")]
    Listen {
        /// Which listener.
        name: &'static str,
        /// Host and port.
        address: String,
        /// What the system says.
        source: io::Error,
    },
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
    /// The signing key's file is damaged.
    #[error("the file {path} can't be used: {source}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: KeyFileError,
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
    address: SocketAddr,
    serving: JoinHandle<()>,
    new_token: bool,
}

impl Server {
    /// Starts a server: takes the port, opens the database, answers.
    ///
    /// # Errors
    /// When an address, the data directory or a file in it can't be used.
    pub async fn start(mut config: Config, clock: Clock) -> Result<RunningServer, StartError> {
        let (host, port) = (config.listener.client.bind.clone(), config.listener.client.port);
        let failed = |source| StartError::Listen {
            name: "client",
            address: format!("{host}:{port}"),
            source,
        };
        let listener = TcpListener::bind((host.as_str(), port)).await.map_err(failed)?;
        let address = Listener::local_addr(&listener).map_err(failed)?;
        config.listener.client.port = address.port();

        let (database, key) = open(&config).await?;
        let (app, new_token) = match assemble(config, clock, key, database.clone()).await {
            Ok(parts) => parts,
            Err(error) => {
                // In order, so that the log has nothing but the reason.
                if let Err(error) = database.close().await {
                    tracing::debug!(%error, "database.close");
                }
                return Err(error);
            }
        };

        // A reply is written at once; waiting for more to send costs a client 40 ms.
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "connection.nodelay");
            }
        });
        let routes = layers::surround(api::client::routes().merge(api::admin::routes()))
            .with_state(app.clone());
        let stopping = app.shutdown.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopping).await
            {
                tracing::error!(%error, "listener.failed");
            }
        });
        Ok(RunningServer { app, address, serving, new_token })
    }
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
        self.address
    }

    /// Whether this start has made the registration token.
    #[must_use]
    pub fn made_registration_token(&self) -> bool {
        self.new_token
    }

    /// Stops: takes no more connections, lets those that wait answer, finishes what is being written, closes the
    /// database. Takes less than five seconds.
    pub async fn stop(self) {
        let Self { app, serving, .. } = self;
        app.shutdown.cancel();
        if timeout(CONNECTIONS, serving).await.is_err() {
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
    key: SigningKey,
    database: Database,
) -> Result<(App, bool), StartError> {
    let new_token = registration_token(&mut config)?;
    Ok((App::open(config, clock, key, database).await?, new_token))
}

/// Opens the database that the configuration names, with the signing key that belongs to it.
///
/// # Errors
/// When it is in use, another server's, of a newer schema, or damaged; or its signing key can't be used or is gone.
pub async fn open(config: &Config) -> Result<(Database, SigningKey), StartError> {
    let settings = DatabaseSettings {
        url: config.database_url(),
        memtable: config.database.memtable.bytes(),
        block_cache: config.database.block_cache.bytes(),
    };
    // The key comes first: a start that is cut short leaves no database without one.
    let key = signing_key(config, Database::is_there(&settings.url)?)?;
    Ok((Database::open(&settings, &config.server_name).await?, key))
}

/// The server's signing key, made at the first start. Later it is never made anew: other servers would no longer believe
/// what this one says, and nobody would know why.
fn signing_key(config: &Config, later: bool) -> Result<SigningKey, StartError> {
    let path = config.data_dir.join("signing.key");
    let line = match files::read(&path) {
        Ok(Some(line)) => line,
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
    SigningKey::parse(&line).map_err(|source| StartError::Key { path, source })
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
