//! Power levels, and the redactions that they allow.

use std::sync::Arc;

use matryx_core::{
    event::Pdu,
    refusal::RefusalKind,
    room::{Levels, Power, Powers, may_apply, may_redact, may_redact_unseen},
};
use ruma::{RoomVersionId, events::TimelineEventType};
use serde_json::{Value, json};

use crate::world::{Branch, VERSIONS, World, draft, place, rules, sealed, user};

fn create(version: &RoomVersionId, content: Value) -> Arc<Pdu> {
    let (mut world, mut branch) = (World::new(version), Branch::default());
    world.found(&mut branch, "@ada:x", content);
    let create = world.look_up(&branch.state, &"m.room.create".into(), "");
    create.unwrap()
}

fn levels(content: Value) -> Pdu {
    let levels = draft("@ada:x", "m.room.power_levels", Some(""), content);
    sealed(levels, place(), &RoomVersionId::V12).unwrap()
}

fn of(powers: &Powers, who: &str) -> Power {
    powers.of(&user(who))
}

#[test]
fn a_room_without_levels_has_defaults() {
    for version in VERSIONS {
        let powers = Powers::read(&create(&version, json!({})), None, &rules(&version)).unwrap();
        assert_eq!(powers.levels(), Levels { invite: 0, kick: 50, ban: 50 });
        assert_eq!(
            (powers.invite(), powers.kick(), powers.ban(), powers.redact()),
            (0, 50, 50, 50)
        );
        assert_eq!(powers.to_send(&TimelineEventType::RoomMessage, false), 0);
        assert_eq!(powers.to_send(&TimelineEventType::RoomTopic, true), 50);
        let creator =
            if version == RoomVersionId::V12 { Power::Infinite } else { Power::Level(100) };
        assert_eq!(of(&powers, "@ada:x"), creator);
        assert_eq!(of(&powers, "@bob:x"), Power::Level(0));
    }
}

#[test]
fn levels_are_what_the_event_says() {
    let event = levels(json!({
        "users": {"@bob:x": 60}, "users_default": 5, "invite": 1, "kick": 2, "ban": 3, "redact": 4,
        "events_default": 6, "state_default": 7, "events": {"m.room.topic": 8, "m.room.message": -1},
    }));
    for version in VERSIONS {
        let powers =
            Powers::read(&create(&version, json!({})), Some(&event), &rules(&version)).unwrap();
        assert_eq!(powers.levels(), Levels { invite: 1, kick: 2, ban: 3 });
        assert_eq!(powers.redact(), 4);
        assert_eq!(of(&powers, "@bob:x"), Power::Level(60));
        assert_eq!(of(&powers, "@eve:x"), Power::Level(5));
        assert_eq!(powers.to_send(&"m.x".into(), false), 6);
        assert_eq!(powers.to_send(&"m.x".into(), true), 7);
        assert_eq!(powers.to_send(&TimelineEventType::RoomTopic, true), 8);
        assert_eq!(powers.to_send(&TimelineEventType::RoomMessage, false), -1);
        // Before version 12 a creator is a user like others as soon as there are levels.
        let creator = if version == RoomVersionId::V12 { Power::Infinite } else { Power::Level(5) };
        assert_eq!(of(&powers, "@ada:x"), creator);
    }
}

#[test]
fn creators_of_version_12_are_above_all_and_equal() {
    let content = json!({"additional_creators": ["@bob:x"]});
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let create = create(&version, content.clone());
        let event = levels(json!({"users": {"@eve:x": 9_007_199_254_740_991_i64}}));
        let powers = Powers::read(&create, Some(&event), &rules(&version)).unwrap();
        if version == RoomVersionId::V12 {
            assert_eq!(of(&powers, "@ada:x"), Power::Infinite);
            assert_eq!(of(&powers, "@bob:x"), Power::Infinite);
            assert!(of(&powers, "@bob:x") > of(&powers, "@eve:x"));
        } else {
            assert_eq!(of(&powers, "@bob:x"), Power::Level(0));
        }
    }
}

#[test]
fn strings_are_numbers_until_version_10() {
    let event = levels(json!({"users": {"@bob:x": " +050 "}, "ban": "7"}));
    for version in VERSIONS {
        let powers = Powers::read(&create(&version, json!({})), Some(&event), &rules(&version));
        if rules(&version).authorization.integer_power_levels {
            assert!(powers.unwrap_err().contains("m.room.power_levels"));
        } else {
            let powers = powers.unwrap();
            assert_eq!((of(&powers, "@bob:x"), powers.ban()), (Power::Level(50), 7));
        }
    }
}

#[test]
fn a_power_reads_as_a_number_or_as_what_it_is() {
    assert_eq!(Power::Level(-5).to_string(), "-5");
    assert_eq!(Power::Infinite.to_string(), "unlimited power, as a creator of the room");
    assert!(Power::Infinite > Power::Level(i64::MAX) && Power::Level(1) > Power::Level(0));
}

#[test]
fn who_may_redact_what() {
    let version = RoomVersionId::V12;
    let event = levels(json!({"redact": 30, "users": {"@mod:z": 30}}));
    let powers =
        Powers::read(&create(&version, json!({})), Some(&event), &rules(&version)).unwrap();
    let said = |sender: &str, kind: &str| {
        sealed(draft(sender, kind, None, json!({"body": sender})), place(), &version).unwrap()
    };
    let target = said("@bob:y", "m.room.message");
    let applies = |sender: &str| may_apply(&said(sender, "m.room.redaction"), &target, &powers);
    // Its own server, and those with the level.
    assert!(applies("@bob:y") && applies("@other:y") && applies("@mod:z") && applies("@ada:x"));
    assert!(!applies("@other:x"));
    let mut elsewhere = place();
    elsewhere.room_id = Some("!other:x".try_into().unwrap());
    let redaction = draft("@mod:z", "m.room.redaction", None, json!({}));
    assert!(!may_apply(&sealed(redaction, elsewhere, &version).unwrap(), &target, &powers));

    may_redact(&user("@bob:y"), &target, &powers).unwrap();
    may_redact(&user("@mod:z"), &target, &powers).unwrap();
    may_redact(&user("@ada:x"), &target, &powers).unwrap();
    let refusal = may_redact(&user("@other:y"), &target, &powers).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Forbidden);
    assert_eq!(
        refusal.sentence,
        "To redact what others sent, this room asks for power level 30; you have 0."
    );

    may_redact_unseen(&user("@mod:z"), &powers).unwrap();
    may_redact_unseen(&user("@ada:x"), &powers).unwrap();
    let refusal = may_redact_unseen(&user("@bob:y"), &powers).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotFound);
    assert!(refusal.sentence.contains("power level 30; you have 0"), "{refusal}");
}
