//! Invites by users of other servers: `PUT /federation/v2/invite`.

use ruma::RoomVersionId;
use serde_json::{Value, json};

use crate::support::{Abroad, Guest, Peer, SharedPair, Sync, TestServer, find, has};

static PAIR: SharedPair = SharedPair::new();

#[test]
fn an_invite_shows_at_once_and_is_signed() {
    PAIR.run(async |pair| {
        for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
            let (server, peer) = (&pair.a, Peer::start().await);
            let bob = server.user("bob").await;
            let mut bobs = bob.listens().await;
            let room = Abroad::new(&peer, version);
            let (id, event) = room.says(&peer, &room.host, &bob.id, "invite", &[]);
            let answer = room.hand_in(&peer, server, &id, &event).await.granted();
            let signed = &answer["event"];
            assert!(signed["signatures"][server.name()].is_object(), "{signed}");
            assert!(signed["signatures"][peer.name().as_str()].is_object(), "{signed}");
            assert_eq!(signed["content"], event["content"]);
            assert_eq!(signed["hashes"], event["hashes"]);

            let news = bobs.until_in("invite", &room.id).await;
            let stripped = news.invited(&room.id).stripped();
            let create = find(stripped, "m.room.create", "");
            assert_eq!(create["sender"], room.host);
            assert!(create["origin_server_ts"].is_u64(), "{create}");
            assert_eq!(
                find(stripped, "m.room.member", &room.host)["content"]["displayname"],
                "Host"
            );
            let own = find(stripped, "m.room.member", &bob.id);
            assert_eq!(own["content"]["membership"], "invite");
            for event in stripped {
                let kept = ["content", "origin_server_ts", "sender", "state_key", "type"];
                let keys: Vec<&String> = event.as_object().unwrap().keys().collect();
                assert!(keys.iter().all(|key| kept.contains(&key.as_str())), "{event}");
            }
            bob.sync(Sync::initial()).await.invited(&room.id);
            assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
            bob.state(&room.id).await.forbidden();
        }
    });
}

#[test]
fn an_invite_that_comes_again_is_the_same_and_a_newer_one_takes_its_place() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let bob = server.user("bob").await;
        let room = Abroad::new(&peer, RoomVersionId::V11);
        let (id, event) = room.says(&peer, &room.host, &bob.id, "invite", &[]);
        room.hand_in(&peer, server, &id, &event).await.granted();
        let before = bob.sync(Sync::initial()).await;
        room.hand_in(&peer, server, &id, &event).await.granted();
        bob.sync(Sync::since(&before.next_batch)).await.silent(&room.id);
        let (id, event) = room.says(&peer, &room.host, &bob.id, "invite", &["$another"]);
        room.hand_in(&peer, server, &id, &event).await.granted();
        bob.sync(Sync::since(&before.next_batch)).await.invited(&room.id);
    });
}

#[test]
fn of_a_room_that_we_are_in_we_know_the_version() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let alice = server.user("alice").await;
        let room = alice.new_room(json!({ "room_version": "11" })).await;
        let path = format!("/_matrix/federation/v2/invite/{room}/$event");
        let body = json!({ "room_version": "10", "event": {}, "invite_room_state": [] });
        let answer = peer.put(server, &path, &body).await;
        answer.refused(400, "M_INVALID_PARAM").says("version 11");
    });
}

/// What is changed in an invite.
type Change = fn(&mut Value);

#[test]
fn what_is_no_invite_is_refused() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let (bob, room) = (server.user("bob").await, Abroad::new(&peer, RoomVersionId::V11));
        let before = bob.sync(Sync::initial()).await;
        let with = |change: Change| {
            let (_, mut event) = room.says(&peer, &room.host, &bob.id, "invite", &[]);
            event.as_object_mut().unwrap().remove("hashes");
            event.as_object_mut().unwrap().remove("signatures");
            change(&mut event);
            peer.event(&room.version, event)
        };
        let structural: [(&str, Change); 3] = [
            ("type", |event| event["type"] = "m.room.topic".into()),
            ("membership", |event| event["content"]["membership"] = "join".into()),
            ("room", |event| event["room_id"] = "!other:example.org".into()),
        ];
        for (what, change) in structural {
            let (id, event) = with(change);
            let answer = room.hand_in(&peer, server, id.as_str(), &event).await;
            println!("{what}");
            answer.refused(400, "M_INVALID_PARAM");
        }
        let (id, event) = with(|event| event["sender"] = "@host:example.org".into());
        room.hand_in(&peer, server, id.as_str(), &event).await.forbidden();
        // Nobody but the sender's server signs for them, and what was signed is what was said.
        let (id, mut event) = with(|_| {});
        event["content"]["reason"] = "another".into();
        room.hand_in(&peer, server, id.as_str(), &event).await.refused_with_status(400);
        let (id, mut event) = with(|_| {});
        event["signatures"] = json!({});
        room.hand_in(&peer, server, id.as_str(), &event).await.forbidden();
        let (_, event) = with(|_| {});
        room.hand_in(&peer, server, "$another", &event).await.refused(400, "M_INVALID_PARAM");
        let (id, event) = with(|event| event["state_key"] = "@bob:example.org".into());
        room.hand_in(&peer, server, id.as_str(), &event).await.refused(400, "M_INVALID_PARAM");
        let (id, event) = with(|_| {});
        let path = format!("/_matrix/federation/v2/invite/{}/{id}", room.id);
        for (version, mut body) in [("1", room.handed_in(&event)), ("99", room.handed_in(&event))] {
            body["room_version"] = version.into();
            let answer = peer.put(server, &path, &body).await;
            assert_eq!(answer.body["room_version"], version);
            answer.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
        }
        bob.sync(Sync::since(&before.next_batch)).await.silent(&room.id);
    });
}

#[test]
fn nobody_and_the_closed_are_not_invited() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let room = Abroad::new(&peer, RoomVersionId::V11);
        let nobody = format!("@nobody:{}", server.name());
        let (id, event) = room.says(&peer, &room.host, &nobody, "invite", &[]);
        room.hand_in(&peer, server, &id, &event).await.refused(404, "M_NOT_FOUND");
        let bob = server.user("bob").await;
        let bob_id = bob.id.as_str().try_into().unwrap();
        server.app().users.deactivate(bob_id).await.unwrap();
        let (id, event) = room.says(&peer, &room.host, &bob.id, "invite", &[]);
        room.hand_in(&peer, server, &id, &event).await.forbidden();
    });
}

#[test]
fn since_version_12_the_create_event_comes_along_and_is_looked_at() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let bob = server.user("bob").await;
        let [room, other] =
            [0, 1].map(|_| Abroad::new(&peer, RoomVersionId::V12));
        let (id, event) = room.says(&peer, &room.host, &bob.id, "invite", &[]);
        let path = format!("/_matrix/federation/v2/invite/{}/{id}", room.id);
        let mut body = room.handed_in(&event);
        body["invite_room_state"] = json!([room.member]);
        peer.put(server, &path, &body).await.refused(400, "M_MISSING_PARAM");
        let mut forged = room.create.clone();
        forged["content"]["forged"] = true.into();
        for create in [forged, json!({ "type": "m.room.create", "state_key": "" })] {
            body["invite_room_state"] = json!([create]);
            peer.put(server, &path, &body).await.refused(400, "M_INVALID_PARAM");
        }
        if other.id != room.id {
            body["invite_room_state"] = json!([other.create]);
            peer.put(server, &path, &body).await.refused(400, "M_INVALID_PARAM");
        }
        // Before, servers send what they like.
        let room = Abroad::new(&peer, RoomVersionId::V10);
        let (id, event) = room.says(&peer, &room.host, &bob.id, "invite", &[]);
        let path = format!("/_matrix/federation/v2/invite/{}/{id}", room.id);
        let mut body = room.handed_in(&event);
        body["invite_room_state"] = json!([
            { "type": "m.room.name", "state_key": "", "sender": room.host, "content": { "name": "Tea" } },
            { "type": "m.room.name", "state_key": 1 }, { "nonsense": true },
        ]);
        peer.put(server, &path, &body).await.granted();
        let sync = bob.sync(Sync::initial()).await;
        let stripped = sync.invited(&room.id).stripped();
        assert_eq!(find(stripped, "m.room.name", "")["content"]["name"], "Tea");
        assert!(has(stripped, "m.room.member", &bob.id));
        assert_eq!(stripped.len(), 2, "{stripped:?}");
    });
}

#[test]
fn a_room_whose_maker_is_gone_can_still_be_shown() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let bob = server.user("bob").await;
        let maker = Peer::start().await;
        let mut room = Abroad::new(&maker, RoomVersionId::V12);
        let inviter = peer.user("inviter").to_string();
        let (id, event) = room.says(&peer, &inviter, &bob.id, "invite", &[]);
        // Its server answers, and has not signed this.
        let create = room.create.clone();
        let signature = peer.sign_event(&room.version, create.clone())["signatures"].clone();
        room.create["signatures"] = json!({
            maker.name().as_str(): signature[peer.name().as_str()],
        });
        let answer = room.hand_in(&peer, server, &id, &event).await;
        answer.refused(400, "M_INVALID_PARAM").says("m.room.create");
        room.create = create;
        let name = maker.name().to_owned();
        drop(maker);
        // Nobody tells the keys any more. The hash still says that it is this room's.
        let other = Peer::start().await;
        let mut gone = Abroad::new(&other, RoomVersionId::V12);
        drop(other);
        let (id, event) = gone.says(&peer, &inviter, &bob.id, "invite", &[]);
        gone.hand_in(&peer, server, &id, &event).await.granted();
        let sync = bob.sync(Sync::initial()).await;
        let stripped = sync.invited(&gone.id).stripped();
        assert_eq!(find(stripped, "m.room.create", "")["sender"], gone.host);
        assert_ne!(gone.host, format!("@host:{name}"));
        // Another room's create event is no better for that.
        let elsewhere = Abroad::new(&Peer::start().await, RoomVersionId::V12);
        gone.create = elsewhere.create;
        gone.hand_in(&peer, server, &id, &event).await.refused(400, "M_INVALID_PARAM");
    });
}

#[test]
fn an_invite_is_not_lost_when_we_leave_the_room_before_it_comes() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let options = json!({
            "preset": "public_chat", "room_version": "11", "name": "Tea",
            "power_level_content_override": { "invite": 0 },
        });
        let room = alice.new_room(options).await;
        let carol = Guest { peer: &peer, server, id: peer.user("carol") };
        let (_, joined) = carol.join(&room).await;
        let template = carol.make("leave", &room).await.granted()["event"].clone();
        let invite = carol.seal(&joined.version, template, |event| {
            event["state_key"] = json!(bob.id);
            event["content"] = json!({ "membership": "invite" });
        });
        let path = format!("/_matrix/federation/v2/invite/{room}/{}", invite.id);
        let body = json!({
            "room_version": "11", "event": invite.event, "invite_room_state": [],
        });
        let signed = peer.put(server, &path, &body).await.granted()["event"].clone();
        bob.sync(Sync::initial()).await.silent(&room);
        alice.leave(&room).await.granted();
        // One that we have not signed could be anybody's.
        send(&peer, server, "unsigned", &invite.event).await;
        bob.sync(Sync::initial()).await.silent(&room);
        send(&peer, server, "signed", &signed).await;
        let sync = bob.sync(Sync::initial()).await;
        let stripped = sync.invited(&room).stripped();
        assert_eq!(find(stripped, "m.room.name", "")["content"]["name"], "Tea");
        // It comes once: what has become of it counts.
        bob.leave(&room).await.granted();
        send(&peer, server, "again", &signed).await;
        bob.sync(Sync::initial()).await.silent(&room);
    });
}

async fn send(peer: &Peer, server: &TestServer, id: &str, event: &Value) {
    let body = json!({ "origin": peer.name(), "origin_server_ts": 1, "pdus": [event] });
    peer.put(server, &format!("/_matrix/federation/v1/send/{id}"), &body).await.granted();
}

#[test]
fn an_invite_from_another_server_is_accepted() {
    PAIR.run(async |pair| {
        let (alice, bob) = (pair.a.user("alice").await, pair.b.user("bob").await);
        for version in ["10", "12"] {
            let room = alice.new_room(json!({ "room_version": version, "is_direct": true })).await;
            alice.invite(&room, &bob).await.granted();
            let since = bob.sync(Sync::initial()).await;
            since.invited(&room);
            bob.join(&room).await.granted();
            let news = bob.sync(Sync::since(&since.next_batch)).await;
            let joined = news.joined(&room).happened("m.room.member", &bob.id).cloned().unwrap();
            assert_eq!(joined["unsigned"]["prev_content"]["membership"], "invite");
            assert_eq!(joined["unsigned"]["prev_sender"], alice.id);
            assert_eq!(alice.membership(&room, &bob).await, "join");
        }
    });
}
