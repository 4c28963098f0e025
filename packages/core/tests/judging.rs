//! The law, by the steps of the specification.

use std::sync::Arc;

use matryx_core::room::{Judgement, StateKey, auth_keys, judge_by_auth_events, judge_by_state};
use ruma::{RoomVersionId, events::StateEventType};
use serde_json::{Value, json, value::to_raw_value};

use crate::world::{VERSIONS, World, draft, event_id, rules, user};

fn keys(
    version: &RoomVersionId,
    kind: &str,
    state_key: Option<&str>,
    content: &Value,
) -> Vec<String> {
    let content = to_raw_value(content).unwrap();
    let keys = auth_keys(&kind.into(), &user("@a:x"), state_key, &content, &rules(version));
    let mut keys: Vec<_> = keys.unwrap().iter().map(|key| format!("{key:?}")).collect();
    keys.sort();
    keys
}

#[test]
fn an_event_names_the_state_that_allows_it() {
    let (create, levels, join_rules) =
        (r#"(m.room.create, "")"#, r#"(m.room.power_levels, "")"#, r#"(m.room.join_rules, "")"#);
    let (a, b, c) =
        (r#"(m.room.member, "@a:x")"#, r#"(m.room.member, "@b:x")"#, r#"(m.room.member, "@c:x")"#);
    let token = r#"(m.room.third_party_invite, "t")"#;
    let expect = |kind: &str, state_key: Option<&str>, content: Value, expected: &[&str]| {
        for version in VERSIONS {
            let mut expected = expected.to_vec();
            if version == RoomVersionId::V12 {
                // The room's id names the create event.
                expected.retain(|key| *key != create);
            }
            if !rules(&version).authorization.restricted_join_rule {
                expected.retain(|key| *key != c);
            }
            assert_eq!(keys(&version, kind, state_key, &content), expected, "{version} {content}");
        }
    };
    expect("m.room.create", Some(""), json!({}), &[]);
    expect("m.room.message", None, json!({}), &[create, a, levels]);
    let join = json!({"membership": "join"});
    expect("m.room.member", Some("@a:x"), join, &[create, join_rules, a, levels]);
    let join = json!({"membership": "join", "join_authorised_via_users_server": "@c:x"});
    expect("m.room.member", Some("@a:x"), join, &[create, join_rules, a, c, levels]);
    let ban = json!({"membership": "ban", "join_authorised_via_users_server": "@c:x"});
    expect("m.room.member", Some("@b:x"), ban, &[create, a, b, levels]);
    let invite = json!({"membership": "invite", "third_party_invite": {"signed": {"token": "t"}}});
    let expected = [create, join_rules, a, b, levels, token];
    expect("m.room.member", Some("@b:x"), invite, &expected);

    let (rules, content) = (rules(&RoomVersionId::V12), to_raw_value(&json!({})).unwrap());
    auth_keys(&"m.room.member".into(), &user("@a:x"), None, &content, &rules).unwrap_err();
    auth_keys(&"m.room.member".into(), &user("@a:x"), Some("@a:x"), &content, &rules).unwrap_err();
}

#[test]
fn a_room_is_founded_and_lived_in() {
    for version in VERSIONS {
        let (mut world, mut room) = World::public(&version, "@ada:x");
        world.member(&mut room, "@bob:x", "@bob:x", "join").unwrap();
        world.member(&mut room, "@eve:y", "@eve:y", "join").unwrap();
        world.state(&mut room, "@bob:x", "m.room.topic", "", json!({"topic": "t"})).unwrap();
        let error = world
            .state(&mut room, "@eve:y", "m.room.topic", "", json!({"topic": "e"}))
            .unwrap_err();
        assert!(error.contains("power"), "{error}");
        world.member(&mut room, "@bob:x", "@eve:y", "ban").unwrap();
        world.member(&mut room, "@eve:y", "@eve:y", "join").unwrap_err();
        world.member(&mut room, "@bob:x", "@ada:x", "leave").unwrap_err();
        assert_eq!(room.state.len(), 7);
        let create = room.state.get(&StateKey::create()).unwrap();
        let names_create = |id| world.fetch(id).unwrap().auth_events().contains(&create.event_id);
        let last = &room.heads[0];
        assert_eq!(names_create(last), version != RoomVersionId::V12);
    }
}

#[test]
fn an_event_is_rejected_for_what_it_names() {
    for version in VERSIONS {
        let (mut world, mut room) = World::public(&version, "@ada:x");
        let joined = world.member(&mut room, "@bob:x", "@bob:x", "join").unwrap();
        let topic =
            world.state(&mut room, "@bob:x", "m.room.topic", "", json!({"topic": "t"})).unwrap();
        let judge = |fetch: &dyn Fn(&ruma::EventId) -> Option<Arc<_>>| {
            judge_by_auth_events(&topic, &world.rules, &|id| fetch(id))
        };
        judge(&|id| world.fetch(id)).unwrap();
        // One is missing: that may still change.
        let error =
            judge(&|id| world.fetch(id).filter(|event| event.event_id() != joined.event_id()));
        assert!(error.unwrap_err().contains("failed to find auth event"));
        // One was rejected.
        let error = judge(&|id| {
            let event = world.fetch(id)?;
            let bad = event.event_id() == joined.event_id();
            Some(if bad { Arc::new((*event).clone().into_rejected()) } else { event })
        });
        assert!(error.unwrap_err().contains("rejected auth event"));
        // The create event is needed in every version, named or not.
        let create = room.state.get(&StateKey::create()).unwrap().event_id.clone();
        judge(&|id| world.fetch(id).filter(|event| *event.event_id() != create)).unwrap_err();
        judge(&|id| {
            let event = world.fetch(id)?;
            let bad = *event.event_id() == create;
            Some(if bad { Arc::new((*event).clone().into_rejected()) } else { event })
        })
        .unwrap_err();
    }
}

#[test]
fn an_event_may_be_allowed_by_what_it_names_and_not_by_the_state() {
    for version in VERSIONS {
        let (mut world, mut room) = World::public(&version, "@ada:x");
        world.member(&mut room, "@bob:x", "@bob:x", "join").unwrap();
        let before = room.clone();
        let topic =
            world.state(&mut room, "@bob:x", "m.room.topic", "", json!({"topic": "t"})).unwrap();
        let mut other = before.clone();
        world.member(&mut other, "@ada:x", "@bob:x", "ban").unwrap();

        judge_by_auth_events(&topic, &world.rules, &|id| world.fetch(id)).unwrap();
        let by = |state| {
            judge_by_state(&topic, &world.rules, &|kind, key| world.look_up(state, kind, key))
        };
        by(&before.state).unwrap();
        let error = by(&other.state).unwrap_err();
        assert!(error.contains("not `join`"), "{error}");
        assert_ne!(Judgement::SoftFailed(error.clone()), Judgement::Rejected(error));
        // Without a create event there is no room.
        judge_by_state(&topic, &world.rules, &|kind, key| {
            let state = (*kind != StateEventType::RoomCreate).then_some(&before.state)?;
            world.look_up(state, kind, key)
        })
        .unwrap_err();
    }
}

#[test]
fn a_room_that_does_not_federate_keeps_others_out() {
    for version in VERSIONS {
        let (mut world, mut room) = (World::new(&version), crate::world::Branch::default());
        world.found(&mut room, "@ada:x", json!({"m.federate": false}));
        let rule = json!({"join_rule": "public"});
        world.state(&mut room, "@ada:x", "m.room.join_rules", "", rule).unwrap();
        world.member(&mut room, "@bob:x", "@bob:x", "join").unwrap();
        let error = world.member(&mut room, "@eve:y", "@eve:y", "join").unwrap_err();
        assert!(error.contains("not federated"), "{error}");
    }
}

#[test]
fn an_event_of_another_room_allows_nothing() {
    let version = RoomVersionId::V12;
    let (mut world, mut room) = World::public(&version, "@ada:x");
    let (mut other_world, mut other) = World::public(&version, "@zoe:x");
    let stranger = other_world.member(&mut other, "@bob:x", "@bob:x", "join").unwrap();
    // Let the first room believe that bob joined there.
    let heads = room.heads.clone();
    world.let_in(&mut room, &stranger);
    room.heads = heads;
    let message = draft("@bob:x", "m.room.message", None, json!({}));
    let error = world.say(&mut room, message, 5).unwrap_err();
    assert!(error.contains("not in the same room"), "{error}");
    assert!(world.fetch(&event_id("nothing")).is_none());
}
