//! The committer: one task that gives positions to the appends of all rooms, writes what has queued up in one durable
//! transaction, and shows it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use matryx_core::room::StateEntry;
use matryx_repository::{Append, Database, Line, StoreError, Written};
use moka::sync::Cache;
use ruma::{RoomId, events::StateEventType};
use tokio::sync::{mpsc, oneshot};

use super::{Events, Look, Room, stream::Stream, work::lines_at};

/// How many appends go into one transaction, about.
const TOGETHER: usize = 64;

/// How many positions are reserved at a time. A restart goes on after those.
const RESERVE: u64 = 10_000;

/// How many sets of servers are remembered as written.
const SETS: u64 = 10_000;

/// An append and the look that it leads to.
pub(super) struct Pending {
    pub(super) append: Append,
    pub(super) look: Look,
}

/// Appends of one room that follow one another. All of them are written, or none.
pub(super) struct Group {
    pub(super) room: Arc<Room>,
    pub(super) pending: Vec<Pending>,
}

/// A group and who waits for it.
pub(super) struct Waiting {
    pub(super) group: Group,
    pub(super) reply: oneshot::Sender<Result<u64, StoreError>>,
}

/// What has been written since the start, for the benchmark's report.
#[derive(Debug, Default)]
pub struct Tally {
    commits: AtomicU64,
    appends: AtomicU64,
    statements: AtomicU64,
    rows: AtomicU64,
    resolved: AtomicU64,
}

/// A reading of the [`Tally`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Transactions, each synced to disk once.
    pub commits: u64,
    /// Appends in them.
    pub appends: u64,
    /// Statements in them.
    pub statements: u64,
    /// Rows written or deleted by them.
    pub rows: u64,
    /// Memberships that have become something else because a fork was resolved, and not by an event that was let in.
    pub resolved: u64,
}

impl Tally {
    fn count(&self, appends: usize, written: Written) {
        let add = |counter: &AtomicU64, by: u64| {
            counter.fetch_add(by, Ordering::Relaxed);
        };
        add(&self.commits, 1);
        add(&self.appends, appends as u64);
        add(&self.statements, written.statements);
        add(&self.rows, written.rows);
    }

    /// Counts and writes down the memberships that a line changes without being about them. Behind a gap they may well have
    /// been changed by events: those are missing.
    fn count_resolved(&self, room: &RoomId, line: &Line) {
        let membership = |entry: &Option<StateEntry>| entry.as_ref().and_then(|e| e.membership);
        for change in line.changes.iter().filter(|_| !line.gap) {
            let (was, is) = (membership(&change.old), membership(&change.new));
            let own = line.event.pdu.key().is_some_and(|key| key == change.key);
            if change.key.kind == StateEventType::RoomMember && !own && was != is {
                self.resolved.fetch_add(1, Ordering::Relaxed);
                let (user, line) = (&change.key.key, line.n);
                tracing::info!(%room, %user, ?was, ?is, line, "membership.resolved");
            }
        }
    }

    /// What has been written so far.
    #[must_use]
    pub fn read(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            commits: read(&self.commits),
            appends: read(&self.appends),
            statements: read(&self.statements),
            rows: read(&self.rows),
            resolved: read(&self.resolved),
        }
    }
}

/// The one writer of rooms.
pub(super) struct Committer {
    database: Database,
    events: Events,
    stream: Arc<Stream>,
    tally: Arc<Tally>,
    /// Sets of servers that are in the store, by their hash. To write one again is harmless.
    sets: Cache<String, ()>,
    /// The last position given.
    pos: u64,
    /// The last position reserved in the store.
    reserved: u64,
}

impl Committer {
    /// Reserves the first positions and starts the task.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn start(
        database: Database,
        events: Events,
        stream: impl FnOnce(u64) -> Arc<Stream>,
        tally: Arc<Tally>,
    ) -> Result<(Arc<Stream>, mpsc::UnboundedSender<Waiting>), StoreError> {
        let pos = database.reserve_positions(RESERVE).await?;
        let stream = stream(pos);
        let committer = Self {
            database,
            events,
            stream: Arc::clone(&stream),
            tally,
            sets: Cache::new(SETS),
            pos,
            reserved: pos + RESERVE,
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(committer.work(receiver));
        Ok((stream, sender))
    }

    async fn work(mut self, mut queue: mpsc::UnboundedReceiver<Waiting>) {
        while let Some(first) = queue.recv().await {
            let mut appends = first.group.pending.len();
            let mut batch = vec![first];
            while appends < TOGETHER
                && let Ok(next) = queue.try_recv()
            {
                appends += next.group.pending.len();
                batch.push(next);
            }
            self.write(batch).await;
        }
    }

    /// Writes a batch; if that fails, each of its groups alone.
    async fn write(&mut self, batch: Vec<Waiting>) {
        let (groups, replies): (Vec<Group>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.group, waiting.reply)).unzip();
        match self.try_write(groups).await {
            Ok(positions) => {
                for (reply, pos) in replies.into_iter().zip(positions) {
                    drop(reply.send(Ok(pos)));
                }
            }
            Err((groups, error)) if groups.len() == 1 => {
                for reply in replies {
                    drop(reply.send(Err(StoreError::Engine(error.to_string()))));
                }
            }
            Err((groups, error)) => {
                tracing::warn!(%error, groups = groups.len(), "committer.batch_failed");
                for (group, reply) in groups.into_iter().zip(replies) {
                    let result = self.try_write(vec![group]).await;
                    let result =
                        result.map(|positions| positions.last().copied().unwrap_or_default());
                    drop(reply.send(result.map_err(|(_, error)| error)));
                }
            }
        }
    }

    /// One transaction. Returns the last position of each group; the groups, if nothing was written.
    async fn try_write(
        &mut self,
        mut groups: Vec<Group>,
    ) -> Result<Vec<u64>, (Vec<Group>, StoreError)> {
        let appends: usize = groups.iter().map(|group| group.pending.len()).sum();
        if let Err(error) = self.reserve(appends as u64).await {
            return Err((groups, error));
        }
        let sets = self.new_sets(&mut groups);
        let mut pos = self.pos;
        let numbered: Vec<(u64, &Append)> = groups
            .iter()
            .flat_map(|group| &group.pending)
            .map(|pending| {
                pos += 1;
                (pos, &pending.append)
            })
            .collect();
        let written = match self.database.commit(&numbered).await {
            Ok(written) => written,
            // The engine may fail after it has written: then the room stands where the group leads.
            Err(_) if self.stands(&groups, &numbered).await => Written::default(),
            Err(error) => return Err((groups, error)),
        };
        self.tally.count(appends, written);
        for hash in sets {
            self.sets.insert(hash, ());
        }
        Ok(self.publish(groups))
    }

    /// Sees to it that the sets of servers which a batch refers to are written with it; returns their hashes.
    fn new_sets(&self, groups: &mut [Group]) -> HashSet<String> {
        let mut new: HashSet<String> = HashSet::new();
        for Pending { append, .. } in groups.iter_mut().flat_map(|group| &mut group.pending) {
            let sets = append.out.iter().filter_map(|out| out.servers.as_ref());
            append.sets = sets
                .filter(|set| {
                    !self.sets.contains_key(set.hash()) && new.insert(set.hash().to_owned())
                })
                .cloned()
                .collect();
        }
        new
    }

    /// Whether a batch has been written after all. It is one transaction: where its first room stands, all do. Of a room
    /// that is not held, the records of our users tell.
    async fn stands(&self, groups: &[Group], numbered: &[(u64, &Append)]) -> bool {
        let Some(first) = groups.first() else { return false };
        let Some((pos, append)) = numbered.get(first.pending.len() - 1) else { return false };
        if let Some(wanted) = &append.head {
            let head = self.database.head(&first.room.id).await;
            return matches!(head, Ok(Some(head)) if head.pos == *pos && head.tips == wanted.tips);
        }
        let Some(wanted) = append.mine.last() else { return false };
        let mine = self.database.mine(&wanted.user, &append.room).await;
        matches!(mine, Ok(Some(mine)) if mine.pos == *pos && mine.event == wanted.event)
    }

    /// Shows what is durable: first the rooms, then the position, then whoever waits.
    fn publish(&mut self, groups: Vec<Group>) -> Vec<u64> {
        let mut positions = Vec::with_capacity(groups.len());
        let mut stream = self.stream.writing();
        for group in groups {
            for Pending { append, mut look } in group.pending {
                self.pos += 1;
                look.pos = self.pos;
                let lines = lines_at(&append, self.pos);
                for line in &lines {
                    self.tally.count_resolved(&append.room, line);
                }
                let kept = append.fills.iter().chain(&append.events);
                for event in lines.iter().map(|line| &line.event).chain(kept) {
                    self.events.put(Arc::clone(event));
                }
                if append.head.is_some() {
                    group.room.install(Arc::new(look), lines, &append.events);
                }
                stream.show(self.pos, append);
            }
            positions.push(self.pos);
        }
        stream.publish();
        positions
    }

    /// Sees to it that the next `count` positions are this process's.
    async fn reserve(&mut self, count: u64) -> Result<(), StoreError> {
        if self.pos + count > self.reserved {
            let by = RESERVE.max(count);
            self.pos = self.database.reserve_positions(by).await?;
            self.reserved = self.pos + by;
        }
        Ok(())
    }
}
