//! State as a value.

use matryx_core::{
    membership::Membership,
    room::{Change, StateEntry, StateKey, StateMap, difference, of_kind},
};
use proptest::prelude::*;
use ruma::events::StateEventType;

use crate::world::{event_id, user};

fn entry(name: &str) -> StateEntry {
    StateEntry { event_id: event_id(name), membership: None }
}

#[test]
fn keys_are_ordered_by_type_and_then_by_state_key() {
    let member = |who: &str| StateKey::member(&user(who));
    let mut keys = [
        StateKey::new(StateEventType::RoomTopic, ""),
        member("@b:x"),
        StateKey::power_levels(),
        member("@a:x"),
        StateKey::join_rules(),
        StateKey::history_visibility(),
        StateKey::create(),
    ];
    keys.sort();
    let keys: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
    assert_eq!(
        keys,
        [
            r#"(m.room.create, "")"#,
            r#"(m.room.history_visibility, "")"#,
            r#"(m.room.join_rules, "")"#,
            r#"(m.room.member, "@a:x")"#,
            r#"(m.room.member, "@b:x")"#,
            r#"(m.room.power_levels, "")"#,
            r#"(m.room.topic, "")"#,
        ]
    );
}

#[test]
fn a_type_is_a_range_of_the_state() {
    let mut state = StateMap::new();
    for (name, key) in [
        ("1", StateKey::create()),
        ("2", StateKey::member(&user("@a:x"))),
        ("3", StateKey::member(&user("@b:x"))),
        ("4", StateKey::power_levels()),
        ("5", StateKey::new("org.custom".into(), "")),
    ] {
        state.insert(key, entry(name));
    }
    let of = |kind: &str| -> Vec<_> {
        of_kind(&state, &kind.into()).map(|(_, entry)| entry.event_id.to_string()).collect()
    };
    assert_eq!(of("m.room.member"), ["$2", "$3"]);
    assert_eq!(of("m.room.create"), ["$1"]);
    assert_eq!(of("org.custom"), ["$5"]);
    assert!(of("m.room.name").is_empty());
}

#[test]
fn a_difference_has_what_came_what_went_and_what_changed() {
    let (came, went, changed, stayed) = (
        StateKey::new("a".into(), ""),
        StateKey::new("b".into(), ""),
        StateKey::member(&user("@a:x")),
        StateKey::create(),
    );
    let joined = StateEntry { event_id: event_id("j"), membership: Some(Membership::Joined) };
    let old: StateMap =
        [(went.clone(), entry("1")), (changed.clone(), entry("2")), (stayed, entry("3"))]
            .into_iter()
            .collect();
    let mut new = old.clone();
    new.remove(&went);
    new.insert(came.clone(), entry("4"));
    new.insert(changed.clone(), joined.clone());
    let expected = [
        Change { key: came, new: Some(entry("4")), old: None },
        Change { key: went, new: None, old: Some(entry("1")) },
        Change { key: changed, new: Some(joined), old: Some(entry("2")) },
    ];
    assert_eq!(difference(&old, &new), expected);
    assert_eq!(difference(&old, &old), []);
    assert_eq!(difference(&StateMap::new(), &old).len(), 3);
}

proptest! {
    #[test]
    fn applying_a_difference_gives_the_new_state(
        old in prop::collection::btree_map(0..30_u8, 0..4_u8, 0..30),
        new in prop::collection::btree_map(0..30_u8, 0..4_u8, 0..30),
    ) {
        let state = |from: std::collections::BTreeMap<u8, u8>| -> StateMap {
            from.into_iter()
                .map(|(key, name)| (StateKey::new("t".into(), key.to_string()), entry(&name.to_string())))
                .collect()
        };
        let (old, new) = (state(old), state(new));
        let mut applied = old.clone();
        let changes = difference(&old, &new);
        for change in &changes {
            prop_assert_eq!(applied.get(&change.key), change.old.as_ref());
            prop_assert_ne!(&change.old, &change.new);
            match &change.new {
                Some(entry) => applied.insert(change.key.clone(), entry.clone()),
                None => applied.remove(&change.key),
            };
        }
        prop_assert_eq!(&applied, &new);
        prop_assert!(changes.windows(2).all(|pair| pair[0].key < pair[1].key));
    }
}
