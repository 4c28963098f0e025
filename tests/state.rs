//! `/rooms/{roomId}/state…`.

use reqwest::Method;
use serde_json::json;

use crate::support::{SharedServer, Sync, find, v3};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn state_is_put_and_read_back() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let topic = json!({ "topic": "Of things", "org.example": { "kept": [1, null] } });
        let event_id = alice.put_state(&room, "m.room.topic", "", topic.clone()).await.event_id();
        assert_eq!(alice.state_event(&room, "m.room.topic", "").await.granted(), topic);

        let state = alice.state(&room).await.granted();
        let event = find(state.as_array().unwrap(), "m.room.topic", "");
        assert_eq!(event["event_id"], event_id.as_str());
        assert_eq!(event["room_id"], room.as_str());
        assert_eq!(event["sender"], alice.id.as_str());
        assert_eq!(event["content"], topic);
        assert!(event["origin_server_ts"].is_u64(), "{event}");
        for key in ["auth_events", "prev_events", "hashes", "signatures", "depth"] {
            assert!(event.get(key).is_none(), "{key} is not for clients: {event}");
        }
    });
}

#[test]
fn the_empty_key_may_be_left_out() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        // Without a slash at the end, and with one.
        let path = ["rooms", &room, "state", "m.room.name"];
        alice.put(&path, &json!({ "name": "one" })).await.granted();
        assert_eq!(alice.get(&path).await.granted(), json!({ "name": "one" }));
        assert_eq!(
            alice.state_event(&room, "m.room.name", "").await.granted(),
            json!({ "name": "one" })
        );
        alice.put_state(&room, "m.room.name", "", json!({ "name": "two" })).await.granted();
        assert_eq!(alice.get(&path).await.granted(), json!({ "name": "two" }));
    });
}

#[test]
fn a_whole_event_can_be_asked_for() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let path = ["rooms", &room, "state", "m.room.create", ""];
        let event = alice.query(&path, &[("format", "event")]).await.granted();
        assert_eq!(event["type"], "m.room.create");
        assert_eq!(event["room_id"], room.as_str());
        assert_eq!(event["content"]["room_version"], "12");
        let content = alice.query(&path, &[("format", "content")]).await.granted();
        assert_eq!(content, event["content"]);
        let other = alice.query(&path, &[("format", "xml")]).await;
        other.refused(400, "M_INVALID_PARAM").says("xml").says("content");
    });
}

#[test]
fn keys_of_any_letters_are_kept_apart() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let keys = ["a/b", "a%2Fb", "ä ö", "?x=1#y", "plain", "🏠"];
        for key in keys {
            alice.put_state(&room, "org.example.key", key, json!({ "key": key })).await.granted();
        }
        for key in keys {
            let content = alice.state_event(&room, "org.example.key", key).await.granted();
            assert_eq!(content, json!({ "key": key }));
        }
    });
}

#[test]
fn setting_the_same_again_is_the_same_event() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let topic = json!({ "topic": "same" });
        let first = alice.put_state(&room, "m.room.topic", "", topic.clone()).await.event_id();
        let second = alice.put_state(&room, "m.room.topic", "", topic).await.event_id();
        assert_eq!(first, second);
        let topic = json!({ "topic": "other" });
        let third = alice.put_state(&room, "m.room.topic", "", topic).await.event_id();
        assert_ne!(first, third);
    });
}

#[test]
fn a_change_shows_what_it_replaces() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let topic = json!({ "topic": "one" });
        let first = alice.put_state(&room, "m.room.topic", "", topic.clone()).await.event_id();
        let before = alice.sync(Sync::initial()).await;
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "two" })).await.granted();
        let news = alice.sync(Sync::since(&before)).await;
        let event = news.joined(&room).happened("m.room.topic", "").unwrap();
        assert_eq!(event["unsigned"]["prev_content"], topic);
        assert_eq!(event["unsigned"]["replaces_state"], first.as_str());
    });
}

#[test]
fn state_takes_its_level() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let topic = json!({ "topic": "mine" });
        bob.put_state(&room, "m.room.topic", "", topic.clone()).await.forbidden().says("50");
        let levels = json!({ "events": { "m.room.topic": 0 } });
        alice.put_state(&room, "m.room.power_levels", "", levels).await.granted();
        bob.put_state(&room, "m.room.topic", "", topic).await.granted();
        bob.put_state(&room, "m.room.name", "", json!({ "name": "mine" })).await.forbidden();
    });
}

#[test]
fn a_key_that_is_a_user_belongs_to_that_user() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let levels = json!({ "events": { "org.example.own": 0 } });
        alice.put_state(&room, "m.room.power_levels", "", levels).await.granted();
        bob.put_state(&room, "org.example.own", &bob.id, json!({})).await.granted();
        bob.put_state(&room, "org.example.own", &alice.id, json!({})).await.forbidden();
        bob.put_state(&room, "org.example.own", "@nobody:localhost", json!({})).await.forbidden();
    });
}

#[test]
fn nobody_gives_more_power_than_they_have() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let users = json!({ &bob.id: 50, &carol.id: 50 });
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "power_level_content_override": {
                    "users": users, "events": { "m.room.power_levels": 50 },
                },
            }))
            .await;
        bob.join(&room).await.granted();
        let levels = alice.state_event(&room, "m.room.power_levels", "").await.granted();
        let with = |user: &str, level: i64| {
            let mut levels = levels.clone();
            levels["users"][user] = json!(level);
            levels
        };
        let put = async |levels| bob.put_state(&room, "m.room.power_levels", "", levels).await;
        put(with(&bob.id, 51)).await.forbidden();
        put(with("@dave:localhost", 51)).await.forbidden();
        put(with(&carol.id, 49)).await.forbidden();
        put(with("@dave:localhost", 50)).await.granted();
        put(with(&alice.id, 100)).await.refused_with_status(400);
    });
}

#[test]
fn broken_levels_are_bad_input() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        for levels in [
            json!({ "ban": "50" }),
            json!({ "users": { &alice.id: 100 } }),
            json!({ "users": { "nobody": 1 } }),
            json!({ "users": [] }),
            json!({ "events": { "m.room.name": 1.5 } }),
        ] {
            let answer = alice.put_state(&room, "m.room.power_levels", "", levels.clone()).await;
            assert!([400, 403].contains(&answer.status), "{levels}: {}", answer.text);
        }
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "still" })).await.granted();
    });
}

#[test]
fn a_room_is_created_once() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for version in ["11", "12"] {
            let room = alice.new_room(json!({ "room_version": version })).await;
            let content = json!({ "room_version": version });
            alice
                .put_state(&room, "m.room.create", "", content.clone())
                .await
                .refused_with_status(400);
            let answer = alice.send_as(&room, "m.room.create", "txn", content).await;
            answer.refused_with_status(400);
        }
    });
}

#[test]
fn outsiders_read_and_write_nothing() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        bob.state(&room).await.forbidden();
        bob.state_event(&room, "m.room.create", "").await.forbidden();
        bob.put_state(&room, "m.room.topic", "", json!({})).await.forbidden();
        carol.join(&room).await.granted();
        alice.ban(&room, &carol).await.granted();
        carol.state(&room).await.forbidden();
        carol.state_event(&room, "m.room.create", "").await.forbidden();
    });
}

#[test]
fn what_anyone_may_read_anyone_reads() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let open = json!({ "history_visibility": "world_readable" });
        let state = json!([{ "type": "m.room.history_visibility", "content": open }]);
        let room = alice.new_room(json!({ "initial_state": state, "name": "Open" })).await;
        let name = bob.state_event(&room, "m.room.name", "").await.granted();
        assert_eq!(name, json!({ "name": "Open" }));
        bob.state(&room).await.granted();
    });
}

#[test]
fn what_is_not_there_is_not_found() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        alice.state_event(&room, "m.room.topic", "").await.refused(404, "M_NOT_FOUND");
        alice.state_event(&room, "m.room.create", "key").await.refused(404, "M_NOT_FOUND");
        let nowhere = format!("!nowhere:{}", server.name());
        let answer = alice.state(&nowhere).await;
        assert!([403, 404].contains(&answer.status), "{}", answer.text);
    });
}

#[test]
fn nobody_shuts_out_their_own_server() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        for acl in [
            json!({}),
            json!({ "allow": [] }),
            json!({ "allow": ["*.example"] }),
            json!({ "allow": ["*"], "deny": ["local*"] }),
            json!({ "allow": "*" }),
        ] {
            let answer = alice.put_state(&room, "m.room.server_acl", "", acl).await;
            answer.refused(400, "M_INVALID_PARAM").says(server.name()).says("allow");
        }
        alice.state_event(&room, "m.room.server_acl", "").await.refused(404, "M_NOT_FOUND");
        let acl = json!({ "allow": ["*"], "deny": ["*.example"] });
        let set = alice.put_state(&room, "m.room.server_acl", "", acl.clone()).await.event_id();
        // What is left of one that is redacted lets nobody in.
        alice.redact(&room, &set).await.forbidden().says("redacted");
        assert_eq!(alice.state_event(&room, "m.room.server_acl", "").await.granted(), acl);
        // Under another key it means nothing.
        alice.put_state(&room, "m.room.server_acl", "other", json!({})).await.granted();
    });
}

#[test]
fn bad_input_is_told_apart() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let url = alice.http.url(&v3(&["rooms", &room, "state", "org.example"]));
        for (body, errcode) in [
            ("{", "M_NOT_JSON"),
            ("[]", "M_BAD_JSON"),
            ("5", "M_BAD_JSON"),
            ("\"x\"", "M_BAD_JSON"),
        ] {
            let request = alice.http.request(Method::PUT, url.clone()).body(body);
            alice.http.send(request).await.refused(400, errcode);
        }
        // What canonical JSON does not know, in room versions that insist on it.
        for body in [r#"{"n":1.5}"#, r#"{"n":9007199254740992}"#, r#"{"n":1e3}"#] {
            let request = alice.http.request(Method::PUT, url.clone()).body(body);
            alice.http.send(request).await.refused(400, "M_BAD_JSON");
        }
        let long = "x".repeat(256);
        let answer = alice.put_state(&room, "org.example", &long, json!({})).await;
        assert!([400, 413].contains(&answer.status), "{}", answer.text);
        let large = json!({ "text": "x".repeat(65_536) });
        alice.put_state(&room, "org.example", "", large).await.refused(413, "M_TOO_LARGE");
    });
}
