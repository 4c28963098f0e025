//! A server that stops and starts again on the same data: nobody notices.

use serde_json::{Value, json};

use crate::support::{ServerProcess, Sync, TestUser, runtime};

/// The same without the ages of events, which grow.
fn ageless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(object) => {
            object.remove("age");
            object.values_mut().for_each(|inner| *inner = ageless(inner.take()));
        }
        Value::Array(array) => array.iter_mut().for_each(|inner| *inner = ageless(inner.take())),
        _ => {}
    }
    value
}

#[test]
fn everything_is_as_before() {
    runtime().block_on(async {
        let server = ServerProcess::open();
        let http = server.http();
        let alice = TestUser::register(&http, "alice").await;
        let bob = TestUser::register(&http, "bob").await;

        let joined = alice.new_room(json!({ "name": "Joined", "room_alias_name": "joined" })).await;
        alice.bring(&joined, &bob).await;
        let invited = alice.private_room().await;
        alice.invite(&invited, &bob).await.granted();
        let knocked = alice.room_with_rule("knock").await;
        bob.knock(&knocked).await.granted();
        let left = alice.public_room().await;
        bob.join(&left).await.granted();
        alice.say(&left, "while bob is there").await;
        bob.leave(&left).await.granted();
        alice.say(&left, "when bob has gone").await;
        let forgotten = alice.public_room().await;
        bob.join(&forgotten).await.granted();
        bob.leave(&forgotten).await.granted();
        bob.forget(&forgotten).await.granted();
        let sent = alice
            .send_as(&joined, "m.room.message", "same", json!({ "body": "one" }))
            .await
            .event_id();
        let redacted = alice.say(&joined, "regretted").await;
        alice.redact(&joined, &redacted).await.granted();
        let filter = json!({ "room": { "timeline": { "limit": 1 } } });
        let filter = bob.post(&["user", &bob.id, "filter"], &filter).await.granted_str("filter_id");
        let logged_out = bob.another_device().await;
        logged_out.post_empty(&["logout"]).await.granted();
        let before = bob.sync(Sync::initial()).await;
        let state = alice.state(&joined).await.granted();

        let server = server.restart();
        let (alice, bob) = (alice.at(&server.http()), bob.at(&server.http()));

        // Tokens of sync lead on, and nothing has happened since.
        let quiet = bob.sync(Sync::since(&before)).await;
        assert!(quiet.body["rooms"].get("join").is_none(), "{:#}", quiet.body);
        quiet.silent(&invited);
        quiet.silent(&left);
        let now = bob.sync(Sync::initial()).await;
        now.joined(&joined);
        now.invited(&invited);
        now.knocked(&knocked);
        now.silent(&left);
        now.silent(&forgotten);
        assert_eq!(ageless(now.body["rooms"].clone()), ageless(before.body["rooms"].clone()));
        assert_eq!(ageless(alice.state(&joined).await.granted()), ageless(state));
        assert_eq!(bob.reads(&left).await, ["while bob is there"]);
        bob.messages(&forgotten).await.forbidden();
        assert!(
            alice.event(&joined, &redacted).await.granted()["content"]
                .as_object()
                .unwrap()
                .is_empty()
        );
        let limited = bob.sync(Sync::initial().with("filter", &filter)).await;
        assert_eq!(limited.joined(&joined).timeline().len(), 1);
        let logged_out = logged_out.at(&server.http());
        logged_out.get(&["joined_rooms"]).await.refused(401, "M_UNKNOWN_TOKEN");

        // A repeated transaction is still the same event.
        let again =
            alice.send_as(&joined, "m.room.message", "same", json!({ "body": "two" })).await;
        assert_eq!(again.event_id(), sent);

        // And it all goes on.
        let mut bobs = bob.listens().await;
        bob.join(&invited).await.granted();
        bobs.until_in("join", &invited).await;
        alice.invite(&knocked, &bob).await.granted();
        bobs.until_in("invite", &knocked).await;
        bob.join_by("#joined:localhost").await.granted();
        alice.say(&joined, "welcome back").await;
        let news = bob.sync(Sync::since(&quiet)).await;
        assert_eq!(news.joined(&joined).said(), ["welcome back"]);
        TestUser::log_in(&server.http(), "alice", &alice.password).await;
        server.stop();
    });
}

#[test]
fn a_second_restart_changes_nothing() {
    runtime().block_on(async {
        let mut server = ServerProcess::open();
        let alice = TestUser::register(&server.http(), "alice").await;
        let room = alice.private_room().await;
        let mut expected = Vec::new();
        for n in 0..3 {
            let alice = alice.at(&server.http());
            let text = format!("start {n}");
            alice.say(&room, &text).await;
            expected.push(text);
            server = server.restart();
            assert_eq!(alice.at(&server.http()).reads(&room).await, expected);
        }
        server.stop();
    });
}
