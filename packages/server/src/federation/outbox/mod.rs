//! What goes to other servers. One worker follows what is committed and deals it out to a queue for each server; a server
//! with something in its queue has one task, which sends one transaction at a time and waits where the server is not there.
//!
//! Nothing acknowledged is lost: a row of `out` stays until nobody is owed it any more, and a restart goes on from the rows
//! and each server's cursor. What was on its way then is sent again under the same id. EDUs are carried along and are kept
//! nowhere else.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>

mod ledger;
mod queue;
mod sending;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use matryx_repository::{Database, Out, OutPlace, StoreError};
use ruma::{OwnedServerName, ServerName, api::federation::transactions::edu::Edu, serde::Raw};
use tokio::sync::{Notify, mpsc::UnboundedReceiver};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    ledger::Ledger,
    queue::{Parcel, Queue},
};
use super::{Backoff, Client, Destinations, Returns};
use crate::{
    clock::Clock,
    random::Random,
    room::{Events, Rooms},
};

/// How many servers are begun with before others have their turn.
const TOGETHER: usize = 2;

/// What waits for other servers. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    us: OwnedServerName,
    client: Client,
    destinations: Destinations,
    backoff: Backoff,
    clock: Clock,
    slots: Mutex<HashMap<OwnedServerName, Slot>>,
    ledger: Ledger,
    /// What it needs beside that, once it is at work.
    ground: OnceLock<Ground>,
    /// No other run's, so that ids are given once.
    run: String,
    count: AtomicU64,
}

/// What sending needs of the rest of the server.
struct Ground {
    events: Events,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// A server that something waits for.
#[derive(Default)]
struct Slot {
    queue: Queue,
    /// Whether a task is at it.
    running: bool,
    /// Ends the wait for a server that did not answer.
    wake: Arc<Notify>,
}

impl Outbox {
    pub(super) fn new(
        us: OwnedServerName,
        client: Client,
        destinations: Destinations,
        backoff: Backoff,
        clock: Clock,
        random: &Random,
    ) -> Self {
        Self(Arc::new(Inner {
            us,
            client,
            destinations,
            backoff,
            clock,
            slots: Mutex::default(),
            ledger: Ledger::default(),
            ground: OnceLock::new(),
            run: random.secret(),
            count: AtomicU64::new(0),
        }))
    }

    /// Goes on where the last run has stopped, then follows what is committed until `shutdown`. Call it once, before
    /// anything is committed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(
        &self,
        rooms: &Rooms,
        shutdown: CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<(), StoreError> {
        let database: &Database = rooms.database();
        let news = rooms.stream().follow();
        let up = self.0.destinations.on_up();
        let cursors = database.cursors().await?;
        let outgoing = database.outgoing().await?;
        database.sweep_server_sets(&outgoing).await?;
        let events = rooms.events().clone();
        let ground = Ground { events, shutdown: shutdown.clone(), tasks: tasks.clone() };
        if self.0.ground.set(ground).is_err() {
            return Ok(());
        }
        let idle: Vec<_> = outgoing.iter().flat_map(|out| self.post(out, &cursors)).collect();
        self.run(idle);
        // What has come before there was anybody to send it.
        self.run_idle();
        let (ledger, database) = (self.clone(), database.clone());
        tasks.spawn(async move { ledger.0.ledger.keep(&database, &shutdown).await });
        tasks.spawn(self.clone().follow(news, up));
        Ok(())
    }

    /// Sends something that is worth nothing later: it goes with the next transaction to each of these servers, and is
    /// lost if the server stops before, or if too much waits. <https://spec.matrix.org/v1.19/server-server-api/#edus>
    pub fn edu(&self, to: impl IntoIterator<Item = OwnedServerName>, edu: &Raw<Edu>) {
        let mut idle = Vec::new();
        {
            let mut slots = self.slots();
            for server in to.into_iter().filter(|server| *server != self.0.us) {
                let slot = slots.entry(server.clone()).or_default();
                slot.queue.push_edu(edu.clone());
                idle.extend(self.claim(server, slot));
            }
        }
        self.run(idle);
    }

    async fn follow(self, mut news: UnboundedReceiver<Vec<Out>>, mut up: Returns) {
        let Some(ground) = self.0.ground.get() else { return };
        let nowhere = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = ground.shutdown.cancelled() => return,
                server = up.next() => self.wake(server.as_deref()),
                batch = news.recv() => {
                    let Some(batch) = batch else { return };
                    // Whoever has sent it is answered first.
                    tokio::task::yield_now().await;
                    let idle: Vec<_> =
                        batch.iter().flat_map(|out| self.post(out, &nowhere)).collect();
                    self.run_by_and_by(idle).await;
                }
            }
        }
    }

    /// Puts an event into the queues of the servers that are owed it. Returns those at whose queues nobody is.
    fn post(
        &self,
        out: &Out,
        cursors: &HashMap<OwnedServerName, OutPlace>,
    ) -> Vec<OwnedServerName> {
        let owed: Vec<&OwnedServerName> = out
            .receivers()
            .filter(|server| cursors.get(*server).is_none_or(|cursor| *cursor < out.place))
            .collect();
        if owed.is_empty() {
            self.0.ledger.done([out.place]);
            return Vec::new();
        }
        let parcel = Parcel::new(out, owed.len());
        let alone = (!out.also.is_empty()).then(|| Arc::new(parcel.alone()));
        let parcel = Arc::new(parcel);
        let mut idle = Vec::new();
        let mut gone = Vec::new();
        {
            let mut slots = self.slots();
            for server in owed {
                // Most servers have been sent something before: their names are not copied again.
                if !slots.contains_key(server) {
                    slots.insert(server.clone(), Slot::default());
                }
                let Some(slot) = slots.get_mut(server) else { continue };
                let outside = alone.as_ref().filter(|_| out.also.contains(server));
                gone.extend(slot.queue.push(Arc::clone(outside.unwrap_or(&parcel))));
                idle.extend(self.claim(server.clone(), slot));
            }
        }
        self.0.ledger.done(settled(&gone));
        idle
    }

    /// The server, if nobody is at its queue: whoever gets it is.
    fn claim(&self, server: OwnedServerName, slot: &mut Slot) -> Option<OwnedServerName> {
        let free = !slot.running && self.0.ground.get().is_some();
        slot.running |= free;
        free.then_some(server)
    }

    fn run(&self, servers: Vec<OwnedServerName>) {
        let Some(ground) = self.0.ground.get() else { return };
        for server in servers {
            ground.tasks.spawn(self.clone().send_to(server));
        }
    }

    /// The same, a few at a time: hundreds at once would stand between everybody else and the processor.
    async fn run_by_and_by(&self, servers: Vec<OwnedServerName>) {
        for few in servers.chunks(TOGETHER) {
            self.run(few.to_vec());
            tokio::task::yield_now().await;
        }
    }

    /// Sees to it that everything that waits is worked on.
    fn run_idle(&self) {
        let mut idle: Vec<OwnedServerName> = {
            let mut slots = self.slots();
            slots.iter_mut().filter_map(|(server, slot)| self.claim(server.clone(), slot)).collect()
        };
        idle.sort();
        self.run(idle);
    }

    /// A server is there again; or some are, and nobody knows which.
    fn wake(&self, server: Option<&ServerName>) {
        let slots = self.slots();
        match server {
            Some(server) => {
                if let Some(slot) = slots.get(server) {
                    slot.wake.notify_one();
                }
            }
            None => {
                for slot in slots.values() {
                    slot.wake.notify_one();
                }
            }
        }
    }

    /// An id that no other transaction has.
    fn nonce(&self) -> String {
        format!("{}.{}", self.0.run, self.0.count.fetch_add(1, Ordering::Relaxed))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<OwnedServerName, Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("servers", &self.slots().len()).finish_non_exhaustive()
    }
}

/// Takes these off one server's account; returns those that nobody is owed any more.
fn settled(parcels: &[Arc<Parcel>]) -> Vec<OutPlace> {
    parcels.iter().filter(|parcel| parcel.settle()).map(|parcel| parcel.place).collect()
}

#[cfg(test)]
mod tests;
