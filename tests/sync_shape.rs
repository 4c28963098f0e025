//! `/sync`: what an entry looks like, and what clients could be misled by.

use serde_json::{Value, json};

use crate::support::{SharedServer, Sync, find, has};

static SERVER: SharedServer = SharedServer::new();

fn history(visibility: &str) -> Value {
    json!({
        "preset": "public_chat",
        "initial_state": [{
            "type": "m.room.history_visibility",
            "content": { "history_visibility": visibility },
        }],
    })
}

#[test]
fn what_some_clients_insist_on_is_there_and_what_is_not_known_is_not() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        assert!(first.joined(&room).value.get("unread_notifications").is_none());
        bob.leave(&room).await.granted();
        let left = bob.sync(Sync::since(&first)).await;
        // matrix-nio takes no room that was left without both, if they are empty or not.
        for part in ["state", "timeline"] {
            assert!(left.left(&room).value[part]["events"].is_array(), "{:#}", left.body);
        }
        assert!(left.left(&room).value["timeline"]["limited"].is_boolean());
        alice.invite(&room, &bob).await.granted();
        let invited = bob.sync(Sync::since(&left)).await;
        assert!(invited.invited(&room).value["invite_state"]["events"].is_array());
        // Nothing happened: only the token.
        let nothing = bob.sync(Sync::since(&invited)).await;
        assert_eq!(nothing.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["next_batch"]);
    });
}

#[test]
fn events_can_be_had_as_servers_exchange_them() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let answer =
            alice.sync(Sync::initial().filter(&json!({ "event_format": "federation" }))).await;
        let there = answer.joined(&room);
        for event in there.timeline() {
            assert!(event["hashes"]["sha256"].is_string(), "{event}");
            assert!(event["auth_events"].is_array(), "{event}");
        }
    });
}

#[test]
fn a_summary_comes_only_when_it_has_changed() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let mut since = alice.sync(Sync::initial()).await;
        let summary = async |since: &mut _| {
            let answer = alice.sync(Sync::since(since)).await;
            let summary = answer.joined(&room).value.get("summary").cloned();
            *since = answer;
            summary
        };
        alice.say(&room, "hello").await;
        assert_eq!(summary(&mut since).await, None);
        let name = json!({ "membership": "join", "displayname": "Bobby" });
        bob.put_member(&room, &bob, name).await.granted();
        assert_eq!(summary(&mut since).await, None, "nobody came or went");
        alice.put_state(&room, "m.room.name", "", json!({ "name": "Named" })).await.granted();
        let named = summary(&mut since).await.unwrap();
        assert!(named.get("m.heroes").is_none(), "the room has a name: {named}");
        alice.put_state(&room, "m.room.name", "", json!({ "name": "" })).await.granted();
        let nameless = summary(&mut since).await.unwrap();
        assert_eq!(nameless["m.heroes"], json!([bob.id]));
        bob.leave(&room).await.granted();
        let alone = summary(&mut since).await.unwrap();
        assert_eq!(alone["m.joined_member_count"], 1);
        assert_eq!(alone["m.heroes"], json!([bob.id]), "who has left, if nobody else is there");
    });
}

#[test]
fn lazily_loaded_members_come_with_the_state_after_too() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.new_room(json!({ "preset": "public_chat", "name": "Named" })).await;
        bob.join(&room).await.granted();
        let lazy = json!({
            "room": { "state": { "lazy_load_members": true }, "timeline": { "limit": 20 } },
        });
        let first = alice.sync(Sync::initial().filter(&lazy).state_after()).await;
        let after = first.joined(&room).state_after();
        for user in [&alice, &bob] {
            assert!(
                has(after, "m.room.member", &user.id),
                "whoever is in the timeline: {after:#?}"
            );
        }
        carol.join(&room).await.granted();
        bob.say(&room, "welcome").await;
        let next = alice.sync(Sync::since(&first).filter(&lazy).state_after()).await;
        let after = next.joined(&room).state_after();
        assert_eq!(find(after, "m.room.member", &carol.id)["content"]["membership"], "join");
        assert!(has(after, "m.room.member", &bob.id), "bob speaks: {after:#?}");
        assert!(!has(after, "m.room.name", ""), "that has not changed");
    });
}

#[test]
fn who_came_back_is_not_misled_by_what_they_missed() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.new_room(history("joined")).await;
        bob.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        let topic = async |text: &str| {
            alice.put_state(&room, "m.room.topic", "", json!({ "topic": text })).await.granted();
        };
        topic("seen").await;
        bob.leave(&room).await.granted();
        topic("missed").await;
        bob.join(&room).await.granted();
        let answer = bob.sync(Sync::since(&first)).await;
        let there = answer.joined(&room);
        assert_eq!(there.happened("m.room.topic", "").unwrap()["content"]["topic"], "seen");
        // A client applies the timeline to the state before it: of the newer topic, which is not in it, it hears next.
        let next = bob.sync(Sync::since(&answer).waiting(600_000)).await;
        let state = next.joined(&room).state();
        assert_eq!(find(state, "m.room.topic", "")["content"]["topic"], "missed");

        let answer = bob.sync(Sync::since(&first).state_after()).await;
        let there = answer.joined(&room);
        assert_eq!(find(there.state_after(), "m.room.topic", "")["content"]["topic"], "missed");
        assert_eq!(there.happened("m.room.topic", "").unwrap()["content"]["topic"], "seen");
    });
}

#[test]
fn who_joins_sees_of_the_past_what_the_room_shows() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        for (visibility, sees) in [("joined", false), ("invited", false), ("shared", true)] {
            let room = alice.new_room(history(visibility)).await;
            let first = bob.sync(Sync::initial()).await;
            alice.say(&room, "before").await;
            bob.join(&room).await.granted();
            alice.say(&room, "after").await;
            let answer = bob.sync(Sync::since(&first)).await;
            let there = answer.joined(&room);
            let said = there.said();
            assert_eq!(said.contains(&"before"), sees, "{visibility}: {said:?}");
            assert!(said.contains(&"after"));
            assert!(has(&[there.state(), there.timeline()].concat(), "m.room.create", ""));
        }
    });
}

#[test]
fn a_room_that_was_left_twice_is_as_of_the_last_stay() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let first = bob.sync(Sync::initial()).await;
        bob.join(&room).await.granted();
        alice.say(&room, "first stay").await;
        bob.leave(&room).await.granted();
        bob.join(&room).await.granted();
        alice.say(&room, "second stay").await;
        alice.kick(&room, &bob).await.granted();
        alice.ban(&room, &bob).await.granted();
        alice.say(&room, "without bob").await;
        let answer = bob.sync(Sync::since(&first)).await;
        let left = answer.left(&room);
        assert_eq!(left.said(), ["first stay", "second stay"]);
        assert_eq!(left.membership(&bob), Some("ban"));
    });
}
