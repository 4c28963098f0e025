//! State resolution: one state from the states of a room's forks.
//!
//! ruma has the algorithm (<https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>); this feeds it. Members make
//! states large and forks differ in few keys, so ruma gets only what can matter:
//!
//! * the keys in which the forks differ, and the unconflicted keys that the checks of the full conflicted set may look
//!   up; everything else is laid over the result, as the algorithm's last step does anyway;
//! * the auth difference, computed from the keys that differ. An event of the unconflicted state is in the chain of
//!   every fork, together with all that it rests on, so it is only walked while something remains that it could take
//!   out of the difference.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    room_version_rules::RoomVersionRules,
    state_res::{self, utils::event_id_set::EventIdSet},
};

use super::{StateEntry, StateKey, StateMap, auth_keys, difference};
use crate::event::Pdu;

/// The state that follows from these states of a room, in room versions 3 to 12.
///
/// The order of the forks does not matter. `fetch` finds the events of the states and of their auth chains, also the
/// rejected; what it does not find takes no part.
///
/// # Errors
///
/// For room version 1, and when an event on which the order of others depends is malformed or missing.
pub fn resolve(
    rules: &RoomVersionRules,
    forks: &[StateMap],
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap, String> {
    let Some((first, others)) = forks.split_first() else { return Ok(StateMap::new()) };
    let keys: BTreeSet<StateKey> =
        others.iter().flat_map(|fork| difference(first, fork)).map(|change| change.key).collect();
    if keys.is_empty() {
        return Ok(first.clone());
    }
    let algorithm =
        rules.state_res.v2_rules().ok_or("The state of room version 1 cannot be resolved here.")?;

    let events = Events { fetch, seen: RefCell::default() };
    let split = Split::new(first, forks, &keys);
    let difference = split.auth_difference(&events);
    let subgraph = if algorithm.consider_conflicted_state_subgraph {
        split.subgraph(&events)
    } else {
        HashSet::new()
    };
    let full = split.conflicted.iter().chain(&difference).chain(&subgraph);
    let needed = split.needed(full, &events, rules);
    let states: Vec<_> = split.forks.iter().map(|fork| named(fork, &needed)).collect();
    // ruma takes whole chains and keeps what is not in all of them. We know what that must be.
    let chains = vec![difference.into_iter().collect(), EventIdSet::new()];
    let subgraph: EventIdSet<_> = subgraph.into_iter().collect();

    let resolved = state_res::resolve(
        &rules.authorization,
        algorithm,
        &states,
        chains,
        |id| events.get(id),
        |_| Some(subgraph.clone()),
    )
    .map_err(|error| error.to_string())?;
    Ok(split.lay_over(resolved, &events))
}

/// The states of some forks, taken apart.
struct Split {
    /// What all forks agree on.
    agreed: StateMap,
    /// What each fork has under the keys in which they differ.
    forks: Vec<StateMap>,
    /// The events under those keys.
    conflicted: HashSet<OwnedEventId>,
}

impl Split {
    fn new(first: &StateMap, forks: &[StateMap], keys: &BTreeSet<StateKey>) -> Self {
        let mut agreed = first.clone();
        for key in keys {
            agreed.remove(key);
        }
        let part = |fork: &StateMap| {
            keys.iter().filter_map(|key| Some((key.clone(), fork.get(key)?.clone()))).collect()
        };
        let forks: Vec<StateMap> = forks.iter().map(part).collect();
        let conflicted = forks
            .iter()
            .flat_map(|fork| fork.values())
            .map(|entry| entry.event_id.clone())
            .collect();
        Self { agreed, forks, conflicted }
    }

    /// What is in the auth chain of one fork and not of all. As everywhere on the network, the chain of a state
    /// includes the state itself.
    fn auth_difference<F: Fetch>(&self, events: &Events<'_, F>) -> HashSet<OwnedEventId> {
        let chains: Vec<_> = self.forks.iter().map(|fork| events.chain(fork.values())).collect();
        let mut counts: HashMap<&OwnedEventId, usize> = HashMap::new();
        for id in chains.iter().flatten() {
            *counts.entry(id).or_default() += 1;
        }
        let mut left: HashSet<OwnedEventId> = counts
            .into_iter()
            .filter(|(id, count)| *count < chains.len() && !self.agrees_on(id, events))
            .map(|(id, _)| id.clone())
            .collect();

        // What everyone agrees on is in every chain, and so is what it rests on. What is conflicted anyway need not be
        // known to be in the difference too, and members, who are many, are asked last.
        let mut unsure: HashSet<OwnedEventId> =
            left.difference(&self.conflicted).cloned().collect();
        let (members, rest): (Vec<_>, Vec<_>) =
            self.agreed.iter().partition(|(key, _)| key.kind == StateEventType::RoomMember);
        let mut seen = HashSet::new();
        for (_, entry) in rest.into_iter().chain(members) {
            if unsure.is_empty() {
                break;
            }
            events.walk(&entry.event_id, &mut seen, |id| {
                if unsure.remove(id) {
                    left.remove(id);
                }
            });
        }
        left
    }

    fn agrees_on<F: Fetch>(&self, id: &OwnedEventId, events: &Events<'_, F>) -> bool {
        let key = events.get(id).and_then(|event| event.key());
        key.and_then(|key| self.agreed.get(&key)).is_some_and(|entry| entry.event_id == *id)
    }

    /// The conflicted state subgraph: what lies on a path of auth events from one conflicted event to another.
    fn subgraph<F: Fetch>(&self, events: &Events<'_, F>) -> HashSet<OwnedEventId> {
        // Everything below the conflicted events, with the ways back up.
        let mut above: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
        let mut seen = HashSet::new();
        let mut stack: Vec<OwnedEventId> = self.conflicted.iter().cloned().collect();
        while let Some(id) = stack.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            for below in events.get(&id).iter().flat_map(|event| event.auth_events()) {
                above.entry(below.clone()).or_default().push(id.clone());
                stack.push(below.clone());
            }
        }
        // From the conflicted events back up.
        let mut subgraph = HashSet::new();
        let mut stack: Vec<&OwnedEventId> = self.conflicted.iter().collect();
        while let Some(id) = stack.pop() {
            if subgraph.insert(id.clone()) {
                stack.extend(above.get(id).into_iter().flatten());
            }
        }
        subgraph
    }

    /// The part of the agreed state that the checks of these events may look up.
    fn needed<'a, F: Fetch>(
        &self,
        full: impl Iterator<Item = &'a OwnedEventId>,
        events: &Events<'_, F>,
        rules: &RoomVersionRules,
    ) -> StateMap {
        let mut keys: BTreeSet<StateKey> =
            [StateKey::create(), StateKey::power_levels(), StateKey::join_rules()].into();
        for event in full.filter_map(|id| events.get(id)) {
            // One whose needs cannot be read is passed over by the checks.
            keys.extend(
                auth_keys(event.kind(), event.sender(), event.state_key(), event.content(), rules)
                    .unwrap_or_default(),
            );
        }
        keys.into_iter()
            .filter_map(|key| Some((key.clone(), self.agreed.get(&key)?.clone())))
            .collect()
    }

    /// The last step: what was agreed on stands.
    fn lay_over<F: Fetch>(
        self,
        resolved: state_res::StateMap<OwnedEventId>,
        events: &Events<'_, F>,
    ) -> StateMap {
        let known: HashMap<OwnedEventId, StateEntry> = self
            .forks
            .iter()
            .flat_map(StateMap::values)
            .map(|entry| (entry.event_id.clone(), entry.clone()))
            .collect();
        let mut state = self.agreed;
        for ((kind, key), event_id) in resolved {
            let key = StateKey::new(kind, key);
            if state.contains_key(&key) {
                continue;
            }
            let entry = known.get(&event_id).cloned().unwrap_or_else(|| {
                let membership = events.get(&event_id).and_then(|event| event.membership());
                StateEntry { event_id, membership }
            });
            state.insert(key, entry);
        }
        state
    }
}

fn named(fork: &StateMap, needed: &StateMap) -> state_res::StateMap<OwnedEventId> {
    fork.iter()
        .chain(needed)
        .map(|(key, entry)| ((key.kind.clone(), key.key.to_string()), entry.event_id.clone()))
        .collect()
}

/// Finds an event by its id.
trait Fetch: Fn(&EventId) -> Option<Arc<Pdu>> {}

impl<F: Fn(&EventId) -> Option<Arc<Pdu>>> Fetch for F {}

/// Events, each fetched once.
struct Events<'a, F> {
    fetch: &'a F,
    seen: RefCell<HashMap<OwnedEventId, Option<Arc<Pdu>>>>,
}

impl<F: Fetch> Events<'_, F> {
    fn get(&self, id: &EventId) -> Option<Arc<Pdu>> {
        if let Some(event) = self.seen.borrow().get(id) {
            return event.clone();
        }
        let event = (self.fetch)(id);
        self.seen.borrow_mut().insert(id.to_owned(), event.clone());
        event
    }

    /// These events and everything that allows them.
    fn chain<'a>(&self, entries: impl Iterator<Item = &'a StateEntry>) -> HashSet<OwnedEventId> {
        let mut chain = HashSet::new();
        for entry in entries {
            self.walk(&entry.event_id, &mut chain, |_| ());
        }
        chain
    }

    /// Visits an event and everything that allows it, except what was seen before.
    fn walk(
        &self,
        start: &OwnedEventId,
        seen: &mut HashSet<OwnedEventId>,
        mut visit: impl FnMut(&OwnedEventId),
    ) {
        let mut stack = vec![start.clone()];
        while let Some(id) = stack.pop() {
            if seen.contains(&id) {
                continue;
            }
            visit(&id);
            if let Some(event) = self.get(&id) {
                stack.extend(event.auth_events().iter().cloned());
            }
            seen.insert(id);
        }
    }
}
