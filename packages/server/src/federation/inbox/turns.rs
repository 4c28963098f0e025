//! Locks by name.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

/// How many names are remembered before the first look at which of them are still held.
const FEW: usize = 64;

/// Locks by name; a name that nobody holds or waits for costs nothing for long.
#[derive(Debug)]
pub(super) struct Turns<K>(Mutex<Names<K>>);

#[derive(Debug)]
struct Names<K> {
    locks: HashMap<K, Weak<Lock<()>>>,
    /// At how many names those that nobody holds are thrown out: twice as many as were held then, so that looking through
    /// them costs each who takes one a constant.
    full: usize,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::new(Names { locks: HashMap::new(), full: FEW }))
    }
}

impl<K: Eq + Hash> Turns<K> {
    /// Waits until nobody else holds the name.
    pub(super) async fn take(&self, name: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Names { locks, full } = &mut *names;
            if locks.len() >= *full {
                locks.retain(|_, lock| lock.strong_count() > 0);
                *full = 2 * locks.len() + FEW;
            }
            let entry = locks.entry(name).or_default();
            entry.upgrade().unwrap_or_else(|| {
                let lock = Arc::new(Lock::new(()));
                *entry = Arc::downgrade(&lock);
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_held_once_and_forgotten_when_nobody_holds_it() {
        let turns = Turns::default();
        let first = turns.take(0).await;
        let mut second = Box::pin(turns.take(0));
        assert!(futures::poll!(&mut second).is_pending());
        for name in 1..10_000 {
            drop(turns.take(name).await);
        }
        assert!(turns.0.lock().unwrap().locks.len() <= 2 * FEW + 2);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
    }
}
