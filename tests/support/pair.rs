//! Two servers that talk to each other.

use super::{
    server::{TestServer, runtime},
    shared::Shared,
};

/// Two servers, each of which finds the other, by TLS.
pub struct Pair {
    pub a: TestServer,
    pub b: TestServer,
}

impl Pair {
    pub async fn start() -> Self {
        let [a, b] = TestServer::together(["a", "b"]).await;
        Self { a, b }
    }
}

/// A pair for a file of tests.
pub type SharedPair = Shared<Pair>;

impl Shared<Pair> {
    pub const fn new() -> Self {
        Self::starting(|| runtime().block_on(Pair::start()))
    }
}
