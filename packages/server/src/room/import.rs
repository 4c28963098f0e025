//! How a room that we join over federation comes to be held here.
//!
//! What another server says the room's state is, and everything that allows it, is judged and kept first; then the state
//! goes in under an epoch that nobody reads, all of it in chunks that can be repeated. One small append through the room's
//! lane, with the join's line, makes it current. A break in between leaves nothing that anybody sees.
//!
//! Where the room was held before, its old lines stay what they were. The new line says that something before it is
//! missing, and events of ours that nobody seems to have heard of stay extremities.

mod clear;
mod judge;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matryx_core::{
    event::Pdu,
    membership::Membership,
    room::{Change, Judgement, StateEntry, StateKey, StateMap, difference},
};
use matryx_repository::{Before, Fork, Mine, RoomHead, Source, StoreError, StoredEvent, Tip};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomVersionId};

use super::{
    Done, Look, Room, Rooms, SendError, TipState,
    lane::Outcome,
    place::delta,
    stripped,
    work::{Judged, Rows, Work, local_member},
};

/// A room as a server in it describes it to who joins it. All events have been opened: format, signatures and hashes are
/// right.
#[derive(Debug)]
pub struct Import {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version, as the join was made for.
    pub version: RoomVersionId,
    /// The state before the join.
    pub state: Vec<Arc<Pdu>>,
    /// What allows that state and the join.
    pub auth_chain: Vec<Arc<Pdu>>,
    /// The join.
    pub event: Arc<Pdu>,
}

/// Why a room could not be imported. Nothing of it can be seen.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// What the other server said cannot be the room.
    #[error("{0}")]
    Unfit(String),
    /// A user of ours is in the room: it is held, and events come in by the other door.
    #[error("users of this server are in the room already")]
    Held,
    /// The server failed.
    #[error(transparent)]
    Failed(#[from] SendError),
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// An import that has been judged, and whose events are kept.
pub(super) struct Ready {
    version: RoomVersionId,
    event: Arc<Pdu>,
    /// The member key of who joins.
    own: StateKey,
    /// The state before the join.
    state: StateMap,
    /// All events that came with it, by which it is known what others have heard of.
    heard: HashSet<OwnedEventId>,
    /// Those that were kept before without having been judged.
    rejudged: Vec<Arc<StoredEvent>>,
}

impl Ready {
    /// How the state before the join is kept: where the room was held before, as what differs from the state at the join's line.
    fn place(&self, was: &Look, current: &StateMap) -> (Before, Option<Fork>) {
        if was.n == 0 {
            return (Before::Log(0), None);
        }
        let event_id = self.event.event_id().clone();
        let delta = delta(current, &self.state);
        (Before::Fork, Some(Fork { event_id, base: was.n + 1, delta, like: None }))
    }
}

impl Rooms {
    /// Takes in a room, with the join of a user of ours as its newest line.
    ///
    /// Events of the state that are not allowed by what they rest on, or that rest on what is missing, are left out.
    ///
    /// # Errors
    /// When that leaves no state of this room in which the join is allowed, when we are in the room, or when the database
    /// fails. It can be done again.
    pub async fn import(&self, import: Import) -> Result<Done, ImportError> {
        let room_id = import.room_id.clone();
        let version = import.version.clone();
        let rules = super::rooms::rules_of(&version).map_err(SendError::from)?;
        let room = self.lane(&room_id).await?;
        let held = self.held_already(&import, room.look().n > 0).await?;
        let unjudged = self.held_unjudged(&import).await?;
        let judging = Arc::clone(&rules);
        let task = tokio::task::spawn_blocking(move || judge::judge(import, held, &judging));
        let (mut ready, events) = task.await.map_err(|_| SendError::Panicked)??;
        // What is kept already stays as it is, but for an invite that came before its room.
        let rejudged = events.iter().filter(|event| unjudged.contains(event.pdu.event_id()));
        ready.rejudged = rejudged.cloned().collect();
        match self.take_in_judged(&room, ready, events).await {
            Ok((Outcome::Said(events), pos)) => {
                self.memory().use_lately(&room);
                // What this leaves behind is in nobody's way, and goes with the next start.
                if let Err(error) = self.has_become(&room).await {
                    tracing::warn!(%error, room = %room_id, "import.not_ended");
                }
                Ok(Done { events, pos })
            }
            taken => {
                if let Err(error) = self.clear(&room).await {
                    tracing::warn!(%error, room = %room_id, "import.not_cleared");
                }
                taken?;
                Err(ImportError::Held)
            }
        }
    }

    async fn take_in_judged(
        &self,
        room: &Arc<Room>,
        ready: Ready,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<(Outcome, u64), SendError> {
        let (database, join) = (self.database(), ready.event.event_id().clone());
        database.begin_import(&room.id, &join).await?;
        database.learn(&room.id, &join, &events, self.server_name()).await?;
        drop(events);
        self.adopted(room, ready).await
    }

    /// Those events that are kept already and that the import rests on: all that it brings if the room was held before, and
    /// what it leaves out.
    async fn held_already(
        &self,
        import: &Import,
        before: bool,
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, StoreError> {
        let all = || import.state.iter().chain(&import.auth_chain);
        let brought: HashSet<&EventId> = all().map(|pdu| &**pdu.event_id()).collect();
        let named: HashSet<&EventId> = all()
            .chain([&import.event])
            .flat_map(|pdu| pdu.auth_events())
            .map(|id| &**id)
            .collect();
        let wanted = named.iter().filter(|id| before || !brought.contains(*id)).copied();
        let brought = brought.iter().filter(|_| before).copied();
        let mut held = self.events().get_all(wanted.chain(brought).collect::<HashSet<_>>()).await?;
        held.retain(|_, event| event.is_judged());
        Ok(held)
    }

    /// Those events of the import that came before the room: they are about users of ours.
    async fn held_unjudged(&self, import: &Import) -> Result<HashSet<OwnedEventId>, StoreError> {
        let ours = |pdu: &&Arc<Pdu>| {
            pdu.key().is_some_and(|key| local_member(&key, self.server_name()).is_some())
        };
        let ours = import.state.iter().chain(&import.auth_chain).filter(ours);
        let ids: HashSet<&EventId> = ours.map(|pdu| &**pdu.event_id()).collect();
        let mut held = self.events().get_all(ids).await?;
        held.retain(|_, event| !event.is_judged());
        Ok(held.into_keys().collect())
    }

    /// Makes an import current. In the lane, so that nothing else happens in the room meanwhile.
    pub(super) async fn adopt(
        &self,
        ready: &Ready,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<Outcome, SendError> {
        let ours = self.server_name();
        if work.look.servers.contains_key(ours) {
            return Ok(Outcome::Held);
        }
        for event in &ready.rejudged {
            work.fresh.insert(event.pdu.event_id().clone(), Arc::clone(event));
        }
        rows.events.extend(ready.rejudged.iter().cloned());
        let was = work.look.clone();
        let tips = self.tips_after(&was, ready).await?;
        let current = self.current_after(&tips, ready, work).await?;
        work.look = self.put_ahead(&was, ready, &current).await?;
        work.events.clear();
        let known = self.find(work, ready.event.event_id()).await?;
        let (before, fork) = ready.place(&was, &current);
        rows.forks.extend(fork);
        let change = Change {
            key: ready.own.clone(),
            new: current.get(&ready.own).cloned(),
            old: ready.state.get(&ready.own).cloned(),
        };
        work.settle(
            Judged {
                pdu: Arc::clone(&ready.event),
                before,
                sent: None,
                onward: false,
                tips,
                tip: None,
                changes: vec![change],
                arrivals: Vec::new(),
                known,
            },
            ours,
            rows,
        );
        self.mark_gap(&ready.event, work, rows).await?;
        let others = difference(&was.state, &current);
        for change in others.into_iter().filter(|change| change.key != ready.own) {
            if let Some(mine) = self.record_in(change, was.n, work).await? {
                work.write(mine, rows);
            }
        }
        Ok(Outcome::Said(vec![ready.event.event_id().clone()]))
    }

    /// The extremities after the join: it, and what [`untold`](Self::untold) leaves.
    async fn tips_after(&self, was: &Look, ready: &Ready) -> Result<Vec<TipState>, StoreError> {
        let mut tips = self.untold(was, ready).await?;
        let tip = Tip { event_id: ready.event.event_id().clone(), depth: ready.event.depth() };
        tips.push(TipState { tip, state: with(&ready.state, &ready.event) });
        Ok(tips)
    }

    /// What these extremities, of which the join is one, make of the current state.
    async fn current_after(
        &self,
        tips: &[TipState],
        ready: &Ready,
        work: &Work,
    ) -> Result<StateMap, SendError> {
        let forks = tips.iter().map(|tip| tip.state.clone()).collect();
        // The join itself is in no store yet.
        let mut knowing = work.clone();
        let event = stored(&ready.event, Judgement::Accepted);
        knowing.fresh.insert(ready.event.event_id().clone(), event);
        self.resolved(forks, &knowing).await
    }

    /// The extremities that stay: state of ours that nobody who told us of the room seems to have heard of, such as that
    /// our last user had left.
    async fn untold(&self, was: &Look, ready: &Ready) -> Result<Vec<TipState>, StoreError> {
        let ids = was.tips.iter().map(|tip| &*tip.tip.event_id);
        let events = self.events().get_all(ids).await?;
        let untold = |tip: &&TipState| {
            let event = events.get(&tip.tip.event_id);
            !ready.heard.contains(&tip.tip.event_id)
                && event.is_some_and(|event| {
                    event.pdu.sender().server_name() == self.server_name()
                        && event.pdu.state_key().is_some()
                })
        };
        Ok(was.tips.iter().filter(untold).cloned().collect())
    }

    /// Writes the state under a new epoch, and what is different in it as the versions of a line that is still to come. The
    /// own key of who joins comes with that line.
    async fn put_ahead(
        &self,
        was: &Look,
        ready: &Ready,
        current: &StateMap,
    ) -> Result<Look, StoreError> {
        let (room, database) = (&was.room_id, self.database());
        let head = (was.n > 0).then(|| was.head());
        database.tidy(room, head.as_ref()).await?;
        let epoch = was.epoch + 1;
        let others = |(key, _): &(StateKey, StateEntry)| *key != ready.own;
        let entries: Vec<_> = current
            .iter()
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .filter(others)
            .collect();
        database.put_state(room, epoch, &entries).await?;
        drop(entries);
        // A room that comes here for the first time has its state from line 0 on, before the join.
        let (n, state) = if was.n == 0 { (0, &ready.state) } else { (was.n + 1, current) };
        let mut versions = delta(&was.state, state);
        versions.retain(|(key, _)| n == 0 || *key != ready.own);
        database.put_versions(room, n, &versions).await?;
        let head =
            RoomHead { version: ready.version.clone(), epoch, tips: Vec::new(), ..was.head() };
        let mut look = self.load(head).await?;
        if let Some(entry) = ready.state.get(&ready.own) {
            let (key, new) = (ready.own.clone(), Some(entry.clone()));
            look.apply(&[Change { key, new, old: None }]);
        }
        Ok(look)
    }

    /// The record of a local user who has become something else in the room, or of whom we hear first: what they were told
    /// already is not told again, and what was over before we came is not news.
    async fn record_in(
        &self,
        change: Change,
        left: i64,
        work: &mut Work,
    ) -> Result<Option<Mine>, SendError> {
        let Some(user) = local_member(&change.key, self.server_name()) else { return Ok(None) };
        if let Some(entry) = &change.new
            && let Some(event) = self.find(work, &entry.event_id).await?
        {
            let needed = stripped::needed(&work.look, &event.pdu);
            self.fetch(work, &needed).await?;
        }
        let Some(mine) = work.record(&change, work.look.n, self.server_name()) else {
            return Ok(None);
        };
        let known = match work.mine.get(&user) {
            Some(known) => Some(Arc::clone(known)),
            None => self.stream().standing(&user).await?.rooms.get(&mine.room).cloned(),
        };
        let gone = |membership| matches!(membership, Membership::Left | Membership::Banned);
        Ok(match known {
            Some(known) if known.event == mine.event && gone(mine.membership) => None,
            Some(known) if known.event == mine.event && known.membership == mine.membership => {
                let (pos, stripped) = (known.pos, known.stripped.clone());
                Some(Mine { pos, stripped, forgotten: known.forgotten, ..mine })
            }
            // They may read the room as of when they left it.
            Some(known) if gone(known.membership) && gone(mine.membership) => {
                Some(Mine { n: known.n, forgotten: known.forgotten, ..mine })
            }
            Some(_) if gone(mine.membership) => Some(Mine { n: left, ..mine }),
            // They have declined it, and the room is still to be told.
            Some(known)
                if gone(known.membership)
                    && known.source != Source::Room
                    && mine.membership != Membership::Joined =>
            {
                None
            }
            None if gone(mine.membership) => None,
            _ => Some(mine),
        })
    }
}

/// An event without a place in the room.
fn stored(pdu: &Arc<Pdu>, fate: Judgement) -> Arc<StoredEvent> {
    Arc::new(StoredEvent {
        pdu: Arc::clone(pdu),
        n: None,
        fate,
        before: Before::Unknown,
        replaces: None,
        redacted_by: None,
        sent: None,
    })
}

/// The state after an accepted event.
fn with(state: &StateMap, event: &Pdu) -> StateMap {
    let mut state = state.clone();
    if let Some(key) = event.key() {
        let (event_id, membership) = (event.event_id().clone(), event.membership());
        state.insert(key, StateEntry { event_id, membership });
    }
    state
}
