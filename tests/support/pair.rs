//! Two servers that talk to each other.

use matryx_server::clock::Clock;

use super::{
    server::{TestServer, runtime, standing_clock},
    shared::Shared,
};

/// Two servers, each of which finds the other, by TLS.
pub struct Pair {
    pub a: TestServer,
    pub b: TestServer,
}

impl Pair {
    async fn start(clock: Clock) -> Self {
        let [a, b] = TestServer::together_at(&clock, ["a", "b"]).await;
        Self { a, b }
    }
}

/// A pair for a file of tests.
pub type SharedPair = Shared<Pair>;

impl Shared<Pair> {
    pub const fn new() -> Self {
        Self::starting(|| runtime().block_on(Pair::start(Clock::machine())))
    }

    /// A pair for which no time passes: nothing is given up because the machine is slow, and nothing is tried again by itself.
    pub const fn standing_still() -> Self {
        Self::starting(|| runtime().block_on(Pair::start(standing_clock())))
    }
}
