//! Joining, knocking and leaving through this server, by users of a server of the test's own.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use matryx_core::event::SigningKey;
use matryx_server::clock::Clock;
use ruma::{CanonicalJsonValue, signatures::sign_json};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{Answer, Guest, KEYS, Peer, SharedNeighbours, TestUser, Told, new_key};

static SCENE: SharedNeighbours = SharedNeighbours::new();

fn membership_of(state: &Value, user: &str) -> Option<String> {
    let events = state.as_array().unwrap();
    let found =
        events.iter().find(|event| event["type"] == "m.room.member" && event["state_key"] == user);
    found.map(|event| event["content"]["membership"].as_str().unwrap().to_owned())
}

/// What a guest is in a room of ours.
pub async fn membership(alice: &TestUser, room: &str, guest: &Guest<'_>) -> Option<String> {
    membership_of(&alice.state(room).await.granted(), guest.id.as_str())
}

fn keys(events: &Value) -> Vec<String> {
    let key = |event: &Value| {
        let key = event["state_key"].as_str().unwrap_or("-");
        format!("{}|{key}", event["type"].as_str().unwrap())
    };
    let mut keys: Vec<_> = events.as_array().unwrap().iter().map(key).collect();
    keys.sort();
    keys
}

#[test]
fn a_user_of_another_server_joins() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        for version in ["6", "10", "11", "12"] {
            let options = json!({ "preset": "public_chat", "room_version": version });
            let room = alice.new_room(options).await;
            let carol = scene.guest("carol");
            let template = carol.make("join", &room).await.granted();
            assert_eq!(template["room_version"], version);
            let event = &template["event"];
            assert_eq!(event["type"], "m.room.member");
            assert_eq!(event["room_id"], *room);
            assert_eq!(event["sender"], carol.id.as_str());
            assert_eq!(event["state_key"], carol.id.as_str());
            assert_eq!(event["content"], json!({ "membership": "join" }));
            assert_eq!(event["origin"], scene.server.name());
            assert!(event["depth"].is_u64() && event["origin_server_ts"].is_u64());
            assert_eq!(event["prev_events"].as_array().unwrap().len(), 1);
            let named = if version == "12" { 2 } else { 3 };
            assert!(event["auth_events"].as_array().unwrap().len() >= named);
            assert_eq!(membership(&alice, &room, &carol).await, None);

            let (answer, ready) = carol.join(&room).await;
            assert_eq!(membership(&alice, &room, &carol).await.as_deref(), Some("join"));
            // The state is the one before the join.
            assert_eq!(membership_of(&answer["state"], carol.id.as_str()), None);
            assert_eq!(membership_of(&answer["state"], &alice.id).as_deref(), Some("join"));
            assert_eq!(answer["servers_in_room"], json!([scene.server.name()]));
            assert!(answer.get("members_omitted").is_none());
            let chain = keys(&answer["auth_chain"]);
            assert!(chain.contains(&"m.room.create|".to_owned()), "{chain:?}");
            let signatures = answer["event"]["signatures"].as_object().unwrap();
            assert!(signatures.contains_key(scene.server.name()));
            assert!(signatures.contains_key(scene.peer.name().as_str()));
            assert_eq!(answer["event"]["content"], ready.event["content"]);

            // Whoever has not heard the answer asks again, and nothing happens twice.
            let before = alice.reads(&room).await;
            let again = carol.hand_in("v2/send_join", &room, &ready).await.granted();
            assert_eq!(again["state"], answer["state"]);
            assert_eq!(alice.reads(&room).await, before);
        }
    });
}

#[test]
fn the_first_version_answers_in_an_array() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let room = alice.public_room().await;
        let carol = scene.guest("carol");
        let ready = carol.ready("join", &room, |_| {}).await;
        let answer = carol.hand_in("v1/send_join", &room, &ready).await.granted();
        assert_eq!(answer[0], 200);
        assert!(answer[1]["state"].is_array() && answer[1]["auth_chain"].is_array());
        let ready = carol.ready("leave", &room, |_| {}).await;
        assert_eq!(carol.hand_in("v1/send_leave", &room, &ready).await.granted(), json!([200, {}]));
        assert_eq!(membership(&alice, &room, &carol).await.as_deref(), Some("leave"));
    });
}

#[test]
fn members_are_left_out_for_those_who_are_in_a_hurry() {
    SCENE.run(async |scene| {
        let [alice, bob] = scene.server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let carol = scene.guest("carol");
        let ready = carol.ready("join", &room, |_| {}).await;
        let answer = carol.hand_in("v2/send_join?omit_members=true", &room, &ready).await.granted();
        assert_eq!(answer["members_omitted"], true);
        let mut wanted = vec![
            "m.room.create|".to_owned(),
            "m.room.power_levels|".to_owned(),
            "m.room.join_rules|".to_owned(),
            "m.room.history_visibility|".to_owned(),
            format!("m.room.member|{}", alice.id),
            format!("m.room.member|{}", bob.id),
        ];
        wanted.sort();
        assert_eq!(keys(&answer["state"]), wanted);
        let chain = keys(&answer["auth_chain"]);
        assert!(!chain.iter().any(|key| wanted.contains(key)), "{chain:?}");
        assert_eq!(answer["servers_in_room"], json!([scene.server.name()]));

        // A room with a name is named after nobody; what allows the rest is in the chain.
        alice.put_state(&room, "m.room.name", "", json!({ "name": "N" })).await.granted();
        let dave = scene.guest("dave");
        let ready = dave.ready("join", &room, |_| {}).await;
        let answer = dave.hand_in("v2/send_join?omit_members=true", &room, &ready).await.granted();
        assert!(!keys(&answer["state"]).iter().any(|key| key.starts_with("m.room.member|")));
        assert!(keys(&answer["auth_chain"]).contains(&format!("m.room.member|{}", alice.id)));
    });
}

#[test]
fn knocking_shows_what_the_room_is_and_leaving_takes_it_back() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let room = alice.room_with_rule("knock").await;
        alice.put_state(&room, "m.room.name", "", json!({ "name": "N" })).await.granted();
        let carol = scene.guest("carol");
        carol.make("join", &room).await.refused(403, "M_FORBIDDEN").says("knock");
        let ready = carol.ready("knock", &room, |event| {
            event["content"]["reason"] = json!("Please.");
        });
        let ready = ready.await;
        let answer = carol.hand_in("v1/send_knock", &room, &ready).await.granted();
        assert_eq!(answer["knock_room_state"], answer["knock_state_events"]);
        let shown = keys(&answer["knock_room_state"]);
        assert_eq!(shown, ["m.room.create|", "m.room.join_rules|", "m.room.name|"]);
        for event in answer["knock_room_state"].as_array().unwrap() {
            assert!(event["signatures"].is_object() && event["auth_events"].is_array());
        }
        assert_eq!(membership(&alice, &room, &carol).await.as_deref(), Some("knock"));
        carol.leave(&room).await;
        assert_eq!(membership(&alice, &room, &carol).await.as_deref(), Some("leave"));
        carol.make("leave", &room).await.refused(403, "M_FORBIDDEN").says("nothing to leave");
    });
}

#[test]
fn templates_are_for_those_who_may() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let room = alice.new_room(json!({ "preset": "public_chat", "room_version": "11" })).await;
        let carol = scene.guest("carol");

        for verb in ["join", "knock", "leave"] {
            carol.make(verb, "!nowhere:x").await.refused(404, "M_NOT_FOUND");
            let stranger = Guest { id: "@a:elsewhere".try_into().unwrap(), ..scene.guest("x") };
            stranger.make(verb, &room).await.refused(403, "M_FORBIDDEN");
        }
        for verb in ["join", "knock"] {
            let answer = carol.make_with(verb, &room, "?ver=9&ver=10").await;
            assert_eq!(answer.body["room_version"], "11");
            answer.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
        }
        carol.make_with("join", &room, "").await.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
        carol.make_with("knock", &room, "").await.refused(400, "M_MISSING_PARAM");
        carol.make("knock", &room).await.refused(403, "M_FORBIDDEN").says("public");
        let old = alice.new_room(json!({ "preset": "private_chat", "room_version": "6" })).await;
        carol.make("knock", &old).await.refused(403, "M_FORBIDDEN").says("version");
        carol.make("join", &old).await.refused(403, "M_FORBIDDEN").says("invited");

        let id = carol.id.as_str();
        alice.act(&room, "ban", json!({ "user_id": id })).await.granted();
        for verb in ["join", "knock", "leave"] {
            carol.make(verb, &room).await.refused(403, "M_FORBIDDEN").says("banned");
        }

        // Nobody of ours is in it any more.
        alice.leave(&room).await.granted();
        carol.make("join", &room).await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn the_acl_stands_before_everything() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let room = alice.public_room().await;
        let carol = scene.guest("carol");
        let ready = carol.ready("join", &room, |_| {}).await;
        let host = scene.peer.name().host().to_owned();
        let acl = json!({ "allow": ["*"], "deny": [host] });
        alice.put_state(&room, "m.room.server_acl", "", acl).await.granted();
        for verb in ["join", "knock", "leave"] {
            carol.make(verb, &room).await.refused(403, "M_FORBIDDEN").says("m.room.server_acl");
        }
        for endpoint in
            ["v1/send_join", "v2/send_join", "v1/send_leave", "v2/send_leave", "v1/send_knock"]
        {
            let answer = carol.hand_in(endpoint, &room, &ready).await;
            answer.refused(403, "M_FORBIDDEN").says("m.room.server_acl");
        }
        let acl = json!({ "allow": ["*"], "deny": ["*.example"] });
        alice.put_state(&room, "m.room.server_acl", "", acl).await.granted();
        carol.join(&room).await;
    });
}

#[test]
fn the_banned_get_in_by_nobody_elses_template() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let room = alice.public_room().await;
        let (carol, dave) = (scene.guest("carol"), scene.guest("dave"));
        let ban = json!({ "user_id": carol.id });
        alice.act(&room, "ban", ban).await.granted();
        let before = alice.reads(&room).await;
        let ready = dave.ready("join", &room, |event| {
            event["sender"] = json!(carol.id);
            event["state_key"] = json!(carol.id);
        });
        let ready = ready.await;
        let answer = carol.hand_in("v2/send_join", &room, &ready).await;
        answer.refused(403, "M_FORBIDDEN").says("banned");
        assert_eq!(membership(&alice, &room, &carol).await.as_deref(), Some("ban"));
        assert_eq!(alice.reads(&room).await, before);
        let stored = scene.server.app().rooms.events();
        let id: ruma::OwnedEventId = ready.id.as_str().try_into().unwrap();
        assert!(stored.get(&id).await.unwrap().is_none());
    });
}

/// Hands an event in until its server is asked for the key that it needs. Who has been asked a moment ago is left alone for some
/// milliseconds, and without the key the event is refused.
async fn until_asked<'a>(
    mut asked: impl Future + Unpin,
    hand_in: impl Fn() -> BoxFuture<'a, Answer>,
) -> BoxFuture<'a, Answer> {
    loop {
        let mut handing_in = hand_in();
        tokio::select! {
            biased;
            _ = &mut asked => return handing_in,
            early = &mut handing_in => drop(early.forbidden()),
        }
    }
}

#[test]
fn nobody_is_let_in_by_a_server_whose_last_user_has_just_left() {
    SCENE.run(async |scene| {
        for (verb, endpoint, rule) in
            [("join", "v2/send_join", "public"), ("knock", "v1/send_knock", "knock")]
        {
            let (alice, peer) = (scene.alice().await, Peer::start().await);
            let room = alice.room_with_rule(rule).await;
            let carol = Guest { peer: &peer, server: &scene.server, id: peer.user("carol") };
            // The event is signed with a key that has to be asked for: that takes until Alice has gone.
            let mut ready = carol.ready(verb, &room, |_| {}).await;
            let (key, asked, until) = (new_key(), Arc::new(Notify::new()), Arc::new(Notify::new()));
            let document = document_with(&peer, &key);
            peer.on(KEYS, {
                let (asked, until) = (Arc::clone(&asked), Arc::clone(&until));
                move |_| {
                    asked.notify_one();
                    Told::Held(Arc::clone(&until), document.clone())
                }
            });
            ready.event = peer.resign_event(&key, &ready.version, ready.event);
            let hand_in = || carol.hand_in(endpoint, &room, &ready).boxed();
            let handing_in = until_asked(asked.notified().boxed(), hand_in).await;
            alice.leave(&room).await.granted();
            until.notify_one();
            let answer = handing_in.await;
            answer.refused(404, "M_NOT_FOUND").says("not in the room");
            let id = room.as_str().try_into().unwrap();
            let look = scene.server.app().rooms.room(id).await.unwrap().unwrap().look();
            assert_eq!(look.membership(&carol.id), matryx_core::membership::Membership::Left);
        }
    });
}

/// A document of a peer's keys with one more.
fn document_with(peer: &Peer, key: &SigningKey) -> Value {
    let now = Clock::machine().now();
    let mut document = peer.keys().document(peer.name(), now).unwrap();
    let more = json!({ "key": key.public_key() });
    if let Some(CanonicalJsonValue::Object(keys)) = document.get_mut("verify_keys") {
        keys.insert(key.key_id().to_string(), serde_json::from_value(more).unwrap());
    }
    document.remove("signatures");
    sign_json(peer.name().as_str(), peer.key(), &mut document).unwrap();
    serde_json::to_value(document).unwrap()
}

#[test]
fn what_comes_in_here_goes_to_the_other_servers() {
    SCENE.run(async |scene| {
        let alice = scene.alice().await;
        let room = alice.room_with_rule("public").await;
        let (near, far) = (Peer::start().await, Peer::start().await);
        for peer in [&near, &far] {
            peer.on("/_matrix/federation/v1/send/", |_| Told::ok(json!({ "pdus": {} })));
        }
        let guest = |peer, id| Guest { peer, server: &scene.server, id };
        let (carol, dave) = (guest(&near, near.user("carol")), guest(&far, far.user("dave")));
        dave.join(&room).await;
        let (answer, _) = carol.join(&room).await;
        let told = async |id: &str, membership: &str| {
            let about =
                |pdu: &Value| pdu["state_key"] == id && pdu["content"]["membership"] == membership;
            let asked = dave.peer.hears_one(|asked| {
                let pdus = asked.body["pdus"].as_array();
                asked.path.starts_with("/_matrix/federation/v1/send/")
                    && pdus.is_some_and(|pdus| pdus.iter().any(about))
            });
            let body = asked.await.body;
            body["pdus"].as_array().unwrap().iter().find(|pdu| about(pdu)).unwrap().clone()
        };
        // As it was answered, with both signatures.
        assert_eq!(told(carol.id.as_str(), "join").await, answer["event"]);
        carol.leave(&room).await;
        told(carol.id.as_str(), "leave").await;
        let rule = json!({ "join_rule": "knock" });
        alice.put_state(&room, "m.room.join_rules", "", rule).await.granted();
        let ready = carol.ready("knock", &room, |_| {}).await;
        carol.hand_in("v1/send_knock", &room, &ready).await.granted();
        told(carol.id.as_str(), "knock").await;
        // Nothing of it comes back to the one who brought it.
        let asked = near.asked();
        let pdus = asked.iter().filter_map(|asked| asked.body["pdus"].as_array()).flatten();
        assert!(!pdus.into_iter().any(|pdu| pdu["sender"] == carol.id.as_str()));
    });
}
