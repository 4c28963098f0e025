//! The door for what others have said: judge an event against its own auth events, the state before it and the current
//! state, and settle where the room forks.
//!
//! The steps carry the specification's numbers:
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>. Steps 1 to 3 (format, signatures,
//! hash) are behind whoever calls: `matryx_core::event::open` does them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use matryx_core::{
    event::Pdu,
    room::{Judgement, StateKey, StateMap, difference, judge_by_auth_events, judge_by_state},
};
use matryx_repository::{Before, StoreError, StoredEvent, Tip};
use ruma::{EventId, OwnedEventId, events::StateEventType, room_version_rules::RoomVersionRules};

use super::{
    Look, Room, Rooms, SendError, TipState, acl,
    place::{Stand, after, sharing},
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
    /// It has been judged. What is soft-failed is kept, and so is what is rejected for good; no client is shown either.
    Judged(Judgement),
    /// It was known already.
    Known(Judgement),
    /// These events have to be had first. Nothing is kept: the event can come again.
    Missing(Vec<OwnedEventId>),
}

/// What another server says of the state at events that we do not hold.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The state after such an event. All that stands in it is held.
    pub after: HashMap<OwnedEventId, StateMap>,
}

impl Rooms {
    /// Judges an event and settles it into the room.
    pub(super) async fn hear(
        &self,
        pdu: &Arc<Pdu>,
        door: Door,
        given: &Given,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<Received, SendError> {
        if door == Door::Handshake {
            acl::may_bring(pdu, &work.look, self.server_name())?;
        }
        let known = self.find(work, pdu.event_id()).await?;
        // What came alone before, without its place, has to be judged in its place now. If its own auth events did not
        // allow it, that is final.
        let known = match known {
            Some(known) if known.awaits_place() => Some(known),
            Some(known) => return Ok(Received::Known(known.fate.clone())),
            None => None,
        };
        let pdu = known.as_ref().map_or(pdu, |known| &known.pdu);
        if pdu.prev_events().is_empty() {
            // Only a room's first event follows nothing. If it is ours, nothing can be before it that would have to be judged.
            let why = "it follows nothing, and is not the room's create event";
            return Ok(match known {
                Some(known) => Received::Known(known.fate.clone()),
                None => Received::Judged(Judgement::Rejected(why.to_owned())),
            });
        }
        let named: BTreeSet<&OwnedEventId> =
            pdu.prev_events().iter().chain(pdu.auth_events()).collect();
        let found = self.find_all(work, named.iter().map(|id| &***id)).await?;
        let missing = missing(pdu, &found, given);
        if let Some(known) = &known
            && (!missing.is_empty() || !given.after.is_empty())
            && self.has_stood(pdu).await?
        {
            // What we hold has come after it: as an extremity it would bring back what was then.
            return Ok(Received::Known(known.fate.clone()));
        }
        if !missing.is_empty() {
            return Ok(Received::Missing(missing));
        }
        let elsewhere = |id: &OwnedEventId| {
            found.get(id).is_some_and(|event| event.pdu.room_id() != work.look.room_id)
        };
        if let Some(id) = pdu.prev_events().iter().find(|id| elsewhere(id)) {
            // There is no state of this room before it, so that it can't be kept either.
            let why = format!("it follows {id}, which belongs to another room");
            return Ok(Received::Judged(Judgement::Rejected(why)));
        }

        let alone = judge_alone(pdu, &found, &work.look);
        if let Err(why) = &alone
            && !may_keep_rejected(pdu, known.as_deref(), given, &work.look)
        {
            // No state is read for what falls without one.
            return Ok(Received::Judged(Judgement::Rejected(why.clone())));
        }
        let stand = self.state_before(pdu, given, work).await?;
        let fate = match alone {
            Ok(()) => self.judge_received(pdu, &stand.state, given, work).await?,
            Err(why) => Judgement::Rejected(why),
        };
        let kept = match fate {
            Judgement::Accepted => true,
            // Whoever hands it in is told, and nobody else has it: there is nothing to keep.
            _ if door == Door::Handshake => false,
            Judgement::SoftFailed(_) => true,
            Judgement::Rejected(_) => may_keep_rejected(pdu, known.as_deref(), given, &work.look),
        };
        if !kept {
            return Ok(Received::Judged(fate));
        }
        let (before, fork) = self.place(pdu, &stand, work).await?;
        let Stand { state, .. } = stand;
        if let Some(fork) = fork {
            work.forks.insert(pdu.event_id().clone(), fork.clone());
            rows.forks.push(fork);
        }
        work.before.insert(pdu.event_id().clone(), state.clone());
        if fate != Judgement::Accepted {
            let mut event = StoredEvent::received(pdu, fate.clone(), before);
            event.redacted_by = known.as_ref().and_then(|known| known.redacted_by.clone());
            let event = Arc::new(event);
            work.fresh.insert(pdu.event_id().clone(), Arc::clone(&event));
            rows.events.push(event);
            return Ok(Received::Judged(fate));
        }
        self.apply_redaction(pdu, work, rows).await?;
        let mut judged = self.settle_fork(pdu, before, state, work).await?;
        judged.onward = door == Door::Handshake;
        judged.known.clone_from(&known);
        work.settle(judged, self.server_name(), rows);
        if !given.after.is_empty() {
            self.mark_gap(pdu, work, rows).await?;
        }
        if let Some(redaction) = self.early_redaction(pdu.event_id(), work).await? {
            self.apply_redaction(&redaction, work, rows).await?;
        }
        Ok(Received::Judged(fate))
    }

    /// Whether an event stands in the room's state, or has stood in it.
    async fn has_stood(&self, pdu: &Pdu) -> Result<bool, StoreError> {
        let Some(key) = pdu.key() else { return Ok(false) };
        let versions = self.database().versions(pdu.room_id(), &key).await?;
        let mut entries = versions.iter().filter_map(|version| version.entry.as_ref());
        Ok(entries.any(|entry| entry.event_id == *pdu.event_id()))
    }

    /// Steps 5 and 6.
    async fn judge_received(
        &self,
        pdu: &Arc<Pdu>,
        before: &StateMap,
        given: &Given,
        work: &mut Work,
    ) -> Result<Judgement, SendError> {
        let rules = Arc::clone(&work.look.rules);
        if let Err(why) = self.judge_before(pdu, before, work).await? {
            return Ok(Judgement::Rejected(why));
        }
        // 6. … based on the current state, else it is soft-failed.
        if given.after.is_empty() && before.ptr_eq(&work.look.state) {
            // Where the room is one line that is the state before it, by which it has passed.
            return Ok(Judgement::Accepted);
        }
        let mut current = work.look.state.clone();
        if !given.after.is_empty() {
            // What happened in the gap is current too, and all that we know of it is the state behind it.
            let mut forks: Vec<StateMap> =
                work.look.tips.iter().map(|tip| tip.state.clone()).collect();
            forks.push(before.clone());
            current = self.resolved(forks, work).await?;
        }
        if let Err(why) = self.judge_at(pdu, &current, &rules, work).await? {
            return Ok(Judgement::SoftFailed(format!("by the current state: {why}")));
        }
        Ok(Judgement::Accepted)
    }

    /// Step 5: holds an event against the state before it, else it is rejected.
    pub(super) async fn judge_before(
        &self,
        pdu: &Arc<Pdu>,
        before: &StateMap,
        work: &Work,
    ) -> Result<Result<(), String>, SendError> {
        let verdict = self.judge_at(pdu, before, &work.look.rules, work).await?;
        Ok(verdict.map_err(|why| format!("by the state before it: {why}")))
    }

    /// Whether a state that was told allows an event.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn allows(
        &self,
        room: &Room,
        state: &StateMap,
        event: &StoredEvent,
    ) -> Result<bool, SendError> {
        let judged = event.is_judged() && !matches!(event.fate, Judgement::Rejected(_));
        let work = Work::new(&room.look());
        Ok(judged && self.judge_before(&event.pdu, state, &work).await?.is_ok())
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

    /// What an accepted event makes of the extremities and of the current state.
    async fn settle_fork(
        &self,
        pdu: &Arc<Pdu>,
        before: Before,
        state: StateMap,
        work: &Work,
    ) -> Result<Judged, SendError> {
        let own = StoredEvent::received(pdu, Judgement::Accepted, before);
        let state = after(&sharing(&work.look.state, &state), Some(&own));
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
            known: None,
            tips,
            tip: None,
            changes,
            arrivals: arrivals.into_values().map(|event| Arc::clone(&event.pdu)).collect(),
        })
    }
}

/// Step 4: holds an event against the events that it names itself.
pub(super) fn judge_alone(
    pdu: &Arc<Pdu>,
    found: &HashMap<OwnedEventId, Arc<StoredEvent>>,
    look: &Look,
) -> Result<(), String> {
    // Since version 12 an event names its create event by the room's id.
    let create = look.law.create.as_ref();
    let fetch = |id: &EventId| {
        let named = found.get(id).map(|event| &event.pdu);
        named.or(create.filter(|create| create.event_id() == id)).cloned()
    };
    if pdu.rejected() {
        let why = "by itself: a field of it is too long, or who authorised it has not signed it";
        return Err(why.to_owned());
    }
    judge_by_auth_events(pdu, &look.rules, &fetch)
        .map_err(|why| format!("by its auth events: {why}"))
}

/// Whether the rejection of an event may be kept, which makes it final. What other servers tell of a state makes nothing final,
/// nor does it take away what has been accepted for what it allows: others rest on that. And servers that have never been in the
/// room leave nothing behind in it.
fn may_keep_rejected(pdu: &Pdu, known: Option<&StoredEvent>, given: &Given, look: &Look) -> bool {
    let sender = pdu.sender();
    let has_been_here = || {
        look.servers.contains_key(sender.server_name())
            || look.entry(&StateKey::member(sender)).is_some()
    };
    given.after.is_empty() && !known.is_some_and(StoredEvent::is_judged) && has_been_here()
}

/// What has to be had before an event can be judged: predecessors with their state, and auth events.
fn missing(
    pdu: &Pdu,
    found: &HashMap<OwnedEventId, Arc<StoredEvent>>,
    given: &Given,
) -> Vec<OwnedEventId> {
    let has_place =
        |id: &OwnedEventId| found.get(id).is_some_and(|event| event.before != Before::Unknown);
    let prev =
        pdu.prev_events().iter().filter(|id| !has_place(id) && !given.after.contains_key(*id));
    let auth = pdu.auth_events().iter().filter(|id| !found.contains_key(*id));
    let all: BTreeSet<&OwnedEventId> = prev.chain(auth).collect();
    all.into_iter().cloned().collect()
}
