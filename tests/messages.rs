//! Sending, `/messages` and `/event`.

use serde_json::{Value, json};

use crate::support::{SharedServer, Sync, TestUser};

static SERVER: SharedServer = SharedServer::new();

/// The texts of the messages in a page, in its order.
fn texts(page: &Value) -> Vec<&str> {
    let chunk = page["chunk"].as_array().unwrap();
    chunk.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

async fn page(user: &TestUser, room: &str, query: &[(&str, &str)]) -> Value {
    user.query(&["rooms", room, "messages"], query).await.granted()
}

#[test]
fn a_message_reaches_everybody_live() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        let event_id = alice.say(&room, "hello").await;
        for (listener, own) in [(&mut alices, true), (&mut bobs, false)] {
            let news = listener.until_in("join", &room).await;
            let event = &news.joined(&room).timeline()[0];
            assert_eq!(event["event_id"], event_id.as_str());
            assert_eq!(event["content"]["body"], "hello");
            assert_eq!(event["sender"], alice.id.as_str());
            // Only the device that sent it knows the transaction.
            assert_eq!(event["unsigned"].get("transaction_id").is_some(), own, "{event}");
        }
        let other = alice.another_device().await;
        let answer = other.sync(Sync::initial()).await;
        let event = answer.joined(&room).timeline().last().unwrap();
        assert_eq!(event["event_id"], event_id.as_str());
        assert!(event["unsigned"].get("transaction_id").is_none(), "{event}");
    });
}

#[test]
fn a_transaction_id_counts_once_per_device_and_endpoint() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let other_room = alice.private_room().await;
        let send = async |user: &TestUser, room: &str, kind: &str, body: &str| {
            user.send_as(room, kind, "once", json!({ "body": body })).await.event_id()
        };
        let first = send(&alice, &room, "m.room.message", "one").await;
        assert_eq!(send(&alice, &room, "m.room.message", "two").await, first);
        assert_ne!(send(&alice, &room, "org.example.other", "three").await, first);
        assert_ne!(send(&alice, &other_room, "m.room.message", "four").await, first);
        let phone = alice.another_device().await;
        assert_ne!(send(&phone, &room, "m.room.message", "five").await, first);
        assert_eq!(alice.reads(&room).await, ["one", "three", "five"]);
    });
}

#[test]
fn concurrent_duplicates_are_one_event() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let sends = (0..8).map(|n| {
            let (alice, room) = (&alice, &room);
            async move {
                let content = json!({ "body": format!("copy {n}") });
                alice.send_as(room, "m.room.message", "same", content).await.event_id()
            }
        });
        let ids = futures::future::join_all(sends).await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(alice.reads(&room).await.len(), 1);
    });
}

#[test]
fn history_is_read_in_pages_in_both_directions() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let all: Vec<String> = (0..25).map(|n| format!("number {n}")).collect();
        for text in &all {
            alice.say(&room, text).await;
        }
        for direction in ["b", "f"] {
            let mut found = Vec::new();
            let mut from: Option<String> = None;
            loop {
                let mut query = vec![("dir", direction), ("limit", "7")];
                query.extend(from.as_deref().map(|from| ("from", from)));
                let page = page(&alice, &room, &query).await;
                assert!(page["chunk"].as_array().unwrap().len() <= 7);
                found.extend(texts(&page).into_iter().map(str::to_owned));
                let Some(end) = page["end"].as_str() else { break };
                from = Some(end.to_owned());
            }
            if direction == "b" {
                found.reverse();
            }
            assert_eq!(found, all, "{direction}");
        }
    });
}

#[test]
fn a_limited_timeline_is_continued_without_gap_or_repetition() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        for n in 0..12 {
            alice.say(&room, &format!("number {n}")).await;
        }
        let filter = json!({ "room": { "timeline": { "limit": 3 } } });
        let answer = alice.sync(Sync::initial().filter(&filter)).await;
        let there = answer.joined(&room);
        assert!(there.limited());
        assert_eq!(there.said(), ["number 9", "number 10", "number 11"]);
        let query = [("dir", "b"), ("limit", "4"), ("from", there.prev_batch())];
        let older = page(&alice, &room, &query).await;
        assert_eq!(texts(&older), ["number 8", "number 7", "number 6", "number 5"]);
        // And forwards again, to the end of what sync has shown.
        let query = [("dir", "f"), ("limit", "10"), ("from", there.prev_batch())];
        let newer = page(&alice, &room, &query).await;
        assert_eq!(texts(&newer), ["number 9", "number 10", "number 11"]);
    });
}

#[test]
fn a_page_ends_where_it_is_told() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        alice.say(&room, "before").await;
        let start = alice.sync(Sync::initial()).await.next_batch;
        alice.say(&room, "between").await;
        let end = alice.sync(Sync::since(&start)).await.next_batch;
        alice.say(&room, "after").await;
        let between = page(&alice, &room, &[("dir", "f"), ("from", &start), ("to", &end)]).await;
        assert_eq!(texts(&between), ["between"]);
        let between = page(&alice, &room, &[("dir", "b"), ("from", &end), ("to", &start)]).await;
        assert_eq!(texts(&between), ["between"]);
    });
}

#[test]
fn a_page_can_be_filtered() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.say(&room, "of alice").await;
        bob.say(&room, "of bob").await;
        let filter = json!({ "types": ["m.room.message"], "senders": [bob.id] }).to_string();
        let filtered = page(&alice, &room, &[("dir", "b"), ("filter", &filter)]).await;
        assert_eq!(texts(&filtered), ["of bob"]);
        assert_eq!(filtered["chunk"].as_array().unwrap().len(), 1);
        let filter = json!({ "not_types": ["m.room.message"] }).to_string();
        let filtered = page(&alice, &room, &[("dir", "b"), ("filter", &filter)]).await;
        assert_eq!(texts(&filtered), Vec::<&str>::new());
        assert!(!filtered["chunk"].as_array().unwrap().is_empty());
    });
}

#[test]
fn one_event_is_read_by_its_id() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        let other = alice.private_room().await;
        let event_id = alice.say(&room, "hello").await;
        let event = alice.event(&room, &event_id).await.granted();
        assert_eq!(event["content"]["body"], "hello");
        assert_eq!(event["room_id"], room.as_str());
        assert_eq!(event["unsigned"]["membership"], "join");
        // What one may not see is not there; nor is what is in another room.
        bob.event(&room, &event_id).await.refused(404, "M_NOT_FOUND");
        alice.event(&other, &event_id).await.refused(404, "M_NOT_FOUND");
        alice.event(&room, "$nothing").await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn sending_takes_membership_and_level() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let hello = json!({ "msgtype": "m.text", "body": "hello" });
        bob.send(&room, hello.clone()).await.forbidden();
        bob.join(&room).await.granted();
        bob.send(&room, hello.clone()).await.granted();
        let levels = json!({ "events_default": 10 });
        alice.put_state(&room, "m.room.power_levels", "", levels).await.granted();
        bob.send(&room, hello).await.forbidden().says("10");
    });
}

#[test]
fn bad_input_is_told_apart() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        alice.send(&room, json!([])).await.refused(400, "M_BAD_JSON");
        alice.send(&room, json!({ "n": 1.5 })).await.refused(400, "M_BAD_JSON");
        // Beside the event and its content; what is deeper, other servers might never be able to read.
        let nested = |lists| (0..lists).fold(json!(1), |inside, _| json!([inside]));
        alice.send(&room, json!({ "n": nested(118) })).await.granted();
        for lists in [119, 127, 128] {
            let deep = json!({ "n": nested(lists) });
            alice.send(&room, deep).await.refused(400, "M_BAD_JSON");
        }
        let large = json!({ "body": "x".repeat(65_536) });
        alice.send(&room, large).await.refused(413, "M_TOO_LARGE");
        let messages = ["rooms", &room, "messages"];
        alice.query(&messages, &[]).await.refused(400, "M_MISSING_PARAM");
        alice.query(&["rooms", "no-room", "messages"], &[]).await.refused_with_status(400);
        // Who may not read the room learns nothing else.
        server.user("bob").await.query(&messages, &[]).await.forbidden();
        for query in [[("dir", "x"), ("limit", "1")], [("dir", "b"), ("limit", "many")]] {
            alice.query(&messages, &query).await.refused_with_status(400);
        }
        let query = [("dir", "b"), ("from", "no token")];
        alice.query(&messages, &query).await.refused_with_status(400);
        // Tokens of things that have not happened: the server has been restored from a backup.
        let sync = alice.sync(Sync::initial()).await.next_batch;
        let line =
            alice.query(&messages, &[("dir", "b"), ("limit", "1")]).await.granted_str("start");
        for token in [sync, line] {
            alice.query(&messages, &[("dir", "b"), ("from", &token)]).await.granted();
            let future = format!("{token}0000000");
            for key in ["from", "to"] {
                let query = [("dir", "b"), (key, &*future)];
                let answer = alice.query(&messages, &query).await;
                answer.refused(400, "M_INVALID_PARAM").says("not happened yet");
            }
            let answer = alice.members(&room, &[("at", &future)]).await;
            answer.refused(400, "M_INVALID_PARAM");
        }
        assert_eq!(alice.reads(&room).await, Vec::<String>::new());
    });
}

#[test]
fn many_senders_at_once_lose_nothing() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let sends = (0..40).map(|n| {
            let (user, room) = (if n % 2 == 0 { &alice } else { &bob }, &room);
            async move { user.say(room, &format!("number {n}")).await }
        });
        let ids = futures::future::join_all(sends).await;
        let read = alice.reads(&room).await;
        assert_eq!(read.len(), ids.len());
        for n in 0..40 {
            assert!(read.contains(&format!("number {n}")), "number {n} is missing");
        }
        assert_eq!(bob.reads(&room).await, read, "everybody reads the same order");
    });
}
