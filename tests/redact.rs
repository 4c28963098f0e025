//! `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`.

use serde_json::json;

use crate::support::{SharedServer, Sync, fresh};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn a_redacted_message_is_empty_everywhere() {
    SERVER.run(async |server| {
        for version in ["10", "11", "12"] {
            let [alice, bob] = server.users(["alice", "bob"]).await;
            let options = json!({ "preset": "public_chat", "room_version": version });
            let room = alice.new_room(options).await;
            bob.join(&room).await.granted();
            let event_id = bob.say(&room, "regretted").await;
            let mut alices = alice.listens().await;
            let txn = format!("txn{}", fresh());
            let path = ["rooms", &room, "redact", &event_id, &txn];
            let redaction = bob.put(&path, &json!({ "reason": "a slip" })).await.event_id();

            let news = alices.until_in("join", &room).await;
            let event = &news.joined(&room).timeline()[0];
            assert_eq!(event["type"], "m.room.redaction");
            assert_eq!(event["event_id"], redaction.as_str());
            assert_eq!(event["content"]["reason"], "a slip");
            // Clients of all ages find it, wherever the version keeps it.
            assert_eq!(event["redacts"], event_id.as_str(), "version {version}");
            if version != "10" {
                assert_eq!(event["content"]["redacts"], event_id.as_str(), "version {version}");
            }

            let event = alice.event(&room, &event_id).await.granted();
            assert_eq!(event["content"], json!({}));
            assert_eq!(event["unsigned"]["redacted_because"]["event_id"], redaction.as_str());
            assert_eq!(alice.reads(&room).await, Vec::<String>::new());
            assert!(!alice.sync(Sync::initial()).await.body.to_string().contains("regretted"));
        }
    });
}

#[test]
fn redacted_state_loses_its_content() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let topic = json!({ "topic": "regretted" });
        let event_id = alice.put_state(&room, "m.room.topic", "", topic).await.event_id();
        alice.redact(&room, &event_id).await.granted();
        assert_eq!(alice.state_event(&room, "m.room.topic", "").await.granted(), json!({}));
    });
}

#[test]
fn a_redacted_membership_stays_a_membership() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let content = json!({ "membership": "join", "displayname": "A bad name", "extra": 1 });
        bob.join(&room).await.granted();
        let event_id = bob.put_member(&room, &bob, content).await.event_id();
        alice.redact(&room, &event_id).await.granted();
        assert_eq!(alice.member(&room, &bob).await, json!({ "membership": "join" }));
        bob.say(&room, "still here").await;
    });
}

#[test]
fn others_messages_take_the_level() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        carol.join(&room).await.granted();
        let event_id = bob.say(&room, "hello").await;
        carol.redact(&room, &event_id).await.forbidden().says("50");
        assert_eq!(alice.reads(&room).await, ["hello"]);
        alice.redact(&room, &event_id).await.granted();
        assert_eq!(alice.reads(&room).await, Vec::<String>::new());
    });
}

#[test]
fn only_members_redact() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let event_id = bob.say(&room, "hello").await;
        bob.leave(&room).await.granted();
        bob.redact(&room, &event_id).await.forbidden();
        assert_eq!(alice.reads(&room).await, ["hello"]);
    });
}

#[test]
fn what_is_not_there_cannot_be_redacted() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let other = alice.private_room().await;
        let elsewhere = alice.say(&other, "elsewhere").await;
        for event_id in ["$nothing", elsewhere.as_str()] {
            let answer = alice.redact(&room, event_id).await;
            assert!([400, 403, 404].contains(&answer.status), "{}", answer.text);
        }
        assert_eq!(alice.reads(&other).await, ["elsewhere"]);
    });
}

#[test]
fn a_repeated_transaction_is_one_redaction() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let event_id = alice.say(&room, "hello").await;
        let path = ["rooms", &room, "redact", &event_id, "same"];
        let first = alice.put(&path, &json!({})).await.event_id();
        assert_eq!(alice.put(&path, &json!({})).await.event_id(), first);
    });
}
