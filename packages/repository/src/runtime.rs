//! Threads that the engine can work on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Bytes of stack a thread: SurrealDB's recursion wants more than threads usually have, on the blocking pool too.
const STACK: usize = 10 << 20;

/// A runtime for whatever uses a [`Database`](crate::Database).
///
/// What is to be deep in the engine runs as a task: the thread that blocks on the runtime has the stack that it had before.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().thread_stack_size(STACK).enable_all().build()
}
