//! What a resident says of a room, judged: which of its events may be, and whether they are the room.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use matryx_core::{
    event::Pdu,
    room::{Judgement, StateEntry, StateKey, StateMap, judge_by_auth_events, judge_by_state},
};
use matryx_repository::StoredEvent;
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomVersionId, events::StateEventType,
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;

use super::{Import, ImportError, Ready, stored};

/// Judges what an import brings, event by event in the order in which they rest on one another.
pub(super) fn judge(
    import: Import,
    held: HashMap<OwnedEventId, Arc<StoredEvent>>,
    rules: &RoomVersionRules,
) -> Result<(Ready, Vec<Arc<StoredEvent>>), ImportError> {
    let Import { room_id, version, state, auth_chain, event } = import;
    let is_create = |pdu: &&Arc<Pdu>| pdu.key() == Some(StateKey::create());
    let create = state.iter().find(is_create).cloned();
    let create = create.ok_or_else(|| unfit("the state has no create event"))?;
    check_create(&create, &room_id, &version)?;
    let heard: HashSet<OwnedEventId> =
        state.iter().chain(&auth_chain).map(|pdu| pdu.event_id().clone()).collect();

    let mut judging = Judging {
        settled: held.into_iter().map(|(id, event)| (id, Arc::clone(&event.pdu))).collect(),
        judged: Vec::new(),
        rules,
    };
    let events = [&create].into_iter().chain(&state).chain(&auth_chain);
    let own_id = event.event_id();
    judging.all(events.filter(|pdu| pdu.room_id() == room_id && pdu.event_id() != own_id));
    let Judging { settled, judged, .. } = judging;

    let mut map = StateMap::new();
    for pdu in &state {
        if let Some(key) = pdu.key()
            && settled.get(pdu.event_id()).is_some_and(|pdu| !pdu.rejected())
            && !map.contains_key(&key)
        {
            let entry =
                StateEntry { event_id: pdu.event_id().clone(), membership: pdu.membership() };
            map.insert(key, entry);
        }
    }
    if map.get(&StateKey::create()).is_none_or(|entry| entry.event_id != *create.event_id()) {
        return Err(unfit("the room's create event is not one that can be"));
    }
    let at = |kind: &StateEventType, key: &str| {
        let entry = map.get(&StateKey::new(kind.clone(), key))?;
        settled.get(&entry.event_id).cloned()
    };
    let fetch = |id: &EventId| settled.get(id).cloned();
    judge_by_auth_events(&event, rules, &fetch)
        .and_then(|()| judge_by_state(&event, rules, &at))
        .map_err(|why| unfit(&format!("the join is not allowed in the room's state: {why}")))?;
    let own = event.key().ok_or_else(|| unfit("the join is no state event"))?;
    Ok((Ready { version, event, own, state: map, heard, rejudged: Vec::new() }, judged))
}

/// Events on their way to a fate.
struct Judging<'a> {
    /// Those that have one, or had one before; the rejected say so.
    settled: HashMap<OwnedEventId, Arc<Pdu>>,
    /// Those that got it here.
    judged: Vec<Arc<StoredEvent>>,
    rules: &'a RoomVersionRules,
}

impl Judging<'_> {
    /// Judges all events that rest on each other and on nothing that is missing. The create event is to be the first.
    fn all<'e>(&mut self, events: impl Iterator<Item = &'e Arc<Pdu>>) {
        let mut waiting: HashMap<&EventId, (&Arc<Pdu>, usize)> = HashMap::new();
        let mut followers: HashMap<&EventId, Vec<&EventId>> = HashMap::new();
        let mut free = VecDeque::new();
        for pdu in events {
            let id: &EventId = pdu.event_id();
            if self.settled.contains_key(id) || waiting.contains_key(id) {
                continue;
            }
            let rests_on: HashSet<&EventId> = pdu
                .auth_events()
                .iter()
                .map(|id| &**id)
                .filter(|id| !self.settled.contains_key(*id))
                .collect();
            waiting.insert(id, (pdu, rests_on.len()));
            if rests_on.is_empty() {
                free.push_back(id);
            }
            for other in rests_on {
                followers.entry(other).or_default().push(id);
            }
        }
        while let Some(id) = free.pop_front() {
            let Some((pdu, _)) = waiting.remove(id) else { continue };
            self.one(pdu);
            for follower in followers.remove(id).unwrap_or_default() {
                if let Some((_, count)) = waiting.get_mut(follower) {
                    *count -= 1;
                    if *count == 0 {
                        free.push_back(follower);
                    }
                }
            }
        }
    }

    fn one(&mut self, pdu: &Arc<Pdu>) {
        let settled = &self.settled;
        let verdict = judge_by_auth_events(pdu, self.rules, &|id| settled.get(id).cloned());
        let (pdu, fate) = match verdict {
            Ok(()) if !pdu.rejected() => (Arc::clone(pdu), Judgement::Accepted),
            Ok(()) => (Arc::clone(pdu), Judgement::Rejected("by itself".to_owned())),
            Err(why) => {
                let rejected = Pdu::clone(pdu).into_rejected();
                (Arc::new(rejected), Judgement::Rejected(format!("by its auth events: {why}")))
            }
        };
        self.settled.insert(pdu.event_id().clone(), Arc::clone(&pdu));
        self.judged.push(stored(&pdu, fate));
    }
}

/// A room is its create event: it must be of this room, and of the version that the join was made for.
fn check_create(
    create: &Pdu,
    room_id: &OwnedRoomId,
    version: &RoomVersionId,
) -> Result<(), ImportError> {
    #[derive(Deserialize)]
    struct Content {
        room_version: Option<RoomVersionId>,
    }
    if create.room_id() != room_id {
        let sentence = format!("the create event is one of {}", create.room_id());
        return Err(unfit(&sentence));
    }
    let said = create
        .content_as::<Content>()
        .map_err(|error| unfit(&format!("the create event cannot be read: {error}")))?
        .room_version
        .unwrap_or(RoomVersionId::V1);
    if said == *version {
        return Ok(());
    }
    Err(unfit(&format!("the room is of version {said}, and the join was made for {version}")))
}

fn unfit(why: &str) -> ImportError {
    ImportError::Unfit(why.to_owned())
}
