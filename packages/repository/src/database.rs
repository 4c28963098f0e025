//! The embedded database: opened with bounded memory, migrated, held by one process, closed.

use std::{
    fs::{File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ruma::ServerName;
use surrealdb::{
    IndexedResults, Surreal,
    engine::local::Db,
    method::IntoVariables,
    types::{Object, SurrealValue, object},
};
use surrealdb_cnf::ConfigMap;
use surrealdb_engine_local::Datastore;
use tokio::sync::watch;

use crate::{StoreError, error, intact, migrations, segments::Segments};

/// How often a change is tried. Whoever loses a race has let another one through, so this many losses in a row mean that
/// something else is wrong.
const ATTEMPTS: usize = 50;

/// Where the database is, and how much memory it may take.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `surrealkv://PATH`; `?sync=never` gives up durability for speed, for tests.
    pub url: String,
    /// The most that is kept in memory before it goes to a table on disk, in bytes.
    pub memtable: u64,
    /// The most that is kept in memory of what is on disk, in bytes.
    pub block_cache: u64,
}

impl DatabaseSettings {
    /// For tests: a store in this folder that takes little memory, and is not durable.
    #[must_use]
    pub fn in_passing(folder: &Path) -> Self {
        let url = format!("surrealkv://{}?sync=never", folder.join("database").display());
        Self { url, memtable: 16 << 20, block_cache: 16 << 20 }
    }
}

/// Why a database could not be opened. Each sentence is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no engine that is built in.
    #[error("database.url is \"{0}\": it must be of the form surrealkv://PATH")]
    Url(String),
    /// The folder can't be made or its lock file can't be written.
    #[error("the data directory {path} can't be used: {source}", path = path.display())]
    Directory {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process holds the lock.
    #[error("the data directory {} is in use by another Matryx process; stop that one first", .0.display())]
    InUse(PathBuf),
    /// The store was made for another server.
    #[error(
        "the data directory holds the data of {found}, but server_name is {wanted}; a server's name never changes"
    )]
    OtherServer {
        /// The name in the store.
        found: String,
        /// The name in the configuration.
        wanted: String,
    },
    /// A migration has been applied that this binary does not know, or knows with another content.
    #[error("{0}")]
    Schema(String),
    /// Something is lost that was there, which the engine would not say.
    #[error("{0}")]
    Damaged(String),
    /// The engine failed.
    #[error("the database can't be opened: {0}")]
    Engine(String),
}

/// The one handle to the store. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    client: Arc<Surreal<Db>>,
    datastore: Arc<Datastore>,
    /// How many queries have been asked.
    asked: Arc<AtomicU64>,
    /// Why a write has failed, once one has.
    unwritten: watch::Sender<Option<String>>,
    segments: Arc<Segments>,
    /// Held for as long as the process has the store open; released by the system if the process dies.
    lock: Arc<File>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Whether there is a store at the URL already, whosesoever it is.
    ///
    /// # Errors
    /// When the URL names no engine that is built in, or its folder can't be read.
    pub fn is_there(url: &str) -> Result<bool, OpenError> {
        let path = path_of(url)?;
        match std::fs::read_dir(&path) {
            Ok(mut files) => Ok(files.next().is_some()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(OpenError::Directory { path, source }),
        }
    }

    /// Opens the store, brings its schema up to date and makes sure that it is this server's.
    ///
    /// # Errors
    /// When it is in use, another server's, of a newer schema, or damaged; nothing is changed then.
    pub async fn open(
        settings: &DatabaseSettings,
        server_name: &ServerName,
    ) -> Result<Self, OpenError> {
        let path = path_of(&settings.url)?;
        let lock = hold(&path)?;
        intact::look_over(&path)?;
        Segments::put_back(&path)
            .map_err(|source| OpenError::Directory { path: path.clone(), source })?;
        // The engine looks at its surroundings once, and would keep a file open for each thread of the whole machine:
        // up to half of those that we may have, which are for clients.
        sysinfo::set_open_files_limit(0);
        let engine = |error: &dyn std::fmt::Display| OpenError::Engine(error.to_string());
        let config = ConfigMap::empty()
            .with_key_value("surrealkv_max_memtable_size", settings.memtable.to_string())
            .with_key_value("surrealkv_block_cache_capacity", settings.block_cache.to_string());
        let datastore = Datastore::builder()
            .with_config(config)
            .without_maintenance_tasks()
            .build_with_path(&settings.url)
            .await
            .map_err(|e| engine(&e))?;
        let segments = Arc::new(Segments::follow(&path));
        datastore.check_version().await.map_err(|e| engine(&e))?;
        datastore.bootstrap().await.map_err(|e| engine(&e))?;
        datastore.start_maintenance_tasks();
        let client = Surreal::<Db>::unstable_from_datastore(Arc::clone(&datastore), None)
            .await
            .map_err(|e| engine(&e))?;
        client.use_ns("matryx").use_db("matryx").await.map_err(|e| engine(&e))?;
        let database = Self {
            client: Arc::new(client),
            datastore,
            asked: Arc::default(),
            unwritten: watch::Sender::default(),
            segments,
            lock: Arc::new(lock),
        };
        migrations::run(&database).await?;
        database.belong_to(server_name).await?;
        Ok(database)
    }

    /// How many queries have been asked since the store was opened, for tests and benchmarks of what asks none.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until a write fails, if one ever does: the disk is full, or broken. Says why.
    ///
    /// The engine would write on behind what it has written of that one, and a start after a crash would read up to there
    /// and no further. So from then on nothing is written, what is read is what was acknowledged, and all that is left to do
    /// is to close the store and to open it again.
    pub async fn fails(&self) -> String {
        let mut unwritten = self.unwritten.subscribe();
        let why = unwritten.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // Not as long as `self` is there.
            None => std::future::pending().await,
        }
    }

    /// Writes what is in memory to disk and lets go of the data directory.
    ///
    /// # Errors
    /// When the engine can't be shut down in order. What was committed is safe all the same.
    pub async fn close(self) -> Result<(), StoreError> {
        let done = self.datastore.shutdown().await;
        if let Err(error) = self.segments.closed() {
            tracing::warn!(%error, "database.close");
        }
        // When the last handle goes, the engine shuts the store down once more, and complains that it is down already.
        std::mem::forget(Arc::clone(&self.client));
        // Other clones of the handle may live on for a moment; the directory is free all the same.
        let unlocked = self.lock.unlock();
        done.map_err(|error| StoreError::Engine(error.to_string()))?;
        unlocked.map_err(|error| StoreError::Engine(error.to_string()))
    }

    /// Runs a query; any statement's error is the query's.
    pub(crate) async fn ask(
        &self,
        sql: &str,
        variables: impl IntoVariables,
    ) -> Result<IndexedResults, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if sql.starts_with("SELECT") {
            return self.pose(sql, variables).await;
        }
        self.is_written()?;
        let answer = self.pose(sql, variables).await;
        self.segments.written();
        if let Err(StoreError::Unwritten(why)) = &answer {
            self.unwritten.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert_with(|| why.clone());
                is_first
            });
        }
        // What was written beside a write that failed may stand behind it.
        self.is_written()?;
        answer
    }

    async fn pose(
        &self,
        sql: &str,
        variables: impl IntoVariables,
    ) -> Result<IndexedResults, StoreError> {
        let mut answer = self.client.query(sql).bind(variables).await?;
        match error::telling(answer.take_errors()) {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }

    fn is_written(&self) -> Result<(), StoreError> {
        match &*self.unwritten.borrow() {
            None => Ok(()),
            Some(why) => Err(StoreError::Unwritten(why.clone())),
        }
    }

    /// Runs one statement that changes something, again for as long as another transaction was faster.
    ///
    /// One statement, which may be a block `{ …; RETURN … }`, is one transaction.
    pub(crate) async fn change(
        &self,
        sql: &str,
        variables: Object,
    ) -> Result<IndexedResults, StoreError> {
        for _ in 1..ATTEMPTS {
            match self.ask(sql, variables.clone()).await {
                Err(StoreError::Conflict) => tokio::task::yield_now().await,
                done => return done,
            }
        }
        self.ask(sql, variables).await
    }

    async fn belong_to(&self, server_name: &ServerName) -> Result<(), OpenError> {
        #[derive(SurrealValue)]
        struct Owner {
            name: String,
        }
        let failed = |error: StoreError| OpenError::Engine(error.to_string());
        let mut answer =
            self.ask("SELECT name FROM ONLY store:server", object! {}).await.map_err(failed)?;
        let owner: Option<Owner> = answer.take(0).map_err(|e| failed(e.into()))?;
        match owner {
            Some(owner) if owner.name == server_name.as_str() => Ok(()),
            Some(owner) => {
                Err(OpenError::OtherServer { found: owner.name, wanted: server_name.to_string() })
            }
            None => self
                .ask("CREATE store:server SET name = $name", object! { name: server_name.as_str() })
                .await
                .map(drop)
                .map_err(failed),
        }
    }
}

/// The folder of a `surrealkv://PATH?options` URL.
fn path_of(url: &str) -> Result<PathBuf, OpenError> {
    let path = url.strip_prefix("surrealkv://").map(|rest| rest.split('?').next().unwrap_or(rest));
    match path {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(OpenError::Url(url.to_owned())),
    }
}

/// Makes the data directory, where there is none. Messages and hashes of passwords are for nobody else on the machine.
pub(crate) fn own_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Takes the lock file beside the database.
fn hold(path: &Path) -> Result<File, OpenError> {
    let directory = |source| OpenError::Directory { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        own_directory(parent).map_err(directory)?;
    }
    let lock = File::create(path.with_extension("lock")).map_err(directory)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::InUse(path.parent().unwrap_or(path).to_owned()))
        }
        Err(TryLockError::Error(source)) => Err(directory(source)),
    }
}
