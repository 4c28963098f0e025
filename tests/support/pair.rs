//! Two servers that talk to each other.

use std::sync::LazyLock;

use super::server::{TestServer, runtime};

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

/// A pair that starts with the first test of its file and serves all of them.
pub struct SharedPair(LazyLock<Pair>);

impl SharedPair {
    pub const fn new() -> Self {
        Self(LazyLock::new(|| runtime().block_on(Pair::start())))
    }

    /// Runs a test's story on the pair.
    pub fn run(&'static self, story: impl AsyncFnOnce(&'static Pair)) {
        // Started outside of the runtime: the first test blocks on it.
        let pair = &*self.0;
        runtime().block_on(story(pair));
    }
}
