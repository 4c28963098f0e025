//! A simulated server: the real one, without listeners, on a ground of its own that can be taken away.

use std::sync::Arc;

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
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::{
    ground::Ground,
    net::{Net, Way},
};
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
    /// After how many steps it dies.
    fuse: Option<u64>,
}

/// What a running server has.
pub struct Alive {
    ground: Ground,
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
            fuse: None,
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
        self.fuse = None;
        let ground = Ground::new();
        let (config, database) = self.open();
        let database = ground.run(database);
        let app = ground.run(self.assemble(config, database));
        let doors = api::client::routes().merge(api::federation::routes());
        let router = layers::surround(doors).with_state(app.clone());
        self.net.connect(&self.name, router.clone(), ground.handle());
        self.alive = Some(Alive { ground, app, router });
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.net.disconnect(&self.name);
        if let Some(Alive { ground, app, router }) = self.alive.take() {
            drop(router);
            ground.end();
            let database = app.database.clone();
            drop(app);
            // Or nobody could open its files again, as long as this process lives. What it has not written is lost.
            Ground::new().run(database.close()).expect("a database that closes");
        }
    }

    /// Lets it die after so many more steps.
    pub fn light(&mut self, steps: u64) {
        self.fuse = Some(steps);
    }

    /// Lets it live.
    pub fn spare(&mut self) {
        self.fuse = None;
    }

    /// Goes on until it rests, or for so many steps.
    pub fn go_on(&mut self, steps: u64) {
        let Some(alive) = &self.alive else { return };
        let Some(fuse) = self.fuse else {
            alive.ground.go_on(steps);
            return;
        };
        let steps = steps.min(fuse);
        let fuse = fuse - (steps - alive.ground.go_on(steps));
        self.fuse = Some(fuse);
        if fuse == 0 {
            self.kill();
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
            // What has been committed is kept when the database is closed, and no thread beside waits for the disk.
            url: format!(
                "surrealkv://{}?sync=never",
                self.folder.path().join("database").display()
            ),
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
        self.ground.spawn(async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        })
    }

    /// Runs something where the server runs.
    pub fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> T {
        self.ground.run(what)
    }
}
