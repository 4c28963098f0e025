//! Events in the order in which they can be judged.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matryx_core::event::Pdu;
use ruma::OwnedEventId;

/// Those of these events that `ends` are among or that lead to them, each after those that it follows. What leads nowhere is
/// nobody's history and is left out.
pub(super) fn leading_to(
    ends: impl IntoIterator<Item = OwnedEventId>,
    pdus: Vec<Arc<Pdu>>,
) -> Vec<Arc<Pdu>> {
    let by_id: HashMap<OwnedEventId, Arc<Pdu>> =
        pdus.into_iter().map(|pdu| (pdu.event_id().clone(), pdu)).collect();
    let mut seen: HashSet<&OwnedEventId> = HashSet::new();
    let mut sorted = Vec::with_capacity(by_id.len());
    let ends: Vec<OwnedEventId> = ends.into_iter().collect();
    let known = |ids: &[OwnedEventId]| -> Vec<&Arc<Pdu>> {
        let mut known: Vec<_> = ids.iter().filter_map(|id| by_id.get(id)).collect();
        // What is taken last comes first; deeper is newer.
        known
            .sort_by(|a, b| b.depth().cmp(&a.depth()).then_with(|| b.event_id().cmp(a.event_id())));
        known
    };
    // Ids are hashes of what they name: nothing follows itself.
    let mut stack: Vec<(&Arc<Pdu>, bool)> =
        known(&ends).into_iter().map(|pdu| (pdu, false)).collect();
    while let Some((pdu, done)) = stack.pop() {
        if done {
            sorted.push(Arc::clone(pdu));
        } else if seen.insert(pdu.event_id()) {
            stack.push((pdu, true));
            stack.extend(known(pdu.prev_events()).into_iter().map(|pdu| (pdu, false)));
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, depth: u64, prev: &[&str]) -> Arc<Pdu> {
        let json = json!({
            "type": "m.room.message", "sender": "@a:x", "content": {}, "origin_server_ts": 1,
            "depth": depth, "prev_events": prev, "auth_events": [], "room_id": "!r:x",
        });
        let room = "!r:x".try_into().unwrap();
        Arc::new(Pdu::restore(id.try_into().unwrap(), room, &json.to_string(), false).unwrap())
    }

    #[test]
    fn what_is_followed_comes_first_and_what_leads_nowhere_is_left_out() {
        let events = vec![
            event("$d", 4, &["$b", "$c"]),
            event("$elsewhere", 2, &["$a"]),
            event("$b", 2, &["$a"]),
            event("$c", 3, &["$a"]),
            event("$a", 1, &["$missing"]),
        ];
        let sorted = leading_to(["$d".try_into().unwrap()], events);
        let ids: Vec<_> = sorted.iter().map(|pdu| pdu.event_id().as_str()).collect();
        assert_eq!(ids, ["$a", "$b", "$c", "$d"]);
    }
}
