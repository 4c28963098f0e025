//! Inviting users of other servers: their server signs the invite before the room has it.

use ruma::RoomVersionId;
use serde_json::{Value, json};

use crate::support::{Asked, Peer, SharedPair, Sync, Told, find};

static PAIR: SharedPair = SharedPair::new();

const INVITE: &str = "/_matrix/federation/v2/invite/";

#[test]
fn two_servers_invite_each_others_users() {
    PAIR.run(async |pair| {
        for (here, there) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            let (alice, bob) = (here.user("alice").await, there.user("bob").await);
            for version in ["6", "11", "12"] {
                let room = alice.new_room(json!({ "room_version": version, "name": "Tea" })).await;
                alice.invite(&room, &bob).await.granted();
                // Nobody waits: it is there when the inviter is answered.
                let sync = bob.sync(Sync::initial()).await;
                let stripped = sync.invited(&room).stripped();
                assert_eq!(find(stripped, "m.room.name", "")["content"]["name"], "Tea");
                assert_eq!(find(stripped, "m.room.create", "")["sender"], alice.id);
                assert!(find(stripped, "m.room.create", "")["origin_server_ts"].is_u64());
                find(stripped, "m.room.member", &alice.id);
                assert_eq!(alice.membership(&room, &bob).await, "invite");
                // To say it again changes nothing.
                alice.invite(&room, &bob).await.granted();
            }
        }
    });
}

#[test]
fn a_new_room_invites_users_of_other_servers() {
    PAIR.run(async |pair| {
        let (alice, bob) = (pair.a.user("alice").await, pair.b.user("bob").await);
        let nobody = format!("@nobody:{}", pair.b.name());
        let gone = "@somebody:127.0.0.1:9";
        let wish = json!({
            "invite": [bob.id, nobody, gone], "is_direct": true, "preset": "trusted_private_chat",
        });
        let made = alice.create_room(wish).await.granted();
        let room = made["room_id"].as_str().unwrap().to_owned();
        // The room is there, and who could not be invited is told.
        let failed = made["org.matryx.not_invited"].as_object().unwrap();
        assert_eq!(failed.len(), 2, "{made}");
        assert_eq!(failed[&nobody]["errcode"], "M_NOT_FOUND");
        assert!(failed[gone]["error"].as_str().unwrap().contains("127.0.0.1:9"), "{made}");
        let sync = bob.sync(Sync::initial()).await;
        let own = find(sync.invited(&room).stripped(), "m.room.member", &bob.id);
        assert_eq!(own["content"]["is_direct"], true);
        assert_eq!(alice.member(&room, &bob).await["is_direct"], true);
        alice.state_event(&room, "m.room.member", &nobody).await.refused(404, "M_NOT_FOUND");
        let made = alice.create_room(json!({ "invite": [bob.id] })).await.granted();
        assert_eq!(made.as_object().unwrap().len(), 1, "{made}");
    });
}

#[test]
fn what_the_other_server_says_is_passed_on_or_explained() {
    PAIR.run(async |pair| {
        let (alice, peer) = (pair.a.user("alice").await, Peer::start().await);
        let room = alice.private_room().await;
        let user = peer.user("bob").to_string();
        let invite = async || alice.act(&room, "invite", json!({ "user_id": user })).await;
        let cases = [
            (Told::error(403, "M_FORBIDDEN"), 403, "M_FORBIDDEN"),
            (Told::error(403, "M_INVITE_BLOCKED"), 403, "M_INVITE_BLOCKED"),
            (Told::error(404, "M_NOT_FOUND"), 404, "M_NOT_FOUND"),
            (Told::error(401, "M_UNKNOWN_TOKEN"), 502, "M_UNKNOWN"),
            (Told::error(403, "M_UNKNOWN_TOKEN"), 502, "M_UNKNOWN"),
            (Told::error(403, "M_USER_LOCKED"), 502, "M_UNKNOWN"),
            (Told::error(404, "M_UNRECOGNIZED"), 502, "M_UNKNOWN"),
            (Told::error(400, "M_INCOMPATIBLE_ROOM_VERSION"), 400, "M_UNSUPPORTED_ROOM_VERSION"),
            (Told::error(400, "M_UNSUPPORTED_ROOM_VERSION"), 400, "M_UNSUPPORTED_ROOM_VERSION"),
            (Told::error(400, "M_MISSING_PARAM"), 502, "M_UNKNOWN"),
            (Told::error(501, "M_UNKNOWN"), 502, "M_UNKNOWN"),
            (Told::ok(json!({})), 502, "M_UNKNOWN"),
            (Told::ok(json!({ "event": {} })), 502, "M_UNKNOWN"),
            (Told::Raw(200, "hello".into()), 502, "M_UNKNOWN"),
        ];
        for (told, status, errcode) in cases {
            peer.on(INVITE, move |_: &Asked| told.clone());
            invite().await.refused(status, errcode);
        }
        // Signed by somebody else than the server, or not at all.
        peer.on(INVITE, |asked: &Asked| Told::ok(json!({ "event": asked.body["event"] })));
        invite().await.refused(502, "M_UNKNOWN");
        let name = peer.name().to_string();
        peer.on(INVITE, move |asked: &Asked| {
            let mut event = asked.body["event"].clone();
            event["signatures"][name.as_str()] = json!({ "ed25519:x": "bm8" });
            Told::ok(json!({ "event": event }))
        });
        invite().await.refused(502, "M_UNKNOWN");
        alice.state_event(&room, "m.room.member", &user).await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn only_the_signature_is_taken() {
    PAIR.run(async |pair| {
        let (alice, peer) = (pair.a.user("alice").await, Peer::start().await);
        let room = alice.new_room(json!({ "name": "Tea" })).await;
        let user = peer.user("bob").to_string();
        let (name, key) = (peer.name().to_string(), peer.keys());
        peer.on(INVITE, move |asked: &Asked| {
            let event = signed(&name, &key, asked.body["event"].clone());
            let mut changed = event;
            changed["unsigned"] = json!({ "nonsense": true });
            changed["content"]["reason"] = "another".into();
            Told::ok(json!({ "event": changed }))
        });
        alice.act(&room, "invite", json!({ "user_id": user, "reason": "mine" })).await.granted();
        let asked = peer.hears(INVITE).await.body;
        assert_eq!(asked["room_version"], "12");
        let state = asked["invite_room_state"].as_array().unwrap();
        for kind in ["m.room.create", "m.room.name", "m.room.join_rules", "m.room.member"] {
            let event = state.iter().find(|event| event["type"] == kind).expect(kind);
            assert!(event["signatures"].is_object() && event["hashes"].is_object(), "{event}");
        }
        let content = alice.state_event(&room, "m.room.member", &user).await.granted();
        assert_eq!(content, json!({ "membership": "invite", "reason": "mine" }));
    });
}

#[test]
fn a_ban_in_the_meantime_wins() {
    PAIR.run(async |pair| {
        let (alice, peer) = (pair.a.user("alice").await, Peer::start().await);
        let room = alice.private_room().await;
        let user = peer.user("bob").to_string();
        let (name, key) = (peer.name().to_string(), peer.keys());
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = std::sync::Mutex::new(gone);
        peer.on(INVITE, move |asked: &Asked| {
            // Blocks one thread of the runtime until the ban stands.
            gone.lock().unwrap().recv().unwrap();
            Told::ok(json!({ "event": signed(&name, &key, asked.body["event"].clone()) }))
        });
        let inviting = alice.act(&room, "invite", json!({ "user_id": user }));
        let banning = async {
            let ban = alice.act(&room, "ban", json!({ "user_id": user })).await;
            go.send(()).unwrap();
            ban
        };
        // The invite may come after the ban as well: it is refused either way.
        let (invited, banned) = futures::future::join(inviting, banning).await;
        banned.granted();
        invited.forbidden();
        let content = alice.state_event(&room, "m.room.member", &user).await.granted();
        assert_eq!(content["membership"], "ban");
    });
}

fn signed(name: &str, keys: &matryx_server::federation::OwnKeys, event: Value) -> Value {
    let rules = RoomVersionId::V12.rules().unwrap();
    let mut object = serde_json::from_value(event).unwrap();
    ruma::signatures::sign_event(name, &**keys.signing(), &mut object, &rules.redaction).unwrap();
    serde_json::to_value(&object).unwrap()
}
