//! What starts with the first test of its file and serves all of them.

use std::sync::LazyLock;

use super::server::runtime;

/// Something to test with, which starts when it is wanted.
pub struct Shared<T: 'static>(LazyLock<T>);

impl<T> Shared<T> {
    pub const fn starting(start: fn() -> T) -> Self {
        Self(LazyLock::new(start))
    }

    pub fn get(&'static self) -> &'static T {
        &self.0
    }

    /// Runs a test's story on it.
    pub fn run(&'static self, story: impl AsyncFnOnce(&'static T)) {
        // Started outside of the runtime: the first test blocks on it.
        let shared = self.get();
        runtime().block_on(story(shared));
    }
}
