//! What those who left, were kicked, banned or never came may read of a room.

use serde_json::{Value, json};

use crate::support::{SharedServer, TestUser, find, has};

static SERVER: SharedServer = SharedServer::new();

/// A public room with this visibility of its history.
async fn room_with_history(owner: &TestUser, visibility: &str) -> String {
    let content = json!({ "history_visibility": visibility });
    let state = json!([{ "type": "m.room.history_visibility", "content": content }]);
    owner.new_room(json!({ "preset": "public_chat", "initial_state": state })).await
}

async fn state(user: &TestUser, room: &str) -> Vec<Value> {
    user.state(room).await.granted().as_array().cloned().unwrap_or_default()
}

#[test]
fn who_left_reads_up_to_that_moment_and_no_further() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.new_room(json!({ "preset": "public_chat", "topic": "old" })).await;
        bob.join(&room).await.granted();
        carol.join(&room).await.granted();
        let seen = alice.say(&room, "before").await;
        bob.leave(&room).await.granted();
        alice.kick(&room, &carol).await.granted();
        let unseen = alice.say(&room, "after").await;
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "new" })).await.granted();
        alice.put_state(&room, "m.room.name", "", json!({ "name": "new" })).await.granted();

        for user in [&bob, &carol] {
            assert_eq!(user.reads(&room).await, ["before"]);
            let state = state(user, &room).await;
            assert_eq!(find(&state, "m.room.topic", "")["content"]["topic"], "old");
            assert!(!has(&state, "m.room.name", ""));
            let own = find(&state, "m.room.member", &user.id);
            assert_eq!(own["content"]["membership"], "leave");
            let topic = user.state_event(&room, "m.room.topic", "").await.granted();
            assert_eq!(topic["topic"], "old");
            user.state_event(&room, "m.room.name", "").await.refused(404, "M_NOT_FOUND");
            user.event(&room, &seen).await.granted();
            user.event(&room, &unseen).await.refused(404, "M_NOT_FOUND");
        }
    });
}

#[test]
fn who_left_sees_no_later_state_by_coming_to_the_door_again() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let topic = async |room: &str, topic: &str| {
            alice.put_state(room, "m.room.topic", "", json!({ "topic": topic })).await.granted();
        };
        for door in ["knock", "invite", "ban"] {
            let room = alice.room_with_rule("knock").await;
            alice.bring(&room, &bob).await;
            topic(&room, "while he was there").await;
            bob.leave(&room).await.granted();
            topic(&room, "after he left").await;
            match door {
                "knock" => bob.knock(&room).await.granted(),
                "invite" => alice.invite(&room, &bob).await.granted(),
                _ => alice.ban(&room, &bob).await.granted(),
            };
            topic(&room, "while he was at the door").await;
            match door {
                "ban" => alice.unban(&room, &bob).await.granted(),
                _ => bob.leave(&room).await.granted(),
            };
            topic(&room, "after all").await;

            let state = self::state(&bob, &room).await;
            let seen = &find(&state, "m.room.topic", "")["content"]["topic"];
            assert_eq!(seen, "while he was there", "{door}");
            let topic = bob.state_event(&room, "m.room.topic", "").await.granted();
            assert_eq!(topic["topic"], "while he was there", "{door}");
            // What became of himself he knows.
            let now = self::state(&alice, &room).await;
            let own = |state: &[Value]| find(state, "m.room.member", &bob.id)["event_id"].clone();
            assert_eq!(own(&state), own(&now), "{door}");
        }
    });
}

#[test]
fn pages_from_any_token_end_with_the_leave() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.say(&room, "before").await;
        let start = bob.sync(crate::support::Sync::initial()).await.next_batch;
        bob.leave(&room).await.granted();
        alice.say(&room, "after").await;
        let later = alice.sync(crate::support::Sync::initial()).await.next_batch;
        let said = async |query: &[(&str, &str)]| -> Vec<String> {
            let page = bob.query(&["rooms", &room, "messages"], query).await.granted();
            let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
            chunk.iter().filter_map(|e| e["content"]["body"].as_str().map(str::to_owned)).collect()
        };
        assert_eq!(said(&[("dir", "f"), ("limit", "100")]).await, ["before"]);
        assert_eq!(said(&[("dir", "f"), ("from", &start)]).await, Vec::<String>::new());
        assert_eq!(said(&[("dir", "b"), ("from", &later)]).await, ["before"]);
    });
}

#[test]
fn the_banned_read_what_they_saw_but_not_the_state() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.say(&room, "before").await;
        alice.ban(&room, &bob).await.granted();
        alice.say(&room, "after").await;
        bob.state(&room).await.forbidden();
        let answer = bob.messages(&room).await;
        if answer.status == 200 {
            assert_eq!(bob.reads(&room).await, ["before"]);
        } else {
            answer.forbidden();
        }
    });
}

#[test]
fn coming_back_restores_what_was_missed_where_history_is_shared() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        for (visibility, expected) in [
            ("shared", &["before", "there", "away", "back"][..]),
            ("world_readable", &["before", "there", "away", "back"]),
            ("invited", &["there", "back"]),
            ("joined", &["there", "back"]),
        ] {
            let room = room_with_history(&alice, visibility).await;
            alice.say(&room, "before").await;
            bob.join(&room).await.granted();
            alice.say(&room, "there").await;
            bob.leave(&room).await.granted();
            alice.say(&room, "away").await;
            bob.join(&room).await.granted();
            alice.say(&room, "back").await;
            assert_eq!(bob.reads(&room).await, expected, "{visibility}");
        }
    });
}

#[test]
fn the_invited_read_from_their_invitation_on_where_that_is_the_rule() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        for (visibility, expected) in [
            ("shared", &["before", "invited", "joined"][..]),
            ("invited", &["invited", "joined"]),
            ("joined", &["joined"]),
        ] {
            let room = room_with_history(&alice, visibility).await;
            alice.say(&room, "before").await;
            alice.invite(&room, &bob).await.granted();
            alice.say(&room, "invited").await;
            bob.join(&room).await.granted();
            alice.say(&room, "joined").await;
            assert_eq!(bob.reads(&room).await, expected, "{visibility}");
        }
    });
}

#[test]
fn each_event_has_the_visibility_of_its_time() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = room_with_history(&alice, "joined").await;
        let change = async |visibility: &str| {
            let content = json!({ "history_visibility": visibility });
            alice.put_state(&room, "m.room.history_visibility", "", content).await.granted();
        };
        alice.say(&room, "for members").await;
        change("world_readable").await;
        alice.say(&room, "for the world").await;
        change("shared").await;
        alice.say(&room, "for who comes").await;
        let hidden = alice.say(&room, "the last").await;
        bob.join(&room).await.granted();
        assert_eq!(bob.reads(&room).await, ["for the world", "for who comes", "the last"]);
        // Carol never came: the present visibility decides whether she may ask, each event's what she gets.
        carol.event(&room, &hidden).await.refused(404, "M_NOT_FOUND");
        let answer = carol.messages(&room).await;
        if answer.status == 200 {
            assert_eq!(carol.reads(&room).await, ["for the world"]);
        } else {
            answer.forbidden();
        }
    });
}

#[test]
fn anyone_reads_what_the_world_may_read() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = room_with_history(&alice, "world_readable").await;
        let event_id = alice.say(&room, "for the world").await;
        assert_eq!(bob.reads(&room).await, ["for the world"]);
        bob.event(&room, &event_id).await.granted();
        // A ban does not unread what everybody reads.
        alice.ban(&room, &bob).await.granted();
        let answer = bob.messages(&room).await;
        assert!([200, 403].contains(&answer.status), "{}", answer.text);
    });
}

#[test]
fn the_own_membership_events_are_always_readable() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = room_with_history(&alice, "joined").await;
        alice.invite(&room, &bob).await.granted();
        bob.join(&room).await.granted();
        alice.kick(&room, &bob).await.granted();
        let page = bob.messages(&room).await.granted();
        let own: Vec<&str> = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["state_key"] == bob.id.as_str())
            .filter_map(|event| event["content"]["membership"].as_str())
            .collect();
        assert_eq!(own, ["leave", "join", "invite"]);
    });
}

#[test]
fn who_waits_at_the_door_reads_nothing_and_is_told_why() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.room_with_rule("knock").await;
        alice.bring(&room, &bob).await;
        alice.say(&room, "inside").await;
        bob.leave(&room).await.granted();
        // One who has been in, and one who has not.
        for user in [&bob, &carol] {
            user.knock(&room).await.granted();
            user.messages(&room).await.forbidden().says("knocked");
            user.state(&room).await.forbidden().says("knocked");
            alice.invite(&room, user).await.granted();
            user.messages(&room).await.forbidden().says("invited");
            user.leave(&room).await.granted();
        }
        assert_eq!(bob.reads(&room).await, ["inside"]);
        carol.messages(&room).await.forbidden();
    });
}

#[test]
fn outsiders_read_nothing() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        for visibility in ["shared", "invited", "joined"] {
            let room = room_with_history(&alice, visibility).await;
            let event_id = alice.say(&room, "inside").await;
            bob.messages(&room).await.forbidden();
            bob.event(&room, &event_id).await.refused(404, "M_NOT_FOUND");
        }
    });
}
