//! Where a simulated server runs: on the thread that asks it to go on, until nothing can go on by itself any more.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// A runtime on one thread, which knows when it rests.
pub struct Ground {
    runtime: Runtime,
    rest: Arc<Rest>,
}

#[derive(Default)]
struct Rest {
    /// Threads beside it that work on something: what is put on the blocking pool.
    beside: AtomicUsize,
    /// Every task waits for something that only others can bring about.
    reached: AtomicBool,
    /// There was no task to go on with.
    idle: AtomicBool,
    /// Who waits for that.
    waits: AtomicWaker,
}

impl Ground {
    pub fn new() -> Self {
        let rest = Arc::new(Rest::default());
        let (begins, ends, parks) = (rest.clone(), rest.clone(), rest.clone());
        let runtime = Builder::new_current_thread()
            .enable_time()
            // Between any two steps of tasks it can be stopped.
            .event_interval(1)
            .thread_stack_size(super::STACK)
            // A thread is named, by who wants it, before it begins, and ends when it finds nothing more to do.
            .thread_keep_alive(Duration::ZERO)
            .thread_name_fn(move || {
                begins.beside.fetch_add(1, Ordering::SeqCst);
                "beside".to_owned()
            })
            .on_thread_stop(move || {
                ends.beside.fetch_sub(1, Ordering::SeqCst);
                ends.waits.wake();
            })
            // The runtime is about to sleep: no task can go on.
            .on_thread_park(move || {
                parks.idle.store(true, Ordering::SeqCst);
                if parks.beside.load(Ordering::SeqCst) == 0 {
                    parks.reached.store(true, Ordering::SeqCst);
                    parks.waits.wake();
                }
            })
            .build()
            .expect("a runtime");
        Self { runtime, rest }
    }

    pub fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// Starts something that goes on when the ground does.
    pub fn spawn<T: Send + 'static>(
        &self,
        what: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.spawn(what)
    }

    /// Goes on until something is done.
    pub fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.block_on(self.runtime.spawn(what)).expect("no panic")
    }

    /// Goes on until it rests, or for so many steps: those that are left.
    pub fn go_on(&self, steps: u64) -> u64 {
        let mut left = steps;
        self.rest.reached.store(false, Ordering::SeqCst);
        self.runtime.block_on(poll_fn(|context| {
            self.rest.waits.register(context.waker());
            if self.rest.reached.load(Ordering::SeqCst) || left == 0 {
                return Poll::Ready(());
            }
            if steps < u64::MAX {
                // Waiting for a thread beside is no step.
                if !self.rest.idle.swap(false, Ordering::SeqCst) {
                    left -= 1;
                }
                context.waker().wake_by_ref();
            }
            Poll::Pending
        }));
        left
    }

    /// Ends everything in the middle of what it does.
    pub fn end(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(10));
    }
}
