//! Where an event stands in its room's graph: the state before it, and how that is kept.

use std::collections::{BTreeMap, BTreeSet};

use matryx_core::{
    event::Pdu,
    room::{Judgement, StateEntry, StateKey, StateMap, difference},
};
use matryx_repository::{Before, Fork, StoreError, StoredEvent};
use ruma::{EventId, OwnedEventId, RoomId};

use super::{Look, Rooms, SendError, receive::Given, work::Work};

/// What differs in more keys than these from the current state is written as the difference to what its predecessor has
/// written, where that is less. Else each event that follows an old one would cost as much as the room's whole state.
const SMALL: usize = 64;

/// Where an event stands.
pub(super) struct Stand {
    /// The state before it.
    pub(super) state: StateMap,
    /// The states after its predecessors, unless the state is the room's current one.
    after: Vec<(OwnedEventId, StateMap)>,
}

impl Rooms {
    /// The state before an event: after its one predecessor, or resolved from the states after several.
    pub(super) async fn state_before(
        &self,
        pdu: &Pdu,
        given: &Given,
        work: &Work,
    ) -> Result<Stand, SendError> {
        let prev: BTreeSet<&OwnedEventId> = pdu.prev_events().iter().collect();
        let tips: BTreeSet<&OwnedEventId> =
            work.look.tips.iter().map(|tip| &tip.tip.event_id).collect();
        if prev == tips {
            return Ok(Stand { state: work.look.state.clone(), after: Vec::new() });
        }
        let mut after = Vec::with_capacity(prev.len());
        for id in prev {
            let known = self.known_after(id, work).await?;
            let told = known.or_else(|| given.after.get(id).cloned());
            after.extend(told.map(|state| (id.clone(), sharing(&work.look.state, &state))));
        }
        let forks = after.iter().map(|(_, state)| state.clone()).collect();
        Ok(Stand { state: self.resolved(forks, work).await?, after })
    }

    /// The state after an event that has its place in the room; `None` if we hold no such event.
    pub(super) async fn known_after(
        &self,
        id: &EventId,
        work: &Work,
    ) -> Result<Option<StateMap>, StoreError> {
        if let Some(tip) = work.look.tips.iter().find(|tip| tip.tip.event_id == id) {
            return Ok(Some(tip.state.clone()));
        }
        match work.before.get(id) {
            Some(before) => Ok(Some(after(before, work.fresh.get(id).map(|event| &**event)))),
            None => self.state_after(id).await,
        }
    }

    /// The state after a stored event; `None` if there is no such event, or it came without its place.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, StoreError> {
        let Some(event) = self.events().get(id).await? else { return Ok(None) };
        let before = self.state_before_event(&event).await?;
        Ok(before.map(|before| after(&before, Some(&event))))
    }

    /// The state before a stored event; `None` if it is not known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_before_event(
        &self,
        event: &StoredEvent,
    ) -> Result<Option<StateMap>, StoreError> {
        let (room, id) = (event.pdu.room_id(), event.pdu.event_id());
        match event.before {
            Before::Log(n) => self.state_at(room, n).await.map(Some),
            Before::Unknown => Ok(None),
            Before::Fork => {
                let fork = self.database().fork(id).await?.ok_or_else(|| not_kept(id))?;
                let mut state = self.state_at(room, fork.base).await?;
                for (key, entry) in fork.delta {
                    match entry {
                        Some(entry) => state.insert(key, entry),
                        None => state.remove(&key),
                    };
                }
                Ok(Some(state))
            }
        }
    }

    /// The room's current state as it was at line `n`: from memory if the room was looked at lately.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_at(&self, room: &RoomId, n: i64) -> Result<StateMap, StoreError> {
        match self.memory().get(room).and_then(|room| room.look_at_line(n)) {
            Some(look) => Ok(look.state.clone()),
            None => self.database().state_at(room, n, None).await,
        }
    }

    /// How the state before an event is kept.
    pub(super) async fn place(
        &self,
        pdu: &Pdu,
        stand: &Stand,
        work: &Work,
    ) -> Result<(Before, Option<Fork>), StoreError> {
        let (before, fork) = place(pdu, &work.look, &stand.state);
        let mut fork = match fork {
            Some(fork) if fork.delta.len() > SMALL => fork,
            small => return Ok((before, small)),
        };
        for (id, after) in &stand.after {
            let Some(mut nearer) = self.kept_after(id, work).await? else { continue };
            nearer.delta = one_a_key(nearer.delta.into_iter().chain(delta(after, &stand.state)));
            if nearer.delta.len() < fork.delta.len() {
                fork = Fork { event_id: pdu.event_id().clone(), ..nearer };
            }
        }
        if fork.delta.is_empty() && fork.like.is_none() {
            return Ok((Before::Log(fork.base), None));
        }
        Ok((Before::Fork, Some(fork)))
    }

    /// The state after an event of ours, as what is kept of it says it: the difference to a point of the log, or to what
    /// another event's row says.
    async fn kept_after(&self, id: &EventId, work: &Work) -> Result<Option<Fork>, StoreError> {
        let Some(event) = self.find(work, id).await? else { return Ok(None) };
        let mut fork = match event.before {
            Before::Unknown => return Ok(None),
            Before::Log(base) => {
                Fork { event_id: id.to_owned(), base, delta: Vec::new(), like: None }
            }
            Before::Fork => {
                let row = match work.forks.get(id) {
                    Some(fork) => Some(fork.clone()),
                    None => self.database().fork_row(id).await?,
                };
                let Some(row) = row else { return Ok(None) };
                match row.like {
                    Some(_) => row,
                    None => Fork { like: Some(id.to_owned()), delta: Vec::new(), ..row },
                }
            }
        };
        if let Some((key, entry)) = own(&event) {
            fork.delta.push((key, Some(entry)));
        }
        Ok(Some(fork))
    }
}

/// What an event makes of the state, if anything: a rejected event changes nothing.
fn own(event: &StoredEvent) -> Option<(StateKey, StateEntry)> {
    if matches!(event.fate, Judgement::Rejected(_)) {
        return None;
    }
    let (event_id, membership) = (event.pdu.event_id().clone(), event.pdu.membership());
    Some((event.pdu.key()?, StateEntry { event_id, membership }))
}

/// The state after an event.
pub(super) fn after(before: &StateMap, event: Option<&StoredEvent>) -> StateMap {
    let mut state = before.clone();
    if let Some((key, entry)) = event.and_then(own) {
        state.insert(key, entry);
    }
    state
}

/// How the state before an event is kept: as a point of the log, or as the difference to one.
pub(super) fn place(pdu: &Pdu, look: &Look, state: &StateMap) -> (Before, Option<Fork>) {
    let delta = delta(&look.state, state);
    if delta.is_empty() {
        return (Before::Log(look.n), None);
    }
    let fork = Fork { event_id: pdu.event_id().clone(), base: look.n, delta, like: None };
    (Before::Fork, Some(fork))
}

/// A state made of another one, so that the two share in memory what they have in common.
pub(super) fn sharing(with: &StateMap, state: &StateMap) -> StateMap {
    let mut shared = with.clone();
    for (key, entry) in delta(with, state) {
        match entry {
            Some(entry) => shared.insert(key, entry),
            None => shared.remove(&key),
        };
    }
    shared
}

/// What the keys that differ hold in the second of two states.
pub(super) fn delta(from: &StateMap, to: &StateMap) -> Vec<(StateKey, Option<StateEntry>)> {
    difference(from, to).into_iter().map(|change| (change.key, change.new)).collect()
}

/// The last that is said of each key.
fn one_a_key(
    delta: impl Iterator<Item = (StateKey, Option<StateEntry>)>,
) -> Vec<(StateKey, Option<StateEntry>)> {
    delta.collect::<BTreeMap<_, _>>().into_iter().collect()
}

fn not_kept(id: &EventId) -> StoreError {
    StoreError::inconsistent("fork", id, "the state before the event is not kept")
}
