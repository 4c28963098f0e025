//! What an event of others is held against: its own auth events, the state before it and the current state.
//!
//! The steps carry the specification's numbers:
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>. Steps 1 to 3 (format, signatures,
//! hash) come before: `matryx_core::event::open` does them.

use std::{collections::HashMap, sync::Arc};

use matryx_core::{
    event::Pdu,
    room::{Judgement, StateKey, StateMap, judge_by_auth_events, judge_by_state},
};
use matryx_repository::{StoreError, StoredEvent};
use ruma::{EventId, OwnedEventId, events::StateEventType};

use super::{Look, Room, Rooms, SendError, receive::Given, work::Work};

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

impl Rooms {
    /// Steps 5 and 6.
    pub(super) async fn judge_in_place(
        &self,
        pdu: &Arc<Pdu>,
        before: &StateMap,
        given: &Given,
        work: &Work,
    ) -> Result<Judgement, SendError> {
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
        if let Err(why) = self.judge_at(pdu, &current, work).await? {
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
        let verdict = self.judge_at(pdu, before, work).await?;
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
        work: &Work,
    ) -> Result<Result<(), String>, StoreError> {
        let rules = &work.look.rules;
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
}
