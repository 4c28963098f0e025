//! All rooms of the server: found, created, spoken in.

use std::sync::Arc;

use matryx_core::{
    event::SigningKey,
    refusal::{Refusal, RefusalKind},
    room::StateMap,
};
use matryx_repository::{Database, Line, RoomHead, StoreError, TransactionKey};
use moka::sync::Cache;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName,
    room_version_rules::RoomVersionRules,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Aside, Done, Events, Intent, Law, Look, Room, SendError, Stream, Tally, TipState,
    committer::{Committer, Group, Waiting},
    import::Ready,
    lane::{Ask, Job, Outcome},
    memory::Memory,
    presence::Presence,
};
use crate::clock::Clock;

/// How many requests' answers are remembered, so that repeating one costs no read.
const ANSWERS: u64 = 100_000;

/// The rooms. Cheap to clone.
#[derive(Clone)]
pub struct Rooms(Arc<Inner>);

struct Inner {
    database: Database,
    server_name: OwnedServerName,
    key: Arc<SigningKey>,
    clock: Clock,
    events: Events,
    stream: Arc<Stream>,
    committer: mpsc::UnboundedSender<Waiting>,
    tally: Arc<Tally>,
    memory: Memory,
    answers: Cache<TransactionKey, OwnedEventId>,
    presence: Presence,
}

impl Rooms {
    /// Opens the rooms that are in the store and starts the committer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open(
        database: Database,
        server_name: OwnedServerName,
        key: Arc<SigningKey>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let events = Events::new(database.clone());
        let tally = Arc::new(Tally::default());
        let (stream, committer) = Committer::start(
            database.clone(),
            events.clone(),
            |pos| Arc::new(Stream::new(database.clone(), pos)),
            Arc::clone(&tally),
        )
        .await?;
        let rooms = Self(Arc::new(Inner {
            database,
            server_name,
            key,
            clock,
            events,
            stream,
            committer,
            tally,
            memory: Memory::new(),
            answers: Cache::new(ANSWERS),
            presence: Presence::new(),
        }));
        let cleared = rooms.clear_all().await;
        cleared.map_err(|error| StoreError::Engine(error.to_string()))?;
        Ok(rooms)
    }

    /// Says something in a room, through its lane. When this returns, it is durable and visible to everybody.
    ///
    /// # Errors
    /// The rule that forbids it, or why the server could not.
    pub async fn send(&self, room: &RoomId, intent: Intent) -> Result<Done, SendError> {
        let room = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        self.send_in(&room, intent).await
    }

    /// Creates a room: everything that is said at first, in one append.
    ///
    /// # Errors
    /// The rule that forbids it, or why the server could not. There is no room then.
    pub async fn create(
        &self,
        room_id: OwnedRoomId,
        version: RoomVersionId,
        intent: Intent,
    ) -> Result<Done, SendError> {
        let rules = rules_of(&version)?;
        let room = {
            let _loading = self.0.memory.loading(&room_id).await;
            if self.0.memory.get(&room_id).is_some()
                || self.0.database.head(&room_id).await?.is_some()
            {
                let sentence = format!("the room {room_id} exists already");
                return Err(Refusal { kind: RefusalKind::RoomInUse, sentence }.into());
            }
            self.0.memory.keep(Look::empty(room_id, version, rules))
        };
        let done = self.send_in(&room, intent).await;
        if room.look().n == 0 {
            self.0.memory.forget(&room.id);
        }
        done
    }

    /// Changes what a local user is to a room beside the room's own events, through its lane: the room need not be held
    /// here. When this returns, it is durable and visible.
    ///
    /// # Errors
    /// The rule that forbids it, or why the server could not.
    pub async fn aside(&self, room: &RoomId, aside: Aside) -> Result<Done, SendError> {
        let room = self.lane(room).await?;
        self.done(&room, Ask::Aside(aside)).await
    }

    /// A room that is held here, in memory or in the store.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn room(&self, id: &RoomId) -> Result<Option<Arc<Room>>, StoreError> {
        if let Some(room) = self.0.memory.get(id) {
            self.0.memory.touch(id);
            return Ok(exists(room));
        }
        let _loading = self.0.memory.loading(id).await;
        if let Some(room) = self.0.memory.get(id) {
            return Ok(exists(room));
        }
        let Some(head) = self.0.database.head(id).await? else { return Ok(None) };
        let look = self.load(head).await?;
        Ok(Some(self.0.memory.keep(look)))
    }

    /// The lane of any room, held here or not. One that is not held has a look without lines.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn lane(&self, id: &RoomId) -> Result<Arc<Room>, StoreError> {
        if let Some(room) = self.0.memory.get(id) {
            return Ok(room);
        }
        let _loading = self.0.memory.loading(id).await;
        if let Some(room) = self.0.memory.get(id) {
            return Ok(room);
        }
        let look = match self.0.database.head(id).await? {
            Some(head) => self.load(head).await?,
            None => Look::unknown(id.to_owned()),
        };
        Ok(self.0.memory.keep(look))
    }

    /// A room's timeline from line `from` to line `to`, oldest first.
    ///
    /// # Errors
    /// When the database fails; it is read only for what has passed out of memory.
    pub async fn lines(
        &self,
        room: &Room,
        from: i64,
        to: i64,
    ) -> Result<Vec<Arc<Line>>, StoreError> {
        if let Some(lines) = room.lines(from, to) {
            return Ok(lines);
        }
        let lines = self.0.database.lines(&room.id, from, to).await?;
        Ok(lines.into_iter().map(Arc::new).collect())
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// What is published.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.0.stream
    }

    /// How much has been written.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// The store.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// The name of this server.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    /// What our events are signed with.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.0.key
    }

    /// Who of which server was what, in the rooms that other servers ask about.
    pub(super) fn presence(&self) -> &Presence {
        &self.0.presence
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn published(&self) -> u64 {
        self.0.stream.published()
    }

    /// The event that answered a request before, as far as it is remembered.
    pub(super) fn answered(&self, key: &TransactionKey) -> Option<OwnedEventId> {
        self.0.answers.get(key)
    }

    /// Hands a group to the committer; returns the position of its last append.
    pub(super) async fn commit(&self, group: Group) -> Result<u64, StoreError> {
        let answers: Vec<(TransactionKey, String)> = group
            .pending
            .iter()
            .flat_map(|pending| pending.append.transactions.iter().cloned())
            .collect();
        let closed = || StoreError::Engine("the committer has stopped".to_owned());
        let (reply, result) = oneshot::channel();
        self.0.committer.send(Waiting { group, reply }).map_err(|_| closed())?;
        let pos = result.await.map_err(|_| closed())??;
        for (key, event) in answers {
            if let Ok(event) = event.try_into() {
                self.0.answers.insert(key, event);
            }
        }
        Ok(pos)
    }

    async fn send_in(&self, room: &Arc<Room>, intent: Intent) -> Result<Done, SendError> {
        self.done(room, Ask::Send(intent)).await
    }

    async fn done(&self, room: &Arc<Room>, ask: Ask) -> Result<Done, SendError> {
        match self.ask(room, ask).await? {
            (Outcome::Said(events), pos) => Ok(Done { events, pos }),
            _ => Err(SendError::Panicked),
        }
    }

    /// Brings what has been imported through a room's lane.
    pub(super) async fn adopted(
        &self,
        room: &Arc<Room>,
        ready: Ready,
    ) -> Result<(Outcome, u64), SendError> {
        self.ask(room, Ask::Import(Box::new(ready))).await
    }

    pub(super) async fn ask(
        &self,
        room: &Arc<Room>,
        ask: Ask,
    ) -> Result<(Outcome, u64), SendError> {
        let (reply, result) = oneshot::channel();
        self.enqueue(room, Job { ask, reply });
        result.await.map_err(|_| SendError::Closed)?
    }

    /// Builds a room's look from the store.
    pub(super) async fn load(&self, head: RoomHead) -> Result<Look, StoreError> {
        let database = &self.0.database;
        let state = database.state(&head.room_id, head.epoch).await?;
        let gaps = database.gaps(&head.room_id).await?;
        let rules = rules_of(&head.version).map_err(|_| {
            StoreError::inconsistent(
                "room",
                &head.room_id,
                format_args!("room version {} is not served", head.version),
            )
        })?;
        let mut look = Look {
            n: head.n,
            pos: head.pos,
            epoch: head.epoch,
            gaps: gaps.into_iter().map(|gap| (gap.n, gap)).collect(),
            state,
            ..Look::empty(head.room_id, head.version, rules)
        };
        look.count();
        let keys = Law::keys();
        for (key, event) in self.0.events.state(&look, &keys).await? {
            look.law.take(&key, Some(event), &look.rules.clone());
        }
        let single = head.tips.len() == 1;
        for tip in head.tips {
            let state: StateMap = if single {
                look.state.clone()
            } else {
                self.state_after(&tip.event_id).await?.unwrap_or_default()
            };
            look.tips.push(TipState { tip, state });
        }
        Ok(look)
    }

    /// The rooms in memory.
    pub(super) fn memory(&self) -> &Memory {
        &self.0.memory
    }
}

/// A room whose creation has not been committed does not exist yet.
fn exists(room: Arc<Room>) -> Option<Arc<Room>> {
    (room.look().n > 0).then_some(room)
}

/// What a room version means.
pub(super) fn rules_of(version: &RoomVersionId) -> Result<Arc<RoomVersionRules>, Refusal> {
    version.rules().map(Arc::new).ok_or_else(|| Refusal {
        kind: RefusalKind::UnsupportedRoomVersion,
        sentence: format!("this server does not support room version {version}"),
    })
}
