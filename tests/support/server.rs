//! A whole server in this process, shared by the tests of a file.

use std::sync::LazyLock;

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
    user::{TestUser, fresh},
};

/// The runtime of all servers and clients here, with stacks as large as the binary's.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .thread_stack_size(10 << 20)
            .enable_all()
            .build()
            .expect("a runtime")
    });
    &RUNTIME
}

/// A server that starts with the first test of its file and serves all of them.
pub struct SharedServer(LazyLock<TestServer>);

impl SharedServer {
    pub const fn new() -> Self {
        Self(LazyLock::new(|| runtime().block_on(TestServer::start())))
    }

    /// Runs a test's story against the server.
    pub fn run(&'static self, story: impl AsyncFnOnce(&'static TestServer)) {
        // Started outside of the runtime: the first test blocks on it.
        let server = self.get();
        runtime().block_on(story(server));
    }

    pub fn get(&'static self) -> &'static TestServer {
        &self.0
    }
}

/// A running server with open registration and cheap passwords, on the real engine.
pub struct TestServer {
    running: RunningServer,
    http: Http,
    _folder: TempDir,
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
        let database = folder.path().join("database");
        config.database.url = Some(format!("surrealkv://{}?sync=never", database.display()));
        config.registration.open = true;
        config.testing.cheap_password_hashing = true;
        config.testing.disable_rate_limits = true;
        change(&mut config);
        // On a thread of the runtime: the test's own has not enough stack for the engine.
        let start = tokio::spawn(Server::start(config, clock));
        let running = start.await.expect("no panic").expect("a server that starts");
        let http = Http::new(&format!("http://{}", running.address()));
        Self { running, http, _folder: folder }
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
