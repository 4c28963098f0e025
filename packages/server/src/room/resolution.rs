//! One state from the states of a room's forks.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use matryx_core::{
    event::Pdu,
    room::{StateKey, StateMap, difference, resolve},
};
use matryx_repository::StoreError;
use ruma::{EventId, OwnedEventId};

use super::{Rooms, SendError, work::Work};

impl Rooms {
    /// One state from several, resolved on the blocking pool.
    pub(super) async fn resolved(
        &self,
        forks: Vec<StateMap>,
        work: &Work,
    ) -> Result<StateMap, SendError> {
        let mut different: Vec<StateMap> = Vec::new();
        for fork in forks {
            if !different.iter().any(|other| is_same(other, &fork)) {
                different.push(fork);
            }
        }
        let forks = different;
        if let [only] = forks.as_slice() {
            return Ok(only.clone());
        }
        let mut known: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::new();
        let mut wanted: HashSet<OwnedEventId> = conflicted(&forks);
        // Since version 12 no event names it, and every one rests on it.
        let create = StateKey::create();
        wanted.extend(forks.iter().filter_map(|fork| Some(fork.get(&create)?.event_id.clone())));
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
                    StoreError::inconsistent(
                        "event",
                        &work.look.room_id,
                        format_args!("the room's forks can't be resolved: {why}"),
                    )
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
}

fn is_same(a: &StateMap, b: &StateMap) -> bool {
    a.ptr_eq(b) || (a.len() == b.len() && a.diff(b).next().is_none())
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
