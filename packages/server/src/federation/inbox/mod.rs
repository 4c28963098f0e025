//! What other servers send us: transactions, and what is missing before the events in them.

mod backfill;
mod fetch;
mod let_in;
mod missing;
mod order;
mod room;
mod told;
mod transaction;

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use moka::sync::Cache;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedTransactionId};
use tokio::sync::{Mutex as Lock, OnceCell, OwnedMutexGuard};

pub use self::{
    backfill::{Backfilled, backfill},
    let_in::let_in,
    transaction::{MOST_EDUS, MOST_PDUS, Transaction, take},
};

/// What became of each event of a transaction; a sentence for those that were not let in.
pub type Answers = BTreeMap<OwnedEventId, Result<(), String>>;

/// How many transactions' answers are remembered.
const ANSWERS: u64 = 10_000;

/// A transaction is the same as an earlier one if its server and its id are.
type Name = (OwnedServerName, OwnedTransactionId);

/// What is going on, and what was answered. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    answers: Cache<Name, Arc<OnceCell<Answers>>>,
    /// Who delivers into which room: one server's events come into a room one after another.
    deliveries: Turns<(OwnedServerName, OwnedRoomId)>,
    /// Which events are being fetched.
    fetches: Turns<OwnedEventId>,
    /// Which gaps are being filled.
    gaps: Turns<(OwnedRoomId, i64)>,
}

/// Locks by name; a name that nobody holds or waits for costs nothing.
#[derive(Debug)]
struct Turns<K>(Mutex<HashMap<K, Weak<Lock<()>>>>);

impl Default for Inbox {
    fn default() -> Self {
        Self(Arc::new(Memory {
            answers: Cache::new(ANSWERS),
            deliveries: Turns::default(),
            fetches: Turns::default(),
            gaps: Turns::default(),
        }))
    }
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Turns<K> {
    /// Waits until nobody else holds the name.
    async fn take(&self, name: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if locks.len() >= 2 * locks.values().filter(|lock| lock.strong_count() > 0).count() + 64
            {
                locks.retain(|_, lock| lock.strong_count() > 0);
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
