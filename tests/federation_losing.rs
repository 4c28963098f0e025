//! State events of other servers that lose as they come: they are shown, and what stands is told in the next answer.

use ruma::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json};

use super::{
    federation_inbox::Guest,
    support::{SharedPair, Sync, SyncAnswer, TestServer, find, has},
};

static PAIR: SharedPair = SharedPair::new();

const TOPIC: &str = "m.room.topic";

/// A room where everybody sets the topic.
async fn guest(server: &TestServer) -> Guest<'_> {
    let levels = json!({ "events": { TOPIC: 0 } });
    Guest::in_room_with(server, json!({ "power_level_content_override": levels })).await
}

impl Guest<'_> {
    /// An event that follows these, and that was made long before them if one believes it: of two that fork, it loses.
    fn early(
        &self,
        kind: &str,
        key: &str,
        content: Value,
        prev: &[OwnedEventId],
    ) -> (String, Value) {
        let (_, mut event) = self.event(kind, Some(key), content, prev);
        let object = event.as_object_mut().unwrap();
        object.retain(|name, _| name != "hashes" && name != "signatures");
        let now = object["origin_server_ts"].as_i64().unwrap();
        object.insert("origin_server_ts".to_owned(), json!(now - 3_600_000));
        let (id, event) = self.peer.event(&RoomVersionId::V11, event);
        (id.to_string(), event)
    }

    /// Alice sets the topic, and the guest does so at the same time and loses; the guest's event, and what came before.
    async fn lost_topic(&self) -> (String, SyncAnswer) {
        let (lost, event) = self.early(TOPIC, "", json!({ "topic": "lost" }), &self.tips().await);
        let before = self.alice.sync(Sync::initial()).await;
        self.alice.put_state(&self.room, TOPIC, "", json!({ "topic": "stands" })).await.granted();
        self.send(&[&event]).await.granted();
        (lost, before)
    }
}

fn topic(events: &[Value]) -> &str {
    find(events, TOPIC, "")["content"]["topic"].as_str().unwrap()
}

/// Longer than a test takes: what waits so long fails it.
const FOR_EVER: u64 = 600_000;

#[test]
fn what_loses_is_shown_and_then_what_stands_is_told() {
    PAIR.run(async |pair| {
        let guest = guest(&pair.a).await;
        let (alice, room) = (&guest.alice, &guest.room);
        let other = alice.private_room().await;
        let (lost, before) = guest.lost_topic().await;

        let shown = alice.sync(Sync::since(&before)).await;
        assert_eq!(shown.joined(room).timeline_ids().last(), Some(&&*lost), "{:#}", shown.body);
        assert!(!shown.joined(room).limited());
        // It is told at once, and again to who asks again.
        for _ in 0..2 {
            let told = alice.sync(Sync::since(&shown).waiting(FOR_EVER)).await;
            assert_eq!(topic(told.joined(room).state()), "stands");
            assert_eq!(told.joined(room).state().len(), 1);
            assert!(told.joined(room).timeline().is_empty());
            assert!(!told.joined(room).limited());
            told.silent(&other);
            alice.sync(Sync::since(&told)).await.silent(room);
        }
        // Its token is one like others.
        let query = [("from", &*shown.next_batch), ("dir", "b")];
        let page = alice.query(&["rooms", room, "messages"], &query).await.granted();
        assert_eq!(page["chunk"][0]["event_id"], *lost);

        // What comes meanwhile is told with it, and stands at the end.
        alice.put_state(room, TOPIC, "", json!({ "topic": "newer" })).await.granted();
        let told = alice.sync(Sync::since(&shown)).await;
        assert_eq!(topic(told.joined(room).state()), "stands");
        assert_eq!(topic(told.joined(room).timeline()), "newer");
        alice.sync(Sync::since(&told)).await.silent(room);
        // Also where the newer one is behind a gap.
        for n in 0..3 {
            alice.say(room, &format!("{n}")).await;
        }
        let few = json!({ "room": { "timeline": { "limit": 2 } } });
        let told = alice.sync(Sync::since(&shown).filter(&few)).await;
        assert!(told.joined(room).limited());
        assert_eq!(topic(told.joined(room).state()), "newer");
    });
}

#[test]
fn who_begins_anew_is_told_too_and_who_asks_for_the_state_after_at_once() {
    PAIR.run(async |pair| {
        let guest = guest(&pair.a).await;
        let (alice, room) = (&guest.alice, &guest.room);
        let (lost, before) = guest.lost_topic().await;
        for question in [Sync::initial(), Sync::since(&before).full_state()] {
            let shown = alice.sync(question.clone()).await;
            assert_eq!(shown.joined(room).timeline_ids().last(), Some(&&*lost));
            let told = alice.sync(Sync::since(&shown).waiting(FOR_EVER)).await;
            assert_eq!(topic(told.joined(room).state()), "stands");

            let shown = alice.sync(question.state_after()).await;
            assert_eq!(shown.joined(room).timeline_ids().last(), Some(&&*lost));
            assert_eq!(topic(shown.joined(room).state_after()), "stands");
            alice.sync(Sync::since(&shown)).await.silent(room);
        }
    });
}

#[test]
fn nothing_is_owed_for_what_was_not_shown() {
    PAIR.run(async |pair| {
        let guest = guest(&pair.a).await;
        let (alice, room) = (&guest.alice, &guest.room);
        let (_, before) = guest.lost_topic().await;
        let none = json!({ "room": { "timeline": { "not_senders": [guest.user] } } });
        let shown = alice.sync(Sync::since(&before).filter(&none)).await;
        assert_eq!(topic(shown.joined(room).timeline()), "stands");
        alice.sync(Sync::since(&shown).filter(&none)).await.silent(room);
    });
}

#[test]
fn what_was_hidden_from_a_client_is_told_after_what_it_was_shown() {
    PAIR.run(async |pair| {
        let guest = guest(&pair.a).await;
        let (alice, room) = (&guest.alice, &guest.room);
        let before = alice.sync(Sync::initial()).await;
        alice.put_state(room, TOPIC, "", json!({ "topic": "shown" })).await.granted();
        let content = json!({ "topic": "hidden" });
        let (_, event) = guest.event(TOPIC, Some(""), content, &guest.tips().await);
        guest.send(&[&event]).await.granted();
        let none = json!({ "room": { "timeline": { "not_senders": [guest.user] } } });
        let shown = alice.sync(Sync::since(&before).filter(&none)).await;
        assert_eq!(topic(shown.joined(room).timeline()), "shown");
        let told = alice.sync(Sync::since(&shown).filter(&none).waiting(FOR_EVER)).await;
        assert_eq!(topic(told.joined(room).state()), "hidden");
        alice.sync(Sync::since(&told).filter(&none)).await.silent(room);
    });
}

#[test]
fn who_leaves_before_the_next_answer_is_told_in_the_room_that_was_left() {
    PAIR.run(async |pair| {
        let guest = guest(&pair.a).await;
        let (alice, room) = (&guest.alice, &guest.room);
        let (lost, before) = guest.lost_topic().await;
        let shown = alice.sync(Sync::since(&before)).await;
        assert_eq!(shown.joined(room).timeline_ids().last(), Some(&&*lost));
        alice.leave(room).await.granted();
        let told = alice.sync(Sync::since(&shown)).await;
        assert_eq!(topic(told.left(room).state()), "stands");
        alice.sync(Sync::since(&told)).await.silent(room);
        // Who is told of the leaving in the same answer gets no other: it begins behind what does not stand.
        let told = alice.sync(Sync::since(&before)).await;
        let left = told.left(room);
        assert!(!left.timeline_ids().contains(&&*lost) && left.limited());
        assert_eq!(topic(left.state()), "stands");
    });
}

#[test]
fn a_lazily_loaded_member_who_loses_is_told_as_well() {
    PAIR.run(async |pair| {
        let guest = guest(&pair.a).await;
        let (alice, room, user) = (&guest.alice, &guest.room, guest.user.as_str());
        let lazy = json!({ "room": { "state": { "lazy_load_members": true } } });
        let before = alice.sync(Sync::initial().filter(&lazy)).await;
        let named = |name: &str| json!({ "membership": "join", "displayname": name });
        let tips = guest.tips().await;
        let (_, stands) = guest.event("m.room.member", Some(user), named("stands"), &tips);
        let (lost, event) = guest.early("m.room.member", user, named("lost"), &tips);
        guest.send(&[&stands]).await.granted();
        guest.send(&[&event]).await.granted();
        let shown = alice.sync(Sync::since(&before).filter(&lazy)).await;
        assert_eq!(shown.joined(room).timeline_ids().last(), Some(&&*lost));
        let told = alice.sync(Sync::since(&shown).filter(&lazy).waiting(FOR_EVER)).await;
        let state = told.joined(room).state();
        assert_eq!(find(state, "m.room.member", user)["content"]["displayname"], "stands");
        assert!(!has(state, TOPIC, ""));
    });
}
