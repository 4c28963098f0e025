//! A room that comes here from another server: for the first time, again, in part, broken off.

use std::sync::Arc;

use matryx_core::{
    event::{Pdu, Place, seal},
    membership::Membership,
    room::{Judgement, StateKey},
};
use matryx_repository::{Before, StoredEvent};
use ruma::{MilliSecondsSinceUnixEpoch, RoomVersionId, events::StateEventType, uint, user_id};
use serde_json::{Value, json};

use super::{
    two::{CREATOR, Two, U, W},
    world::{draft, run},
};
use crate::room::{Import, ImportError};

fn topic() -> StateKey {
    StateKey::new(StateEventType::RoomTopic, "")
}

fn types(events: &Value) -> Vec<&str> {
    let mut types: Vec<_> =
        events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    types.sort_unstable();
    types
}

#[test]
fn a_room_comes_with_its_state_and_the_join_as_its_first_line() {
    run(async {
        for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
            let two = Two::new(version).await;
            let since = two.y.rooms.stream().published();
            let import = two.handshake(U).await;
            let join = Arc::clone(&import.event);
            let before = two.state_at_x().await;
            two.hear_at_x(Pdu::clone(&join)).await;
            two.y.rooms.import(import).await.unwrap();

            let look = two.look_at_y().await;
            assert_eq!((look.n, look.joined, look.servers.len()), (1, 3, 2));
            assert_eq!(look.state, two.state_at_x().await);
            assert_eq!(look.membership(user_id!("@u:y")), Membership::Joined);
            assert!(look.law.powers.is_some());
            let database = two.y.rooms.database();
            assert_eq!(database.state_at(&two.room, 0, None).await.unwrap(), before);
            assert_eq!(database.state_at(&two.room, 1, None).await.unwrap(), look.state);

            for since in [None, Some(since)] {
                let answer = two.sync_at_y(U, since).await;
                let told = &answer["rooms"]["join"][two.room.as_str()];
                let timeline = told["timeline"]["events"].as_array().unwrap();
                assert_eq!(timeline.len(), 1, "{answer}");
                assert_eq!(timeline[0]["event_id"], join.event_id().as_str());
                assert_eq!(told["timeline"]["limited"], true);
                assert_eq!(told["summary"]["m.joined_member_count"], 3);
                let state = &told["state"]["events"];
                assert_eq!(state.as_array().unwrap().len(), before.len(), "{answer}");
            }

            // Life goes on, also after a restart.
            let said = two.x.say(&two.room, "@a:x", "m.room.message", None, json!({})).await;
            two.carry(&two.x, &two.y, said.unwrap()).await;
            let said = two.y.say(&two.room, U, "m.room.message", None, json!({})).await;
            two.carry(&two.y, &two.x, said.unwrap()).await;
            let state = two.look_at_y().await.state.clone();
            let two = two.restart_y().await;
            let look = two.look_at_y().await;
            assert_eq!((look.n, look.joined), (3, 3));
            assert_eq!(look.state, state);
            assert!(matches!(
                two.y.rooms.import(two.handshake(W).await).await,
                Err(ImportError::Held)
            ));
        }
    });
}

#[test]
fn what_is_not_allowed_or_rests_on_what_is_missing_is_left_out() {
    run(async {
        let two = Two::new(RoomVersionId::V11).await;
        let mut import = two.handshake(U).await;
        let look = two.x.rooms.room(&two.room).await.unwrap().unwrap().look();
        let forged = |kind: &str, key: &str, auth_events: Vec<ruma::OwnedEventId>| {
            let draft = draft("@nobody:z", kind, Some(key), json!({"users": {}}));
            let place = Place {
                room_id: Some(two.room.clone()),
                prev_events: vec![],
                auth_events,
                depth: 3,
                origin_server_ts: MilliSecondsSinceUnixEpoch(uint!(5)),
            };
            Arc::new(seal(draft, place, &two.y.server, &two.y.key, &look.rules).unwrap())
        };
        let create = look.entry(&StateKey::create()).unwrap().event_id.clone();
        let refused = forged("m.room.name", "", vec![create]);
        let hanging = forged("m.room.avatar", "", vec!["$missing".try_into().unwrap()]);
        let (refused_id, hanging_id) = (refused.event_id().clone(), hanging.event_id().clone());
        import.state.extend([refused, hanging]);
        two.y.rooms.import(import).await.unwrap();
        let look = two.look_at_y().await;
        assert!(look.event_id(StateEventType::RoomName, "").is_none());
        assert!(look.event_id(StateEventType::RoomAvatar, "").is_none());
        assert_eq!(look.entry(&topic()), two.state_at_x().await.get(&topic()));
        let kept = two.y.rooms.events().get(&refused_id).await.unwrap().unwrap();
        assert!(matches!(kept.fate, Judgement::Rejected(_)));
        assert!(two.y.rooms.events().get(&hanging_id).await.unwrap().is_none());
    });
}

#[test]
fn what_cannot_be_the_room_leaves_nothing() {
    run(async {
        let two = Two::new(RoomVersionId::V11).await;
        let unfit = async |import: Import, why: &str| {
            let error = two.y.rooms.import(import).await.unwrap_err();
            assert!(
                matches!(&error, ImportError::Unfit(sentence) if sentence.contains(why)),
                "{error}"
            );
            assert!(two.y.rooms.room(&two.room).await.unwrap().is_none());
        };
        let mut import = two.handshake(U).await;
        import.state.retain(|pdu| pdu.key() != Some(StateKey::create()));
        unfit(import, "no create event").await;
        let mut import = two.handshake(U).await;
        import.version = RoomVersionId::V10;
        unfit(import, "of version 11").await;
        let other = two.x.room(CREATOR, "public").await;
        let mut import = two.handshake(U).await;
        import.room_id = other;
        unfit(import, "create event is one of").await;
        let mut import = two.handshake(U).await;
        import.state.retain(|pdu| pdu.key() != Some(StateKey::join_rules()));
        unfit(import, "not allowed").await;
        two.join(U).await;
    });
}

#[test]
fn a_broken_off_import_is_in_nobodys_way() {
    run(async {
        let two = Two::new(RoomVersionId::V11).await;
        let stale: Vec<_> = two.state_at_x().await.into_iter().collect();
        let versions: Vec<_> =
            stale.iter().map(|(key, entry)| (key.clone(), Some(entry.clone()))).collect();
        let database = two.y.rooms.database().clone();
        database.put_state(&two.room, 1, &stale).await.unwrap();
        database.put_versions(&two.room, 0, &versions).await.unwrap();
        assert!(two.y.rooms.room(&two.room).await.unwrap().is_none());
        let gone = json!({"membership": "leave"});
        two.x.say(&two.room, "@a:x", "m.room.member", Some("@a:x"), gone).await.unwrap();
        two.join(U).await;
        let look = two.look_at_y().await;
        assert_eq!(look.state, two.state_at_x().await);
        assert_eq!(database.state_at(&two.room, 1, None).await.unwrap(), look.state);
    });
}

#[test]
fn what_an_unfinished_import_has_left_goes_with_the_next_start() {
    run(async {
        for held in [false, true] {
            let two = Two::new(RoomVersionId::V11).await;
            if held {
                two.join(U).await;
                let said = two.y.member(&two.room, U, U, "leave").await.unwrap();
                two.carry(&two.y, &two.x, said).await;
                let change = json!({"topic": "two"});
                two.x.say(&two.room, CREATOR, "m.room.topic", Some(""), change).await.unwrap();
            }
            let was = two.y.rooms.room(&two.room).await.unwrap().map(|room| room.look());
            let (n, epoch) = was.as_ref().map_or((-1, 0), |look| (look.n, look.epoch));
            // All that an import writes before its append.
            let import = two.handshake(U).await;
            let (database, join) = (two.y.rooms.database().clone(), import.event.event_id());
            let events: Vec<_> = import
                .state
                .iter()
                .map(|pdu| StoredEvent::received(pdu, Judgement::Accepted, Before::Unknown))
                .map(Arc::new)
                .collect();
            let state: Vec<_> = two.state_at_x().await.into_iter().collect();
            let versions: Vec<_> =
                state.iter().map(|(key, entry)| (key.clone(), Some(entry.clone()))).collect();
            database.begin_import(&two.room, join).await.unwrap();
            database.learn(&two.room, join, &events, &two.y.server).await.unwrap();
            database.put_state(&two.room, epoch + 1, &state).await.unwrap();
            database.put_versions(&two.room, n + 1, &versions).await.unwrap();
            let new: Vec<_> = database.imports(Some(&two.room)).await.unwrap();
            let new: Vec<_> = new.into_iter().flat_map(|part| part.events).collect();
            assert_eq!(new.len(), if held { 1 } else { state.len() });

            let two = two.restart_y().await;
            let database = two.y.rooms.database();
            assert_eq!(database.imports(None).await.unwrap(), []);
            for id in &new {
                assert!(database.event(id).await.unwrap().is_none(), "{id} is left");
            }
            assert!(database.state(&two.room, epoch + 1).await.unwrap().is_empty());
            let left = database.versions(&two.room, &topic()).await.unwrap();
            assert!(left.iter().all(|version| version.n <= n), "{left:?}");
            if let Some(was) = was {
                assert_eq!(two.look_at_y().await.state, was.state);
                assert_eq!(database.state_at(&two.room, n, None).await.unwrap(), was.state);
            }
            // It can be done again, and leaves no marks when it ends well.
            two.join(U).await;
            assert_eq!(two.look_at_y().await.state, two.state_at_x().await);
            assert_eq!(two.y.rooms.database().imports(None).await.unwrap(), []);
        }
    });
}

#[test]
fn a_finished_import_loses_nothing_if_its_end_was_not_written() {
    run(async {
        let two = Two::new(RoomVersionId::V11).await;
        let import = two.handshake(U).await;
        let join = import.event.event_id().clone();
        two.hear_at_x(Pdu::clone(&import.event)).await;
        two.y.rooms.import(import).await.unwrap();
        let database = two.y.rooms.database().clone();
        database.begin_import(&two.room, &join).await.unwrap();
        let before = two.look_at_y().await;
        let two = two.restart_y().await;
        assert_eq!(two.look_at_y().await.state, before.state);
        assert_eq!(two.y.rooms.database().imports(None).await.unwrap(), []);
        for entry in before.state.values() {
            assert!(two.y.rooms.events().get(&entry.event_id).await.unwrap().is_some());
        }
    });
}

#[test]
fn a_room_that_was_left_comes_back_behind_a_gap() {
    run(async {
        let two = Two::new(RoomVersionId::V11).await;
        two.join(U).await;
        let said = two.y.member(&two.room, W, W, "join").await.unwrap();
        two.carry(&two.y, &two.x, said).await;
        for user in [W, U] {
            let said = two.y.member(&two.room, user, user, "leave").await.unwrap();
            two.carry(&two.y, &two.x, said).await;
        }
        let left = two.look_at_y().await;
        let changes = json!({"topic": "two"});
        two.x.say(&two.room, CREATOR, "m.room.topic", Some(""), changes).await.unwrap();
        two.x.member(&two.room, CREATOR, W, "ban").await.unwrap();
        let since = two.y.rooms.stream().published();

        two.join(U).await;
        let look = two.look_at_y().await;
        assert_eq!((look.n, look.epoch, look.tips.len()), (left.n + 1, left.epoch + 1, 1));
        assert_eq!(look.state, two.state_at_x().await);
        let database = two.y.rooms.database();
        assert_eq!(database.state_at(&two.room, left.n, None).await.unwrap(), left.state);
        assert_eq!(database.state_at(&two.room, look.n, None).await.unwrap(), look.state);
        assert!(database.state(&two.room, left.epoch).await.unwrap().is_empty());

        let answer = two.sync_at_y(U, Some(since)).await;
        let told = &answer["rooms"]["join"][two.room.as_str()];
        assert_eq!(told["timeline"]["events"].as_array().unwrap().len(), 1, "{answer}");
        assert_eq!(told["timeline"]["limited"], true);
        assert!(types(&told["state"]["events"]).contains(&"m.room.create"));
        // Who was banned meanwhile hears of that, and of nothing else.
        let answer = two.sync_at_y(W, Some(since)).await;
        let told = &answer["rooms"]["leave"][two.room.as_str()];
        assert_eq!(types(&told["state"]["events"]), ["m.room.member"], "{answer}");
        assert_eq!(told["state"]["events"][0]["content"]["membership"], "ban");
        assert_eq!(told["timeline"]["events"], json!([]), "{answer}");

        let two = two.restart_y().await;
        assert_eq!(two.look_at_y().await.state, look.state);
        let said = two.y.say(&two.room, U, "m.room.message", None, json!({})).await;
        two.carry(&two.y, &two.x, said.unwrap()).await;
    });
}

#[test]
fn a_leaving_that_nobody_has_heard_of_is_not_forgotten() {
    run(async {
        let two = Two::new(RoomVersionId::V11).await;
        two.join(U).await;
        let said = two.y.member(&two.room, W, W, "join").await.unwrap();
        two.carry(&two.y, &two.x, said).await;
        let mut untold = two.y.member(&two.room, U, U, "leave").await.unwrap();
        let last = two.y.member(&two.room, W, W, "leave").await.unwrap();
        untold.events.extend(last.events);

        two.join(W).await;
        let look = two.look_at_y().await;
        assert_eq!(look.tips.len(), 2);
        assert_eq!(look.membership(user_id!("@u:y")), Membership::Left);
        assert_eq!(look.membership(user_id!("@w:y")), Membership::Joined);
        assert_eq!((look.joined, look.servers.len()), (3, 2));
        // Both come to the same once the resident hears of it.
        two.carry(&two.y, &two.x, untold).await;
        assert_eq!(two.state_at_x().await, look.state);
    });
}
