//! What other servers send us: transactions, and what is missing before the events in them.

mod again;
mod backfill;
mod fetch;
mod left_out;
mod let_in;
mod missing;
mod opened;
mod order;
mod room;
mod told;
mod transaction;
mod turns;
mod waiting;

use std::{collections::BTreeMap, sync::Arc};

use matryx_repository::{Database, StoreError};
use moka::sync::Cache;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedTransactionId};
use tokio::sync::OnceCell;

pub use self::{
    backfill::{Backfilled, backfill},
    left_out::LeftOut,
    let_in::let_in,
    transaction::{MOST_EDUS, MOST_PDUS, Transaction, take},
};
use self::{turns::Turns, waiting::Waiting};
use crate::app::App;

/// What became of each event of a transaction; a sentence for those that were not let in.
pub type Answers = BTreeMap<OwnedEventId, Result<(), String>>;

/// How many transactions' answers are remembered.
const ANSWERS: u64 = 10_000;

/// A transaction is the same as an earlier one if its server and its id are.
type Name = (OwnedServerName, OwnedTransactionId);

/// What is going on, what was answered, and what waits. Cheap to clone.
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
    /// What can't be let in yet.
    waiting: Waiting,
}

impl Inbox {
    /// Reads what waits.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Memory {
            answers: Cache::new(ANSWERS),
            deliveries: Turns::default(),
            fetches: Turns::default(),
            gaps: Turns::default(),
            waiting: Waiting::open(database).await?,
        })))
    }

    /// Sees to what waits until the server stops.
    pub(crate) async fn work(self, app: App) {
        self.0.waiting.work(&app).await;
    }

    /// How many events wait for what is missing before them, or for a join.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.count()
    }
}
