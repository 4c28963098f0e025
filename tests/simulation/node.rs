//! A simulated server: the real one, without listeners, on a runtime of its own that can be killed.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Method, Request};
use http_body_util::BodyExt;
use matryx_core::event::SigningKey;
use matryx_repository::{Database, DatabaseSettings};
use matryx_server::{
    api, app::App, clock::Clock, config::Config, federation::OwnKeys, http::layers, random::Random,
};
use ruma::OwnedServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinHandle};
use tower::ServiceExt;

use super::net::{Net, Way};
use crate::support::empty_folder;

/// A server of the world.
pub struct Node {
    pub name: OwnedServerName,
    /// Chooses its keys and ids.
    seed: u64,
    /// How often it has been started.
    starts: u64,
    folder: TempDir,
    clock: Clock,
    net: Net,
    alive: Option<Alive>,
}

/// What a running server has.
pub struct Alive {
    runtime: Runtime,
    /// Where the engine works: it is closed when the server is killed, or nobody could open its files again.
    engine: Runtime,
    pub app: App,
    router: Router,
}

/// The status and the body of an answer.
pub type Told = (u16, Value);

impl Node {
    pub fn new(name: &str, seed: u64, clock: &Clock, net: &Net) -> Self {
        let mut node = Self {
            name: name.try_into().expect("a server name"),
            seed,
            starts: 0,
            folder: empty_folder(),
            clock: clock.clone(),
            net: net.clone(),
            alive: None,
        };
        node.start();
        node
    }

    /// The running server.
    pub fn alive(&self) -> Option<&Alive> {
        self.alive.as_ref()
    }

    /// Starts it on the data that it has.
    pub fn start(&mut self) {
        if self.alive.is_some() {
            return;
        }
        self.starts += 1;
        let (runtime, engine) = (runtime(), runtime());
        let (config, database) = self.open();
        let database = engine.block_on(engine.spawn(database)).expect("a database");
        let app = self.assemble(config, database);
        let app = runtime.block_on(runtime.spawn(app)).expect("a server that starts");
        let doors = api::client::routes().merge(api::federation::routes());
        let router = layers::surround(doors).with_state(app.clone());
        self.net.connect(&self.name, router.clone(), runtime.handle().clone());
        self.alive = Some(Alive { runtime, engine, app, router });
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.net.disconnect(&self.name);
        if let Some(Alive { runtime, engine, app, router }) = self.alive.take() {
            drop(router);
            runtime.shutdown_timeout(Duration::from_secs(10));
            let database = app.database.clone();
            drop(app);
            let closed = engine.block_on(engine.spawn(database.close()));
            closed.expect("no panic").expect("a database that closes");
            engine.shutdown_timeout(Duration::from_secs(10));
        }
    }

    fn open(&self) -> (Config, impl Future<Output = Database> + Send + 'static) {
        let mut config = Config {
            data_dir: self.folder.path().to_owned(),
            server_name: self.name.clone(),
            ..Config::default()
        };
        config.registration.open = true;
        config.testing.cheap_password_hashing = true;
        config.testing.disable_rate_limits = true;
        config.testing.short_federation_backoff = true;
        let settings = DatabaseSettings {
            // A killed server must not lose what is still in memory: it is synced, as it would be.
            url: format!("surrealkv://{}", self.folder.path().join("database").display()),
            memtable: config.database.memtable.bytes(),
            block_cache: config.database.block_cache.bytes(),
        };
        let name = self.name.clone();
        let database =
            async move { Database::open(&settings, &name).await.expect("a database that opens") };
        (config, database)
    }

    fn assemble(
        &self,
        config: Config,
        database: Database,
    ) -> impl Future<Output = App> + Send + 'static {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&self.seed.to_le_bytes());
        let key = SigningKey::from_seed("simulated", secret).expect("a key");
        let way = Arc::new(Way { net: self.net.clone(), from: self.name.clone() });
        let random = Random::seeded(self.seed ^ (self.starts << 32));
        let clock = self.clock.clone();
        async move {
            let keys = OwnKeys::from(key);
            App::open(config, clock, keys, database, way, random).await.expect("a server")
        }
    }
}

/// One thread is enough: what a server does at the same time it does in turns.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_stack_size(10 << 20)
        .enable_all()
        .build()
        .expect("a runtime")
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Alive {
    /// Asks the server for something as one of its users would.
    pub fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> JoinHandle<Told> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = request.body(body).expect("a request");
        let router = self.router.clone();
        self.runtime.spawn(async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        })
    }

    /// Runs something where the server runs.
    pub fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.block_on(self.runtime.spawn(what)).expect("no panic")
    }

    /// A fingerprint of what its threads have done; nothing while they do something.
    pub fn at_rest(&self) -> Option<u64> {
        let metrics = self.runtime.metrics();
        let parked =
            (0..metrics.num_workers()).map(|worker| metrics.worker_park_unpark_count(worker));
        let idle = metrics.global_queue_depth() == 0 && parked.clone().all(|count| count % 2 == 1);
        idle.then(|| parked.sum())
    }
}
