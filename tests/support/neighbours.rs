//! A server, and two others of the test's own that talk to it.

use matryx_server::clock::Clock;

use super::{
    guest::Guest,
    peer::Peer,
    server::{TestServer, runtime},
    shared::Shared,
    user::{TestUser, fresh},
};

/// A server and two peers.
pub struct Neighbours {
    pub server: TestServer,
    pub peer: Peer,
    pub other: Peer,
}

impl Neighbours {
    pub async fn start() -> Self {
        let server = TestServer::start_with(Clock::machine(), Peer::befriend).await;
        Self { server, peer: Peer::start().await, other: Peer::start().await }
    }

    /// A new user of the server.
    pub async fn alice(&self) -> TestUser {
        self.server.user("alice").await
    }

    /// A new user of the first peer whose localpart begins with `name`.
    pub fn guest(&self, name: &str) -> Guest<'_> {
        let id = self.peer.user(&format!("{name}{}", fresh()));
        Guest { peer: &self.peer, server: &self.server, id }
    }
}

/// Neighbours for a file of tests.
pub type SharedNeighbours = Shared<Neighbours>;

impl Shared<Neighbours> {
    pub const fn new() -> Self {
        Self::starting(|| runtime().block_on(Neighbours::start()))
    }
}
