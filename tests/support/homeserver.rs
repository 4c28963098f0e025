//! Homeservers in processes of their own that know each other by real names over TLS: ours and Synapse.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::{
    ca::ca,
    folder,
    gate::Gate,
    http::Http,
    kept::Kept,
    matryx,
    place::free_address,
    server::runtime,
    synapse,
    sync::eventually,
    user::{TestUser, fresh},
};

/// What a homeserver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    Matryx,
    Synapse,
}

/// What both kinds of server are configured with.
pub struct Place<'a> {
    /// The name, which leads other servers to the gate.
    pub name: &'a str,
    /// An empty folder for everything that the server keeps.
    pub folder: &'a Path,
    /// The address for clients, without TLS.
    pub client: SocketAddr,
    /// The address behind the gate, with TLS.
    pub federation: SocketAddr,
}

/// A homeserver that can be stopped, started again, and cut off from the others.
pub struct Homeserver {
    pub software: Software,
    name: String,
    gate: Gate,
    behind: SocketAddr,
    http: Http,
    command: Command,
    folder: TempDir,
    running: Mutex<Option<Kept>>,
}

impl Homeserver {
    /// Makes its folder and starts it. The host is `localhost` or an address of the loopback network.
    pub fn new(software: Software, host: &str) -> Self {
        let folder = folder::empty();
        let gate = Gate::new();
        let name = format!("{host}:{}", gate.port());
        ca().certificate(&[host]).write(folder.path());
        let (client, federation) = (free_address(), free_address());
        let place = Place { name: &name, folder: folder.path(), client, federation };
        let command = match software {
            Software::Matryx => matryx::prepare(&place),
            Software::Synapse => synapse::prepare(&place),
        };
        let http = Http::new(&format!("http://{client}"));
        let (behind, running) = (federation, Mutex::new(None));
        let server = Self { software, name, gate, behind, http, command, folder, running };
        runtime().block_on(server.start());
        server
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host of the name: what server ACLs look at.
    pub fn host(&self) -> &str {
        self.name.rsplit_once(':').expect("a port").0
    }

    /// The file that everything it says goes to.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn is_matryx(&self) -> bool {
        self.software == Software::Matryx
    }

    /// Starts it if it does not run, and lets the others reach it.
    pub async fn start(&self) {
        let mut running = self.running.lock().await;
        if running.is_none() {
            *running = Some(self.launch().await);
        }
        self.gate.open(self.behind);
    }

    async fn launch(&self) -> Kept {
        let mut process = Kept::start(&self.command, &self.log());
        let versions = ["_matrix", "client", "versions"];
        eventually(&format!("{:?} at {}", self.software, self.name), async || {
            assert!(!process.has_ended(), "it has ended: {}", process.last_words());
            let answer = self.http.try_get(&versions).await;
            answer.filter(|answer| answer.status == 200).ok_or_else(|| process.last_words())
        })
        .await;
        process
    }

    /// Ends it in order.
    pub async fn stop(&self) {
        self.end("TERM").await;
    }

    /// Ends it by SIGKILL.
    pub async fn crash(&self) {
        self.end("KILL").await;
    }

    async fn end(&self, signal: &str) {
        self.gate.close().await;
        let process = self.running.lock().await.take().expect("a server that runs");
        process.end(signal).await;
    }

    /// Keeps other servers from reaching it; it goes on reaching them.
    pub async fn cut_off(&self) {
        self.gate.close().await;
    }

    /// Undoes a cut.
    pub fn rejoin(&self) {
        self.gate.open(self.behind);
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

/// Writes a configuration file into a server's folder.
pub fn configure(place: &Place<'_>, file: &str, text: &str) {
    fs::write(place.folder.join(file), text).expect("a configuration file");
}
