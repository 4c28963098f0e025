//! Events between servers that are unlike others: in what comes first, and in their size.

use ruma::RoomVersionId;
use serde_json::{Value, json};

use crate::support::{Guest, Peer, SharedPair, Sync, TestServer, TestUser, Told, fresh};

static PAIR: SharedPair = SharedPair::new();

/// A peer with a user in a public room of ours.
struct Scene<'a> {
    server: &'a TestServer,
    peer: Peer,
    alice: TestUser,
    room: String,
    version: RoomVersionId,
    guest: String,
    /// Which event the next one of the peer follows.
    tip: String,
}

impl<'a> Scene<'a> {
    async fn new(server: &'a TestServer, version: RoomVersionId) -> Self {
        let peer = Peer::start().await;
        peer.on("/_matrix/federation/v1/send/", |_| Told::ok(json!({ "pdus": {} })));
        let alice = server.user("alice").await;
        let wish = json!({ "preset": "public_chat", "room_version": version });
        let room = alice.new_room(wish).await;
        let id = peer.user("guest");
        let guest = Guest { peer: &peer, server, id: id.clone() };
        let (_, join) = guest.join(&room).await;
        Self { server, alice, room, version, guest: id.to_string(), tip: join.id, peer }
    }

    /// An event of the peer's user that follows its last one.
    async fn event(&mut self, mut event: Value) -> Value {
        let state = self.alice.state(&self.room).await.granted();
        let allows = |event: &&Value| {
            ["m.room.create", "m.room.power_levels"].contains(&event["type"].as_str().unwrap())
                || event["state_key"] == self.guest
        };
        let auth = state.as_array().unwrap().iter().filter(allows);
        let auth: Vec<_> = auth.map(|event| event["event_id"].clone()).collect();
        let fields = json!({
            "sender": self.guest, "room_id": self.room, "prev_events": [self.tip], "auth_events": auth, "depth": 50,
        });
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (id, event) = self.peer.event(&self.version, event);
        self.tip = id.to_string();
        event
    }

    async fn words(&mut self, text: &str) -> Value {
        self.event(json!({ "type": "m.room.message", "content": { "body": text } })).await
    }

    async fn send(&self, event: &Value) {
        let body = json!({ "origin": self.peer.name(), "origin_server_ts": 1, "pdus": [event] });
        let path = format!("/_matrix/federation/v1/send/t{}", fresh());
        self.peer.put(self.server, &path, &body).await.granted();
    }
}

#[test]
fn a_redaction_goes_out_and_waits_for_what_it_redacts() {
    PAIR.run(async |pair| {
        for version in [RoomVersionId::V10, RoomVersionId::V11] {
            let mut scene = Scene::new(&pair.a, version).await;
            let bob = scene.server.user("bob").await;
            bob.join(&scene.room).await.granted();
            let regretted = scene.words("regretted").await;
            let id = scene.tip.clone();
            // It may be somebody else's: that takes the level.
            bob.redact(&scene.room, &id).await.refused(404, "M_NOT_FOUND").says("50");
            let redaction = scene.alice.redact(&scene.room, &id).await.event_id();

            let is_it = |pdu: &Value| {
                let redacts = pdu.get("redacts").or_else(|| pdu["content"].get("redacts"));
                pdu["type"] == "m.room.redaction" && redacts == Some(&json!(id))
            };
            let told = |body: &Value| body["pdus"].as_array().is_some_and(|p| p.iter().any(is_it));
            scene.peer.hears_one(|asked| told(&asked.body)).await;

            scene.send(&regretted).await;
            let event = scene.alice.event(&scene.room, &id).await.granted();
            assert_eq!(event["content"], json!({}));
            assert_eq!(event["unsigned"]["redacted_because"]["event_id"], redaction.as_str());
        }
    });
}

#[test]
fn where_nobody_else_is_nothing_is_redacted_that_is_not_there() {
    PAIR.run(async |pair| {
        let scene = Scene::new(&pair.a, RoomVersionId::V11).await;
        let alone = scene.alice.private_room().await;
        scene.alice.redact(&alone, &scene.tip).await.refused(404, "M_NOT_FOUND");
        scene.alice.redact(&alone, "$nothing").await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn what_follows_an_event_with_a_long_state_key_is_not_lost() {
    PAIR.run(async |pair| {
        // 280 bytes, and 70 characters.
        let long = "💥".repeat(70);
        for version in [RoomVersionId::V10, RoomVersionId::V11] {
            let kept = version == RoomVersionId::V10;
            let mut scene = Scene::new(&pair.a, version).await;
            let state = json!({ "type": "my.state", "state_key": long, "content": {} });
            let too_long = scene.event(state).await;
            let rejected = scene.tip.clone();
            let after = scene.words("after").await;
            scene.peer.on("/_matrix/federation/v1/get_missing_events/", move |_| {
                Told::ok(json!({ "events": [too_long] }))
            });
            scene.send(&after).await;
            let synced = scene.alice.sync(Sync::initial()).await;
            let said = synced.joined(&scene.room).said();
            assert_eq!(said, if kept { vec!["after"] } else { vec![] });
            scene.alice.event(&scene.room, &rejected).await.refused(404, "M_NOT_FOUND");
            let state = scene.alice.state_event(&scene.room, "my.state", &long).await;
            state.refused(404, "M_NOT_FOUND");
            // Ours are held to the limit in every version.
            let ours = scene.alice.put_state(&scene.room, "my.state", &long, json!({})).await;
            ours.refused(413, "M_TOO_LARGE").says("280 bytes");
        }
    });
}
