//! What events rest on, and what they follow: walks through a room's graph, for other servers that ask.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use matryx_core::{event::Pdu, room::Judgement};
use matryx_repository::{StoreError, StoredEvent};
use ruma::{
    EventId, OwnedEventId, RoomId, events::TimelineEventType, room_version_rules::RoomVersionRules,
};

use super::Rooms;

/// How many events a walk looks at beside those that it brings back.
const PASSED_BY: usize = 200;

/// A walk back through a room: where it starts and where it ends.
#[derive(Debug, Default)]
pub struct Walk {
    /// The events that it starts with; they are brought back too.
    pub from: Vec<OwnedEventId>,
    /// Events that are passed by, and behind which the walk does not go on.
    pub not: HashSet<OwnedEventId>,
    /// Events less deep than this are not brought back.
    pub min_depth: u64,
    /// How many events are brought back at most.
    pub limit: usize,
}

/// An event in the order of a walk: the deepest first, and of these the one that came last.
struct Step(Arc<StoredEvent>);

impl Rooms {
    /// The auth chain: the events that allow these, those that allow them, and so on to the create event. An event of
    /// `events` is only in it where it allows another. Sorted by depth.
    ///
    /// Since version 12 the create event allows everything without being named.
    /// <https://spec.matrix.org/v1.19/server-server-api/#auth-chain>
    ///
    /// # Errors
    /// When the database fails. What is not kept here is left out.
    pub async fn auth_chain<'a>(
        &self,
        rules: &RoomVersionRules,
        events: impl IntoIterator<Item = &'a Pdu>,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let mut chain: HashMap<OwnedEventId, Arc<StoredEvent>> = HashMap::new();
        let mut asked: HashSet<OwnedEventId> = HashSet::new();
        let mut wanted: Vec<OwnedEventId> = Vec::new();
        for pdu in events {
            wanted.extend(allowing(pdu, rules).filter(|id| asked.insert(id.clone())));
        }
        while !wanted.is_empty() {
            let found = self.events().get_all(wanted.iter().map(|id| &**id)).await?;
            wanted.clear();
            for event in found.values() {
                wanted.extend(allowing(&event.pdu, rules).filter(|id| asked.insert(id.clone())));
            }
            chain.extend(found);
        }
        let mut chain: Vec<_> = chain.into_values().filter(|event| !rejected(event)).collect();
        chain.sort_by(|a, b| order(&a.pdu).cmp(&order(&b.pdu)));
        Ok(chain)
    }

    /// The events of a room from which `walk` starts and those that they follow, the deepest first. What was rejected is
    /// passed by.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn walk_back(
        &self,
        room: &RoomId,
        walk: &Walk,
    ) -> Result<Vec<Arc<StoredEvent>>, StoreError> {
        let mut seen = walk.not.clone();
        let mut steps = BinaryHeap::new();
        let mut next: Vec<OwnedEventId> = walk.from.clone();
        let mut back = Vec::new();
        let mut left = walk.limit.saturating_add(PASSED_BY);
        loop {
            next.retain(|id| seen.insert(id.clone()));
            let found = self.events().get_all(next.iter().map(|id| &**id)).await?;
            steps.extend(
                found
                    .into_values()
                    .filter(|event| event.pdu.room_id() == room)
                    .filter(|event| event.pdu.depth() >= walk.min_depth)
                    .map(Step),
            );
            let Some(Step(event)) = steps.pop().filter(|_| left > 0 && back.len() < walk.limit)
            else {
                return Ok(back);
            };
            left -= 1;
            next = event.pdu.prev_events().to_vec();
            if !rejected(&event) {
                back.push(event);
            }
        }
    }
}

/// The events that allow one.
fn allowing<'a>(
    pdu: &'a Pdu,
    rules: &RoomVersionRules,
) -> impl Iterator<Item = OwnedEventId> + use<'a> {
    let unnamed = rules.authorization.room_create_event_id_as_room_id
        && *pdu.kind() != TimelineEventType::RoomCreate;
    let create =
        unnamed.then(|| EventId::parse(format!("${}", pdu.room_id().strip_sigil())).ok()).flatten();
    create.into_iter().chain(pdu.auth_events().iter().cloned())
}

fn rejected(event: &StoredEvent) -> bool {
    matches!(event.fate, Judgement::Rejected(_))
}

fn order(pdu: &Pdu) -> (u64, &OwnedEventId) {
    (pdu.depth(), pdu.event_id())
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |step: &Self| (step.0.pdu.depth(), step.0.n, step.0.pdu.event_id().clone());
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Step {}
