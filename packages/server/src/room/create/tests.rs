//! What a new room begins with.

use matryx_core::refusal::RefusalKind;
use ruma::{CanonicalJsonObject, RoomVersionId, room_alias_id, user_id};
use serde_json::{Value, json};

use super::{InitialState, NewRoom, Preset, Profiles, create, creation, first, levels};
use crate::{http::tests::with_app, room::SendError};

fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

fn plain(version: RoomVersionId, preset: Preset) -> NewRoom {
    NewRoom {
        version,
        creation_content: CanonicalJsonObject::new(),
        preset,
        initial_state: Vec::new(),
        levels: CanonicalJsonObject::new(),
        name: None,
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
    }
}

/// Type, key and content.
type Event = (String, String, Value);

/// The content of the create event, and the others.
fn begin(wanted: &NewRoom) -> Result<(Value, Vec<Event>), RefusalKind> {
    let rules = wanted.version.rules().unwrap();
    let alice = user_id!("@alice:x");
    let create = creation::event(alice, wanted, &rules).map_err(|refusal| refusal.kind)?;
    let profiles = Profiles::from([(alice.to_owned(), object(json!({"displayname": "Alice"})))]);
    let events =
        first::events(alice, wanted, &rules, &create, &profiles).map_err(|refusal| refusal.kind)?;
    let rest = events.into_iter().map(|draft| {
        let content = serde_json::to_value(&draft.content).unwrap();
        (draft.kind.to_string(), draft.state_key.unwrap(), content)
    });
    Ok((serde_json::to_value(&create.content).unwrap(), rest.collect()))
}

#[test]
fn the_events_come_in_the_specifications_order() {
    let mut wanted = plain(RoomVersionId::V12, Preset::Private);
    wanted.alias = Some(room_alias_id!("#a:x").to_owned());
    wanted.name = Some("N".to_owned());
    wanted.topic = Some("T".to_owned());
    wanted.invite = vec![user_id!("@bob:x").to_owned(), user_id!("@bob:x").to_owned()];
    wanted.is_direct = true;
    wanted.initial_state = vec![
        InitialState { kind: "k".into(), state_key: "s".to_owned(), content: object(json!({})) },
        InitialState {
            kind: "m.room.join_rules".into(),
            state_key: String::new(),
            content: object(json!({"join_rule": "knock"})),
        },
    ];
    let (create, events) = begin(&wanted).unwrap();
    assert_eq!(create, json!({"room_version": "12"}));
    let keys: Vec<_> = events.iter().map(|(kind, key, _)| (kind.as_str(), key.as_str())).collect();
    assert_eq!(
        keys,
        [
            ("m.room.member", "@alice:x"),
            ("m.room.power_levels", ""),
            ("m.room.canonical_alias", ""),
            ("m.room.history_visibility", ""),
            ("m.room.guest_access", ""),
            ("k", "s"),
            ("m.room.join_rules", ""),
            ("m.room.name", ""),
            ("m.room.topic", ""),
            ("m.room.member", "@bob:x"),
        ]
    );
    assert_eq!(events[0].2, json!({"membership": "join", "displayname": "Alice"}));
    assert_eq!(events[8].2, json!({"topic": "T", "m.topic": {"m.text": [{"body": "T"}]}}));
    assert_eq!(events[9].2, json!({"membership": "invite", "is_direct": true}));
}

#[test]
fn what_the_client_says_of_creator_and_version_does_not_count() {
    for (version, creator) in [
        (RoomVersionId::V6, Some("@alice:x")),
        (RoomVersionId::V10, Some("@alice:x")),
        (RoomVersionId::V11, None),
        (RoomVersionId::V12, None),
    ] {
        let mut wanted = plain(version.clone(), Preset::Private);
        wanted.creation_content =
            object(json!({"creator": "@eve:x", "room_version": "1", "kept": true}));
        let (create, _) = begin(&wanted).unwrap();
        assert_eq!(create["room_version"], version.as_str());
        assert_eq!(create.get("creator").and_then(Value::as_str), creator, "{version}");
        assert_eq!(create["kept"], true);
    }
}

#[test]
fn the_trusted_are_creators_or_have_the_creators_level() {
    let mut wanted = plain(RoomVersionId::V12, Preset::TrustedPrivate);
    wanted.invite = vec![user_id!("@bob:x").to_owned(), user_id!("@carol:x").to_owned()];
    wanted.creation_content =
        object(json!({"additional_creators": ["@carol:x", "@alice:x", "@carol:x"]}));
    let (create, events) = begin(&wanted).unwrap();
    assert_eq!(create["additional_creators"], json!(["@carol:x", "@bob:x"]));
    assert_eq!(events[1].2["users"], json!({}));

    wanted.version = RoomVersionId::V11;
    wanted.creation_content.clear();
    let (create, events) = begin(&wanted).unwrap();
    assert_eq!(create.get("additional_creators"), None);
    let all = json!({"@alice:x": 100, "@bob:x": 100, "@carol:x": 100});
    assert_eq!(events[1].2["users"], all);
}

#[test]
fn levels_take_the_place_of_the_defaults() {
    let mut wanted = plain(RoomVersionId::V11, Preset::Public);
    wanted.levels =
        object(json!({"users": {"@bob:x": 50}, "events": {"m.room.name": 0}, "ban": 60}));
    let rules = wanted.version.rules().unwrap();
    let content = levels::content(user_id!("@alice:x"), &wanted, &rules);
    let content = serde_json::to_value(content).unwrap();
    assert_eq!(content["users"], json!({"@alice:x": 100, "@bob:x": 50}), "the creator stays");
    assert_eq!(content["events"], json!({"m.room.name": 0}));
    assert_eq!((&content["ban"], &content["kick"]), (&json!(60), &json!(50)));
    wanted.levels = object(json!({"users": {"@alice:x": 60}, "notifications": {}}));
    let content = levels::content(user_id!("@alice:x"), &wanted, &rules);
    let content = serde_json::to_value(content).unwrap();
    assert_eq!(content["users"], json!({"@alice:x": 60}), "as they say");
    assert_eq!(content["notifications"], json!({}));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let with = |change: fn(&mut NewRoom)| {
        let mut wanted = plain(RoomVersionId::V12, Preset::Private);
        change(&mut wanted);
        begin(&wanted).map(drop)
    };
    let state = |kind: &str, content: Value| {
        let mut wanted = plain(RoomVersionId::V12, Preset::Private);
        wanted.alias = Some(room_alias_id!("#a:x").to_owned());
        let (kind, state_key) = (kind.into(), String::new());
        wanted.initial_state.push(InitialState { kind, state_key, content: object(content) });
        begin(&wanted).map(drop)
    };
    assert_eq!(with(|_| ()), Ok(()));
    for creators in [json!("@bob:x"), json!(["bob"]), json!([1]), json!({})] {
        let mut wanted = plain(RoomVersionId::V12, Preset::Private);
        wanted.creation_content = object(json!({"additional_creators": creators}));
        assert_eq!(begin(&wanted).map(drop), Err(RefusalKind::BadJson));
    }
    let creator_with_a_level = with(|wanted| {
        wanted.levels = object(json!({"users": {"@alice:x": 100}}));
    });
    assert_eq!(creator_with_a_level, Err(RefusalKind::InvalidParam));
    let federate = with(|wanted| wanted.creation_content = object(json!({"m.federate": "no"})));
    assert_eq!(federate, Err(RefusalKind::BadJson));
    for (kind, content, refused) in [
        ("m.room.create", json!({}), RefusalKind::InvalidRoomState),
        ("m.room.member", json!({"membership": "ban"}), RefusalKind::InvalidRoomState),
        ("m.room.power_levels", json!({"ban": "high"}), RefusalKind::BadJson),
        ("m.room.power_levels", json!({"users": {"@alice:x": 1}}), RefusalKind::InvalidParam),
        ("m.room.canonical_alias", json!({"alias": "#b:x"}), RefusalKind::BadAlias),
        ("m.room.canonical_alias", json!({"alias": "b"}), RefusalKind::InvalidParam),
    ] {
        assert_eq!(state(kind, content.clone()), Err(refused), "{kind} {content}");
    }
    let alias = json!({"alias": "#a:x", "alt_aliases": ["#a:x"]});
    assert_eq!(state("m.room.canonical_alias", alias), Ok(()));
}

#[test]
fn a_room_does_not_begin_with_thousands() {
    with_app(async |app| {
        let mut wanted = plain(RoomVersionId::V12, Preset::Private);
        let stay = user_id!("@bob:localhost").to_owned();
        wanted.invite = vec![stay; 1001];
        let alice = user_id!("@alice:localhost");
        let Err(SendError::Refused(refusal)) = create(&app, alice, wanted.clone()).await else {
            panic!("it began");
        };
        assert_eq!(refusal.kind, RefusalKind::InvalidParam);
        wanted.invite.pop();
        create(&app, alice, wanted).await.unwrap();
    });
}

#[test]
fn equal_rooms_in_one_moment_are_two() {
    with_app(async |app| {
        let alice = user_id!("@alice:localhost");
        let (app, wanted) = (&app, plain(RoomVersionId::V12, Preset::Private));
        let rooms = (0..8).map(|_| create(app, alice, wanted.clone()));
        let mut rooms: Vec<_> = futures::future::join_all(rooms).await;
        rooms.push(create(app, alice, wanted.clone()).await);
        let mut rooms: Vec<_> = rooms.into_iter().map(|made| made.unwrap().room).collect();
        rooms.sort();
        rooms.dedup();
        assert_eq!(rooms.len(), 9);
        assert_eq!(app.rooms.stream().standing(alice).await.unwrap().rooms.len(), 9);
    });
}

#[test]
fn an_alias_leads_to_one_room_however_many_ask_for_it_at_once() {
    with_app(async |app| {
        let alice = user_id!("@alice:localhost");
        let mut wanted = plain(RoomVersionId::V12, Preset::Private);
        wanted.alias = Some(room_alias_id!("#one:localhost").to_owned());
        let (app, wanted) = (&app, &wanted);
        let rooms = (0..4).map(|_| create(app, alice, wanted.clone()));
        let (made, refused): (Vec<_>, Vec<_>) =
            futures::future::join_all(rooms).await.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (1, 3));
        for error in refused {
            let Err(SendError::Refused(refusal)) = error else { panic!("{error:?}") };
            assert_eq!(refusal.kind, RefusalKind::RoomInUse);
        }
        let led = app.database.alias(room_alias_id!("#one:localhost")).await.unwrap().unwrap();
        assert_eq!(Some(&led.room), made[0].as_ref().ok().map(|made| &made.room));
    });
}
