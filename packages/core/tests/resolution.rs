//! Where a room forks: cases whose outcome is known.

use std::{cell::RefCell, collections::HashSet, sync::Arc};

use matryx_core::{
    event::Pdu,
    membership::Membership,
    room::{StateEntry, StateKey, StateMap, resolve},
};
use ruma::{EventId, RoomVersionId, events::StateEventType};
use serde_json::{Value, json};

use crate::world::{Branch, VERSIONS, World, draft, event_id, rules, user};

fn membership(branch: &Branch, who: &str) -> Option<Membership> {
    branch.state.get(&StateKey::member(&user(who)))?.membership
}

fn topic(world: &World, branch: &Branch) -> Option<String> {
    let topic = world.look_up(&branch.state, &StateEventType::RoomTopic, "")?;
    let content: Value = topic.content_as().unwrap();
    Some(content["topic"].as_str().unwrap().to_owned())
}

/// A room with bob (50) and cat in it, forked in two.
fn forked(version: &RoomVersionId) -> (World, Branch, Branch) {
    let (mut world, mut room) = World::public(version, "@ada:x");
    world.member(&mut room, "@bob:x", "@bob:x", "join").unwrap();
    world.member(&mut room, "@cat:y", "@cat:y", "join").unwrap();
    (world, room.clone(), room)
}

#[test]
fn who_joins_on_two_branches_is_in() {
    for version in VERSIONS {
        let (mut world, mut one, mut two) = forked(&version);
        world.member(&mut one, "@dan:y", "@dan:y", "join").unwrap();
        world.member(&mut two, "@eve:z", "@eve:z", "join").unwrap();
        let room = world.merged(&[&one, &two]);
        assert_eq!(membership(&room, "@dan:y"), Some(Membership::Joined));
        assert_eq!(membership(&room, "@eve:z"), Some(Membership::Joined));
    }
}

#[test]
fn a_ban_wins_over_what_the_banned_did_meanwhile() {
    for version in VERSIONS {
        let (mut world, mut one, mut two) = forked(&version);
        world.member(&mut one, "@ada:x", "@bob:x", "ban").unwrap();
        world.state(&mut two, "@bob:x", "m.room.topic", "", json!({"topic": "mine"})).unwrap();
        world.member(&mut two, "@bob:x", "@cat:y", "ban").unwrap();
        let room = world.merged(&[&two, &one]);
        assert_eq!(membership(&room, "@bob:x"), Some(Membership::Banned));
        assert_eq!(membership(&room, "@cat:y"), Some(Membership::Joined));
        assert_eq!(topic(&world, &room), None);
        world.member(&mut room.clone(), "@bob:x", "@bob:x", "join").unwrap_err();
    }
}

#[test]
fn a_demotion_wins_over_what_the_demoted_did_meanwhile() {
    for version in VERSIONS {
        let (mut world, mut one, mut two) = forked(&version);
        let mut levels = json!({"users": {}});
        if version != RoomVersionId::V12 {
            levels["users"]["@ada:x"] = json!(100);
        }
        world.state(&mut one, "@ada:x", "m.room.power_levels", "", levels).unwrap();
        world.state(&mut two, "@bob:x", "m.room.topic", "", json!({"topic": "mine"})).unwrap();
        assert_eq!(topic(&world, &world.merged(&[&one, &two])), None);
    }
}

#[test]
fn a_closed_door_keeps_out_who_came_meanwhile() {
    for version in VERSIONS {
        let (mut world, mut one, mut two) = forked(&version);
        let rule = json!({"join_rule": "invite"});
        world.state(&mut one, "@ada:x", "m.room.join_rules", "", rule).unwrap();
        world.member(&mut two, "@dan:y", "@dan:y", "join").unwrap();
        assert_eq!(membership(&world.merged(&[&one, &two]), "@dan:y"), None);
    }
}

fn set_levels(world: &mut World, branch: &mut Branch, of_bob: i64, time: u32) -> Arc<Pdu> {
    let mut users = json!({"@bob:x": of_bob});
    if !world.rules.authorization.explicitly_privilege_room_creators {
        users["@ada:x"] = json!(100);
    }
    let content = json!({"users": users});
    world.say(branch, draft("@ada:x", "m.room.power_levels", Some(""), content), time).unwrap()
}

/// A server whose state was set back to the first levels, although what its members say rests on the second: with
/// the conflicted state subgraph the third come after the first, whatever the clocks say.
#[test]
fn version_12_is_not_set_back() {
    for (version, newest_wins) in [(RoomVersionId::V11, false), (RoomVersionId::V12, true)] {
        let (mut world, mut one, _) = forked(&version);
        // The clock of the first is far ahead.
        let first = set_levels(&mut world, &mut one, 51, 9_000_000);
        set_levels(&mut world, &mut one, 52, 2_000_000);
        let rule = json!({"join_rule": "public", "since": "the second"});
        world.state(&mut one, "@ada:x", "m.room.join_rules", "", rule).unwrap();
        let mut two = one.clone();
        let third = set_levels(&mut world, &mut one, 53, 3_000_000);
        two.state.get_mut(&StateKey::power_levels()).unwrap().event_id = first.event_id().clone();

        world.check(&[one.state.clone(), two.state.clone()]);
        let room = world.merged(&[&one, &two]);
        let winner = &room.state.get(&StateKey::power_levels()).unwrap().event_id;
        assert_eq!(winner, if newest_wins { third.event_id() } else { first.event_id() });
    }
}

#[test]
fn members_who_have_nothing_to_do_with_it_are_not_fetched() {
    for version in VERSIONS {
        let (mut world, mut room) = World::public(&version, "@ada:x");
        for number in 0..300 {
            let member = format!("@{number}:x");
            world.member(&mut room, &member, &member, "join").unwrap();
        }
        world.member(&mut room, "@bob:x", "@bob:x", "join").unwrap();
        let (mut one, mut two) = (room.clone(), room);
        world.member(&mut one, "@dan:y", "@dan:y", "join").unwrap();
        // It rests on bob's join, which both have in their state and nothing else names.
        world.state(&mut one, "@bob:x", "m.room.topic", "", json!({"topic": "t"})).unwrap();
        world.member(&mut two, "@7:x", "@7:x", "leave").unwrap();
        let fetched = RefCell::new(HashSet::new());
        let fetch = |id: &EventId| -> Option<Arc<Pdu>> {
            assert!(fetched.borrow_mut().insert(id.to_owned()), "fetched twice");
            world.fetch(id)
        };
        let forks = [one.state.clone(), two.state.clone()];
        let state = resolve(&world.rules, &forks, &fetch).unwrap();
        assert_eq!(state.len(), one.state.len());
        let fetched = fetched.borrow().len();
        assert!(fetched < 12, "{fetched} events were fetched");
        world.check(&forks);
    }
}

#[test]
fn what_cannot_be_found_takes_no_part() {
    for version in VERSIONS {
        let (mut world, mut one, mut two) = forked(&version);
        world.member(&mut one, "@dan:y", "@dan:y", "join").unwrap();
        world.state(&mut two, "@bob:x", "m.room.topic", "", json!({"topic": "t"})).unwrap();
        let lost = two.heads[0].clone();
        let forks = [one.state.clone(), two.state.clone()];
        let state = resolve(&world.rules, &forks, &|id| world.fetch(id).filter(|_| *id != lost));
        let (state, key) = (state.unwrap(), StateKey::new(StateEventType::RoomTopic, ""));
        assert_eq!(state.get(&key), None);
        assert_eq!(state.len(), one.state.len());
        // Nothing can be found: what they agree on is left.
        let state = resolve(&world.rules, &forks, &|_| None).unwrap();
        assert_eq!(state.len(), one.state.len() - 1);
    }
}

#[test]
fn no_forks_and_old_rooms() {
    let fetch = |_: &EventId| None;
    let v12 = rules(&RoomVersionId::V12);
    assert!(resolve(&v12, &[], &fetch).unwrap().is_empty());
    let state = |name: &str| -> StateMap {
        let entry = StateEntry { event_id: event_id(name), membership: None };
        [(StateKey::create(), entry)].into_iter().collect()
    };
    let v1 = rules(&RoomVersionId::V1);
    assert_eq!(resolve(&v1, &[state("1"), state("1")], &fetch).unwrap(), state("1"));
    resolve(&v1, &[state("1"), state("2")], &fetch).unwrap_err();
}
