//! The door for what others have said: judge an event against its own auth events, the state before it and the current
//! state, and settle where the room forks.
//!
//! The steps carry the specification's numbers:
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>. Steps 1 to 3 (format, signatures,
//! hash) are behind whoever calls: `matryx_core::event::open` does them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use matryx_core::{
    event::Pdu,
    room::{
        Judgement, StateEntry, StateKey, StateMap, difference, judge_by_auth_events,
        judge_by_state, resolve,
    },
};
use matryx_repository::{Before, Fork, StoreError, StoredEvent, Tip};
use ruma::{
    EventId, OwnedEventId, RoomId, events::StateEventType, room_version_rules::RoomVersionRules,
};

use super::{
    Look, Rooms, SendError, TipState,
    work::{Judged, Rows, Work},
};

/// By whom an event is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// By a server that brings it to everybody in the room, or because we asked for it.
    Transaction,
    /// By a server that leaves it to us to bring it to everybody: we are its resident, or its sender is one of our users.
    Handshake,
}

/// What became of an event that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It has been judged. Rejected and soft-failed events are kept, and shown to no client.
    Judged(Judgement),
    /// It was known already.
    Known(Judgement),
    /// These events have to be had first. Nothing is kept: the event can come again.
    Missing(Vec<OwnedEventId>),
}

impl Rooms {
    /// Judges an event and settles it into the room.
    pub(super) async fn hear(
        &self,
        pdu: &Arc<Pdu>,
        door: Door,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<Received, SendError> {
        let known = self.find(work, pdu.event_id()).await?;
        if let Some(known) = known.as_ref().filter(|known| known.before != Before::Unknown) {
            return Ok(Received::Known(known.fate.clone()));
        }
        let named: BTreeSet<&OwnedEventId> =
            pdu.prev_events().iter().chain(pdu.auth_events()).collect();
        let found = self.find_all(work, named.iter().map(|id| &***id)).await?;
        // What allows an event may be an outlier; of what it follows, the state has to be known.
        let has = |id: &OwnedEventId| {
            let event = found.get(id);
            event.is_some_and(|event| event.before != Before::Unknown)
                || (event.is_some() && !pdu.prev_events().contains(id))
        };
        let missing: Vec<OwnedEventId> = named.into_iter().filter(|id| !has(id)).cloned().collect();
        if !missing.is_empty() {
            return Ok(Received::Missing(missing));
        }

        let state = self.state_before(pdu, work).await?;
        let fate = self.judge_received(pdu, &found, &state, work).await?;
        if door == Door::Handshake && fate != Judgement::Accepted {
            // Whoever brings it is told, and nobody else has it: there is nothing to keep.
            return Ok(Received::Judged(fate));
        }
        let (before, fork) = place(pdu, &work.look, &state);
        rows.forks.extend(fork);
        work.before.insert(pdu.event_id().clone(), state.clone());
        if fate != Judgement::Accepted {
            let mut event = StoredEvent {
                pdu: Arc::clone(pdu),
                n: None,
                fate: fate.clone(),
                before,
                replaces: None,
                redacted_by: None,
                sent: None,
            };
            if matches!(fate, Judgement::Rejected(_)) {
                event.pdu = Arc::new(Pdu::clone(pdu).into_rejected());
            }
            let event = Arc::new(event);
            work.fresh.insert(pdu.event_id().clone(), Arc::clone(&event));
            rows.events.push(event);
            return Ok(Received::Judged(fate));
        }
        self.apply_redaction(pdu, work, rows).await?;
        let mut judged = self.settle_fork(pdu, before, state, work).await?;
        judged.onward = door == Door::Handshake;
        judged.outlier = known.is_some();
        work.settle(judged, self.server_name(), rows);
        if let Some(redaction) = self.early_redaction(pdu.event_id(), work).await? {
            self.apply_redaction(&redaction, work, rows).await?;
        }
        Ok(Received::Judged(fate))
    }

    /// Steps 4 to 6.
    async fn judge_received(
        &self,
        pdu: &Arc<Pdu>,
        found: &HashMap<OwnedEventId, Arc<StoredEvent>>,
        before: &StateMap,
        work: &mut Work,
    ) -> Result<Judgement, SendError> {
        let rules = Arc::clone(&work.look.rules);
        // 4. Passes the authorization rules based on the event's auth events, else it is rejected.
        // Since version 12 an event names its create event by the room's id.
        let create = work.look.law.create.as_ref();
        let fetch = |id: &EventId| {
            let named = found.get(id).map(|event| &event.pdu);
            named.or(create.filter(|create| create.event_id() == id)).cloned()
        };
        if let Err(why) = judge_by_auth_events(pdu, &rules, &fetch) {
            return Ok(Judgement::Rejected(format!("by its auth events: {why}")));
        }
        // 5. … based on the state before the event, else it is rejected.
        if let Err(why) = self.judge_at(pdu, before, &rules, work).await? {
            return Ok(Judgement::Rejected(format!("by the state before it: {why}")));
        }
        // 6. … based on the current state, else it is soft-failed.
        let current = work.look.state.clone();
        if let Err(why) = self.judge_at(pdu, &current, &rules, work).await? {
            return Ok(Judgement::SoftFailed(format!("by the current state: {why}")));
        }
        Ok(Judgement::Accepted)
    }

    /// Holds an event against a state.
    async fn judge_at(
        &self,
        pdu: &Arc<Pdu>,
        state: &StateMap,
        rules: &RoomVersionRules,
        work: &Work,
    ) -> Result<Result<(), String>, StoreError> {
        let keys = matryx_core::room::auth_keys(
            pdu.kind(),
            pdu.sender(),
            pdu.state_key(),
            pdu.content(),
            rules,
        );
        let mut keys = match keys {
            Ok(keys) => keys,
            Err(why) => return Ok(Err(why)),
        };
        keys.push(StateKey::create());
        let standing: Vec<(&StateKey, &OwnedEventId)> =
            keys.iter().filter_map(|key| Some((key, &state.get(key)?.event_id))).collect();
        let found = self.find_all(work, standing.iter().map(|(_, id)| &***id)).await?;
        let by_key: HashMap<&StateKey, &Arc<StoredEvent>> =
            standing.iter().filter_map(|(key, id)| Some((*key, found.get(*id)?))).collect();
        let look_up = |kind: &StateEventType, key: &str| {
            by_key.get(&StateKey::new(kind.clone(), key)).map(|event| Arc::clone(&event.pdu))
        };
        Ok(judge_by_state(pdu, rules, &look_up))
    }

    /// The state before an event: after its one predecessor, or resolved from the states after several.
    async fn state_before(&self, pdu: &Pdu, work: &Work) -> Result<StateMap, SendError> {
        let prev: BTreeSet<&OwnedEventId> = pdu.prev_events().iter().collect();
        let tips: BTreeSet<&OwnedEventId> =
            work.look.tips.iter().map(|tip| &tip.tip.event_id).collect();
        if prev == tips {
            return Ok(work.look.state.clone());
        }
        let mut forks = Vec::with_capacity(prev.len());
        for id in prev {
            let tip = work.look.tips.iter().find(|tip| tip.tip.event_id == *id);
            let state = match tip {
                Some(tip) => tip.state.clone(),
                None => match work.before.get(id) {
                    Some(before) => after(before, work.fresh.get(id).map(|event| &**event)),
                    None => self.state_after(id).await?.unwrap_or_default(),
                },
            };
            forks.push(state);
        }
        self.resolved(forks, work).await
    }

    /// The state after a stored event.
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
                let fork =
                    self.database().fork(id).await?.ok_or_else(|| StoreError::Inconsistent {
                        table: "fork",
                        row: id.to_string(),
                        why: "the state before the event is not kept".to_owned(),
                    })?;
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
        match self.in_memory(room).and_then(|room| room.look_at_line(n)) {
            Some(look) => Ok(look.state.clone()),
            None => self.database().state_at(room, n, None).await,
        }
    }

    /// What an accepted event makes of the extremities and of the current state.
    async fn settle_fork(
        &self,
        pdu: &Arc<Pdu>,
        before: Before,
        state: StateMap,
        work: &Work,
    ) -> Result<Judged, SendError> {
        let own = StoredEvent {
            pdu: Arc::clone(pdu),
            n: None,
            fate: Judgement::Accepted,
            before,
            replaces: None,
            redacted_by: None,
            sent: None,
        };
        let state = after(&state, Some(&own));
        let tip = Tip { event_id: pdu.event_id().clone(), depth: pdu.depth() };
        let mut tips: Vec<TipState> = work
            .look
            .tips
            .iter()
            .filter(|tip| !pdu.prev_events().contains(&tip.tip.event_id))
            .cloned()
            .collect();
        tips.push(TipState { tip, state });
        let forks = tips.iter().map(|tip| tip.state.clone()).collect();
        let mut with_own = work.clone();
        with_own.fresh.insert(pdu.event_id().clone(), Arc::new(own));
        let current = self.resolved(forks, &with_own).await?;
        let changes = difference(&work.look.state, &current);
        let ids = changes.iter().filter_map(|change| Some(&*change.new.as_ref()?.event_id));
        let arrivals = self.find_all(&with_own, ids).await?;
        Ok(Judged {
            pdu: Arc::clone(pdu),
            before,
            sent: None,
            onward: false,
            tips,
            tip: None,
            changes,
            arrivals: arrivals.into_values().map(|event| Arc::clone(&event.pdu)).collect(),
            outlier: false,
        })
    }

    /// One state from several, resolved on the blocking pool.
    pub(super) async fn resolved(
        &self,
        mut forks: Vec<StateMap>,
        work: &Work,
    ) -> Result<StateMap, SendError> {
        forks.dedup_by(|a, b| a.ptr_eq(b) || difference(a, b).is_empty());
        if let [only] = forks.as_slice() {
            return Ok(only.clone());
        }
        let mut known: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::new();
        let mut wanted: HashSet<OwnedEventId> = conflicted(&forks);
        loop {
            self.load_chains(&mut known, wanted, work).await?;
            let (rules, states) = (Arc::clone(&work.look.rules), forks.clone());
            let task = tokio::task::spawn_blocking(move || {
                let missed = Mutex::new(HashSet::new());
                let fetch = |id: &EventId| {
                    let found = known.get(id).cloned();
                    if found.is_none() {
                        let mut missed = missed.lock().unwrap_or_else(PoisonError::into_inner);
                        missed.insert(id.to_owned());
                    }
                    found
                };
                let state = resolve(&rules, &states, &fetch);
                let missed = missed.into_inner().unwrap_or_else(PoisonError::into_inner);
                (state, missed, known)
            });
            let (state, missed, had) = task.await.map_err(|_| SendError::Panicked)?;
            let before = had.len();
            known = had;
            // The resolution names what it misses; it is run again as long as some of that can be had.
            self.load_chains(&mut known, missed, work).await?;
            if known.len() == before {
                return state.map_err(|why| {
                    StoreError::Inconsistent {
                        table: "event",
                        row: work.look.room_id.to_string(),
                        why: format!("the room's forks can't be resolved: {why}"),
                    }
                    .into()
                });
            }
            wanted = HashSet::new();
        }
    }

    /// Brings these events and everything that they rest on to hand.
    async fn load_chains(
        &self,
        known: &mut HashMap<OwnedEventId, Arc<Pdu>>,
        mut wanted: HashSet<OwnedEventId>,
        work: &Work,
    ) -> Result<(), StoreError> {
        while !wanted.is_empty() {
            let found = self.find_all(work, wanted.iter().map(|id| &**id)).await?;
            wanted = found
                .values()
                .flat_map(|event| event.pdu.auth_events())
                .filter(|id| !known.contains_key(*id) && !found.contains_key(*id))
                .cloned()
                .collect();
            known.extend(found.into_iter().map(|(id, event)| (id, Arc::clone(&event.pdu))));
        }
        Ok(())
    }

    /// An event of this group, of memory or of the store.
    pub(super) async fn find(
        &self,
        work: &Work,
        id: &EventId,
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        match work.fresh.get(id) {
            Some(event) => Ok(Some(Arc::clone(event))),
            None => self.events().get(id).await,
        }
    }

    /// Those of these events that are known.
    async fn find_all<'a>(
        &self,
        work: &Work,
        ids: impl IntoIterator<Item = &'a EventId>,
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, StoreError> {
        let (fresh, stored): (Vec<&EventId>, Vec<&EventId>) =
            ids.into_iter().partition(|id| work.fresh.contains_key(*id));
        let mut found = self.events().get_all(stored).await?;
        for id in fresh {
            if let Some(event) = work.fresh.get(id) {
                found.insert(id.to_owned(), Arc::clone(event));
            }
        }
        Ok(found)
    }
}

/// The state after an event: a rejected event changes nothing.
fn after(before: &StateMap, event: Option<&StoredEvent>) -> StateMap {
    let mut state = before.clone();
    if let Some(event) = event
        && !matches!(event.fate, Judgement::Rejected(_))
        && let Some(key) = event.pdu.key()
    {
        let event_id = event.pdu.event_id().clone();
        state.insert(key, StateEntry { event_id, membership: event.pdu.membership() });
    }
    state
}

/// How the state before an event is kept: as a point of the log, or as the difference to one.
fn place(pdu: &Pdu, look: &Look, state: &StateMap) -> (Before, Option<Fork>) {
    let delta: Vec<_> =
        difference(&look.state, state).into_iter().map(|change| (change.key, change.new)).collect();
    if delta.is_empty() {
        return (Before::Log(look.n), None);
    }
    let fork = Fork { event_id: pdu.event_id().clone(), base: look.n, delta };
    (Before::Fork, Some(fork))
}

/// The events in which forks differ.
fn conflicted(forks: &[StateMap]) -> HashSet<OwnedEventId> {
    let Some((first, others)) = forks.split_first() else { return HashSet::new() };
    others
        .iter()
        .flat_map(|fork| difference(first, fork))
        .flat_map(|change| [change.new, change.old])
        .flatten()
        .map(|entry| entry.event_id)
        .collect()
}
