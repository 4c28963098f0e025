//! Events that come without their place, after what is missing, and what fills the gap.

use std::{collections::HashMap, sync::Arc};

use matryx_core::{
    event::Pdu,
    membership::Membership,
    room::{Judgement, StateKey, StateMap},
};
use matryx_repository::{Before, Gap};
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};
use serde_json::json;

use super::{
    forks::{CREATOR, Replicas},
    world::{World, run},
};
use crate::room::{Door, Filling, Given, Received};

async fn get(world: &World, id: &OwnedEventId) -> Pdu {
    Pdu::clone(&world.rooms.events().get(id).await.unwrap().unwrap().pdu)
}

async fn get_all(world: &World, ids: &[OwnedEventId]) -> Vec<Pdu> {
    let mut pdus = Vec::new();
    for id in ids {
        pdus.push(get(world, id).await);
    }
    pdus
}

async fn state_after(world: &World, id: &OwnedEventId) -> StateMap {
    world.rooms.state_after(id).await.unwrap().unwrap()
}

/// Two replicas, and what the second has said while the first did not hear: a join, some words, a topic, more words.
async fn apart() -> (World, World, OwnedRoomId, Vec<OwnedEventId>) {
    let mut replicas = Replicas::new(2, &RoomVersionId::V11).await;
    let there = replicas.worlds.remove(1);
    let here = replicas.worlds.remove(0);
    let room = replicas.room;
    let mut said = there.member(&room, "@a:x", "@a:x", "join").await.unwrap().events;
    for number in 0..4 {
        let content = json!({"body": number});
        said.extend(
            there.say(&room, "@a:x", "m.room.message", None, content).await.unwrap().events,
        );
        if number == 1 {
            let content = json!({"topic": "t"});
            let topic = there.say(&room, CREATOR, "m.room.topic", Some(""), content).await;
            said.extend(topic.unwrap().events);
        }
    }
    (here, there, room, said)
}

#[test]
fn what_comes_alone_comes_again_in_its_place() {
    run(async {
        let (here, there, room, said) = apart().await;
        let [join, first, ..] = &said[..] else { panic!() };
        // The join is learnt for what it allows; a message that rests on it is still without its place.
        here.rooms.learn(&room, vec![get(&there, first).await]).await.unwrap();
        assert!(here.rooms.events().get(first).await.unwrap().is_none(), "its join is not known");
        let both = vec![get(&there, first).await, get(&there, join).await];
        here.rooms.learn(&room, both).await.unwrap();
        for id in [join, first] {
            let kept = here.rooms.events().get(id).await.unwrap().unwrap();
            assert_eq!((kept.n, kept.before), (None, Before::Unknown));
        }
        let here = here.restart().await;
        let held = here.rooms.room(&room).await.unwrap().unwrap();
        let before = held.look();
        assert_eq!(before.membership("@a:x".try_into().unwrap()), Membership::Left);
        // Nothing can follow what has no place.
        let heard = here.rooms.receive(get(&there, first).await, Door::Transaction).await.unwrap();
        assert_eq!(heard, Received::Missing(vec![join.clone()]));
        let all = vec![get(&there, join).await, get(&there, first).await];
        for heard in here.rooms.receive_all(&room, all).await.unwrap() {
            assert_eq!(heard.unwrap(), Received::Judged(Judgement::Accepted));
        }
        assert_eq!(held.look().n, before.n + 2);
        assert_eq!(held.look().membership("@a:x".try_into().unwrap()), Membership::Joined);
        let here = here.restart().await;
        let kept = here.rooms.events().get(first).await.unwrap().unwrap();
        assert_eq!(kept.n, Some(before.n + 2));
        assert!(here.rooms.room(&room).await.unwrap().unwrap().look().gaps.is_empty());
    });
}

#[test]
fn a_gap_is_seen_and_filled() {
    run(async {
        let (here, there, room, said) = apart().await;
        let [join, .., before_last, last] = &said[..] else { panic!() };
        let missing = here.rooms.receive(get(&there, last).await, Door::Transaction).await.unwrap();
        assert!(matches!(missing, Received::Missing(ids) if ids.contains(before_last)));
        // The state after what is missing is told, and what stands in it is learnt.
        here.rooms.learn(&room, get_all(&there, &said[..said.len() - 1]).await).await.unwrap();
        let after = state_after(&there, before_last).await;
        let given = Given { after: HashMap::from([(before_last.clone(), after)]) };
        let heard = here.rooms.receive_at(get(&there, last).await, given).await.unwrap();
        assert_eq!(heard, Received::Judged(Judgement::Accepted));
        let held = here.rooms.room(&room).await.unwrap().unwrap();
        let look = held.look();
        assert_eq!(look.tips.len(), 2);
        assert_eq!(look.membership("@a:x".try_into().unwrap()), Membership::Joined);
        let gap = Gap { n: look.n, ends: vec![before_last.clone()], filled: 0 };
        assert_eq!(look.gaps.values().collect::<Vec<_>>(), [&gap]);

        // It is filled from its end in two steps, and is closed then.
        for (part, filled) in [(&said[3..5], 0), (&said[0..3], 2)] {
            let events = get_all(&there, part).await.into_iter().map(Arc::new).collect();
            let first = there.rooms.events().get(&part[0]).await.unwrap().unwrap();
            let state = state_after(&there, &first.pdu.prev_events()[0]).await;
            let before = HashMap::from([(part[0].clone(), state)]);
            let filling = Filling { n: look.n, filled, events, before };
            let count = here.rooms.fill(&room, filling).await.unwrap();
            assert_eq!(count as usize, part.len());
        }
        let here = here.restart().await;
        let held = here.rooms.room(&room).await.unwrap().unwrap();
        let gap = held.look().gaps[&look.n].clone();
        assert_eq!((gap.closed(), gap.filled), (true, 5));
        assert_eq!(held.look().n, look.n, "what fills a gap is no new line");
        let (oldest, newest) = (Gap::number(look.n, 4), Gap::number(look.n, 0));
        let lines = here.rooms.lines(&held, oldest, newest).await.unwrap();
        let ids: Vec<_> = lines.iter().map(|line| line.event.pdu.event_id().clone()).collect();
        assert_eq!(ids, said[..5]);
        for line in &lines {
            let id = line.event.pdu.event_id();
            let state = state_after(&here, id).await;
            assert_eq!(state, state_after(&there, id).await);
        }
        // What was only learnt has become part of the history, and is known.
        let heard = here.rooms.receive(get(&there, join).await, Door::Transaction).await.unwrap();
        assert_eq!(heard, Received::Known(Judgement::Accepted));
    });
}

/// A state without some user's membership.
fn without(state: &StateMap, user: &str) -> StateMap {
    state.without(&StateKey::member(user.try_into().unwrap()))
}

#[test]
fn what_is_told_of_a_state_rejects_nothing_for_good() {
    run(async {
        let (here, there, room, said) = apart().await;
        let [.., before_last, last] = &said[..] else { panic!() };
        here.rooms.learn(&room, get_all(&there, &said[..said.len() - 1]).await).await.unwrap();
        let after = state_after(&there, before_last).await;
        for (state, fit) in [(without(&after, "@a:x"), false), (after, true)] {
            let given = Given { after: HashMap::from([(before_last.clone(), state)]) };
            let heard = here.rooms.receive_at(get(&there, last).await, given).await.unwrap();
            let accepted = heard == Received::Judged(Judgement::Accepted);
            assert_eq!(accepted, fit, "{heard:?}");
        }
    });
}

#[test]
fn what_fills_a_gap_takes_nothing_away_from_what_was_accepted() {
    run(async {
        let (here, there, room, said) = apart().await;
        let [.., before_last, last] = &said[..] else { panic!() };
        here.rooms.learn(&room, get_all(&there, &said[..said.len() - 1]).await).await.unwrap();
        let after = state_after(&there, before_last).await;
        let given = Given { after: HashMap::from([(before_last.clone(), after)]) };
        here.rooms.receive_at(get(&there, last).await, given).await.unwrap();
        let held = here.rooms.room(&room).await.unwrap().unwrap();
        let n = held.look().n;

        let events: Vec<_> = get_all(&there, &said[..5]).await.into_iter().map(Arc::new).collect();
        let create = state_after(&there, &events[0].prev_events()[0]).await;
        // Nobody is in the room that is told, so that nothing of this may be.
        let mut nobody = without(&create, CREATOR);
        nobody.remove(&StateKey::join_rules());
        let filling = |before: StateMap| Filling {
            n,
            filled: 0,
            events: events.clone(),
            before: HashMap::from([(events[0].event_id().clone(), before)]),
        };
        assert_eq!(here.rooms.fill(&room, filling(nobody)).await.unwrap(), 0);
        let here = here.restart().await;
        for id in &said[..5] {
            let kept = here.rooms.events().get(id).await.unwrap().unwrap();
            assert_eq!((&kept.fate, kept.before), (&Judgement::Accepted, Before::Unknown));
        }
        // Both doors are open to those whose membership was among it.
        let after = state_after(&here, last).await;
        assert_eq!(here.rooms.room(&room).await.unwrap().unwrap().look().state, after);
        let content = json!({"body": "still here"});
        here.say(&room, "@a:x", "m.room.message", None, content).await.unwrap();
        let more = json!({"body": "me too"});
        let more = there.say(&room, "@a:x", "m.room.message", None, more).await.unwrap();
        let more = get(&there, &more.events[0]).await;
        let heard = here.rooms.receive(more, Door::Transaction).await.unwrap();
        assert_eq!(heard, Received::Judged(Judgement::Accepted));
        // Whoever tells it right fills it.
        assert_eq!(here.rooms.fill(&room, filling(create)).await.unwrap(), 5);
        let gap = here.rooms.room(&room).await.unwrap().unwrap().look().gaps[&n].clone();
        assert_eq!((gap.closed(), gap.filled), (true, 5));
    });
}
