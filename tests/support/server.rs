//! A whole server in this process.

use std::{collections::BTreeMap, sync::LazyLock};

use matryx_server::{
    app::App,
    clock::Clock,
    config::Config,
    lifecycle::{RunningServer, Server},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    folder,
    http::Http,
    peer::Peer,
    place::Place,
    shared::Shared,
    user::{TestUser, fresh},
};

/// The runtime of all servers and clients here.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| matryx_repository::runtime().expect("threads"));
    &RUNTIME
}

/// A server for a file of tests.
pub type SharedServer = Shared<TestServer>;

impl Shared<TestServer> {
    pub const fn new() -> Self {
        Self::starting(|| runtime().block_on(TestServer::start()))
    }

    /// A server that peers can talk to.
    pub const fn befriended() -> Self {
        Self::starting(|| {
            runtime().block_on(TestServer::start_with(Clock::machine(), Peer::befriend))
        })
    }
}

/// A clock that stands still until it is moved: by it nothing takes too long.
pub fn standing_clock() -> Clock {
    // Other servers' keys are valid now.
    Clock::by_hand(Clock::machine().now())
}

/// A running server with open registration and cheap passwords, on the real engine.
pub struct TestServer {
    running: RunningServer,
    http: Http,
    down: Down,
}

/// A server that is down, and can come up again on its data.
pub struct Down {
    config: Config,
    clock: Clock,
    folder: TempDir,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(Clock::machine(), |_| {}).await
    }

    /// With a clock of the test's, and what it changes of the configuration.
    pub async fn start_with(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let folder = folder::empty();
        let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        config.listener.client.port = 0;
        config.listener.federation.port = 0;
        let database = folder.path().join("database");
        config.database.url = Some(format!("surrealkv://{}?sync=never", database.display()));
        config.registration.open = true;
        config.testing.cheap_password_hashing = true;
        config.testing.disable_rate_limits = true;
        change(&mut config);
        Down { config, clock, folder }.up().await
    }

    /// Servers that talk to each other, by TLS, on addresses of their own. Their names begin with `names`.
    pub async fn together<const N: usize>(names: [&str; N]) -> [Self; N] {
        Self::together_at(&Clock::machine(), names).await
    }

    /// The same, at a clock of the test's.
    pub async fn together_at<const N: usize>(clock: &Clock, names: [&str; N]) -> [Self; N] {
        let places = names.map(Place::new);
        let resolve: BTreeMap<String, String> =
            places.iter().map(|place| (place.name.clone(), place.federation.to_string())).collect();
        let mut servers = Vec::new();
        for place in &places {
            let start = Self::start_with(clock.clone(), |config| {
                place.settle(config);
                config.federation.resolve = resolve.clone();
            });
            servers.push(start.await);
        }
        servers.try_into().ok().expect("as many servers as names")
    }

    /// Stops it in order.
    pub async fn stop(self) -> Down {
        self.running.stop().await;
        self.down
    }

    /// Stops it and starts it again on its data. Where it listens on ports that the configuration names, those who
    /// talked to it can go on.
    pub async fn restart(self) -> Self {
        self.stop().await.up().await
    }

    /// Where other servers reach it, as a URL without a slash at its end.
    pub fn federation_base(&self) -> String {
        self.running.federation_base().expect("a federation listener")
    }

    /// What no endpoint does yet is done from inside.
    pub fn app(&self) -> &App {
        self.running.app()
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        self.running.app().server_name.as_str()
    }

    /// A connection of nobody in particular.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// A new user whose localpart begins with `name`.
    pub async fn user(&self, name: &str) -> TestUser {
        TestUser::register(&self.http, &format!("{name}{}", fresh())).await
    }

    /// New users, one a name.
    pub async fn users<const N: usize>(&self, names: [&str; N]) -> [TestUser; N] {
        let users = futures::future::join_all(names.map(|name| self.user(name))).await;
        users.try_into().expect("as many users as names")
    }
}

impl Down {
    /// Starts it again.
    pub async fn up(self) -> TestServer {
        // On a thread of the runtime: the test's own has not enough stack for the engine.
        let start = tokio::spawn(Server::start(self.config.clone(), self.clock.clone()));
        let running = start.await.expect("no panic").expect("a server that starts");
        let http = Http::new(&running.base());
        TestServer { running, http, down: self }
    }

    /// The folder, for somebody else to go on with.
    pub fn into_folder(self) -> TempDir {
        self.folder
    }
}
