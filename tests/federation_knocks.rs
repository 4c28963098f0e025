//! Knocking on rooms of other servers, and what ends an invite or a knock while nobody here is in the room.

use std::time::Duration;

use matryx_server::membership::out_of_band::{Heard, received, room_version};
use reqwest::Method;
use ruma::{RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::support::{
    Abroad, Asked, Peer, SharedPair, Sync, TestServer, TestUser, Told, eventually, find, has,
    runtime, standing_clock, v3,
};

static PAIR: SharedPair = SharedPair::new();

const MAKE: &str = "/_matrix/federation/v1/make_knock/";
const SEND: &str = "/_matrix/federation/v1/send_knock/";

fn lets_knock(peer: &Peer, room: &Abroad, user: &TestUser) {
    let template = room.template(&user.id, "knock");
    peer.on(MAKE, move |_: &Asked| Told::ok(template.clone()));
    let state = json!({ "knock_room_state": [room.create, room.member, { "nonsense": 1 }] });
    peer.on(SEND, move |_: &Asked| Told::ok(state.clone()));
}

#[test]
fn the_door_beside_the_other_verbs_takes_servers_too() {
    PAIR.run(async |pair| {
        for name in ["via", "server_name"] {
            let (server, peer) = (&pair.a, Peer::start().await);
            let bob = server.user("bob").await;
            let room = Abroad::new(&peer, RoomVersionId::V12);
            lets_knock(&peer, &room, &bob);
            let url = bob.http.url(&v3(&["rooms", &room.id, "knock"]));
            let query = [(name, "127.0.0.1:9"), (name, peer.name().as_str())];
            let request = bob.http.request(Method::POST, url).query(&query);
            let answer = bob.http.send(request.json(&json!({ "reason": "me" }))).await.granted();
            assert_eq!(answer["room_id"], room.id);
            assert_eq!(peer.hears(SEND).await.body["content"]["reason"], "me");
            bob.sync(Sync::initial()).await.knocked(&room.id);
        }
    });
}

#[test]
fn a_knock_goes_through_a_server_and_is_taken_back_through_it() {
    PAIR.run(async |pair| {
        for version in [RoomVersionId::V7, RoomVersionId::V12] {
            let (server, peer) = (&pair.a, Peer::start().await);
            let bob = server.user("bob").await;
            let room = Abroad::new(&peer, version);
            lets_knock(&peer, &room, &bob);
            room.lets_leave(&peer, &bob.id);
            let answer = bob.knock_via(&room.id, &[peer.name().as_str()]).await.granted();
            assert_eq!(answer["room_id"], room.id);
            let sent = peer.hears(SEND).await.body;
            assert_eq!(sent["content"]["membership"], "knock");
            assert!(sent["signatures"][server.name()].is_object());
            let asked = peer.hears(MAKE).await.path;
            assert!(asked.contains("ver=7") && asked.contains("ver=12"), "{asked}");

            let sync = bob.sync(Sync::initial()).await;
            let stripped = sync.knocked(&room.id).stripped();
            assert_eq!(find(stripped, "m.room.create", "")["sender"], room.host);
            assert_eq!(find(stripped, "m.room.member", &bob.id)["content"]["membership"], "knock");
            // Knocking again asks again.
            bob.knock_via(&room.id, &[peer.name().as_str()]).await.granted();
            assert_eq!(peer.count(SEND), 2);
            bob.leave(&room.id).await.granted();
            let leave = peer.hears("/_matrix/federation/v2/send_leave/").await.body;
            assert_eq!(leave["content"]["membership"], "leave");
            let news = bob.sync(Sync::since(&sync.next_batch)).await;
            assert_eq!(news.left(&room.id).membership(&bob), Some("leave"));
        }
    });
}

#[test]
fn what_is_shown_of_a_room_has_its_bounds_and_is_of_that_room() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let bob = server.user("bob").await;
        let room = Abroad::new(&peer, RoomVersionId::V12);
        lets_knock(&peer, &room, &bob);
        let mut forged = room.create.clone();
        forged["content"]["type"] = json!("m.space");
        let entry = |kind: &str, size: usize| {
            let content = json!({ "body": "x".repeat(size) });
            json!({ "type": kind, "state_key": "", "sender": room.host, "content": content })
        };
        let large: Vec<Value> =
            (0..8).map(|n| entry(&format!("org.example.{n}"), 60_000)).collect();
        let mut state = vec![forged, entry("m.room.topic", 1 << 20)];
        state.extend(large);
        state.push(entry("m.room.name", 3));
        let answer = json!({ "knock_room_state": state });
        peer.on(SEND, move |_: &Asked| Told::ok(answer.clone()));
        bob.knock_via(&room.id, &[peer.name().as_str()]).await.granted();
        let sync = bob.sync(Sync::initial()).await;
        let stripped = sync.knocked(&room.id).stripped();
        assert!(!has(stripped, "m.room.create", "") && !has(stripped, "m.room.topic", ""));
        assert!(has(stripped, "m.room.name", "") && has(stripped, "m.room.member", &bob.id));
        assert_eq!(stripped.len(), 4 + 2);
    });
}

#[test]
fn who_knocked_through_a_server_joins_through_it_if_who_let_them_in_is_gone() {
    PAIR.run(async |pair| {
        let server = &pair.a;
        let (host, through, other) =
            (Peer::start().await, Peer::start().await, Peer::start().await);
        let bob = server.user("bob").await;
        let room = Abroad::new(&host, RoomVersionId::V12);
        lets_knock(&through, &room, &bob);
        bob.knock_via(&room.id, &[through.name().as_str()]).await.granted();
        let (id, event) = room.says(&other, other.user("mod").as_str(), &bob.id, "invite", &[]);
        let shown = json!({
            "type": "m.room.create", "state_key": "", "sender": other.user("mod"), "content": {},
        });
        let mut body = room.handed_in(&event);
        body["invite_room_state"] = json!([room.create, shown]);
        let path = format!("/_matrix/federation/v2/invite/{}/{id}", room.id);
        other.put(server, &path, &body).await.granted();
        bob.sync(Sync::initial()).await.invited(&room.id);
        let make_join = "/_matrix/federation/v1/make_join/";
        for peer in [&host, &through, &other] {
            peer.on(make_join, |_: &Asked| Told::error(404, "M_NOT_FOUND"));
        }
        bob.join(&room.id).await;
        assert_eq!((other.count(make_join), through.count(make_join)), (1, 1));
    });
}

#[test]
fn a_knock_on_a_room_that_others_of_ours_have_left_goes_to_who_is_in_it() {
    PAIR.run(async |pair| {
        let alice = pair.a.user("alice").await;
        let [bob, carol] = pair.b.users(["bob", "carol"]).await;
        let rules = json!({ "type": "m.room.join_rules", "content": { "join_rule": "knock" } });
        let room = alice.new_room(json!({ "room_version": "12", "initial_state": [rules] })).await;
        alice.invite(&room, &bob).await.granted();
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        carol.knock_via(&room, &[]).await.granted();
        eventually("the knock", async || {
            let member = alice.state_event(&room, "m.room.member", &carol.id).await;
            if member.status == 200 { Ok(()) } else { Err(member.text) }
        })
        .await;
    });
}

#[test]
fn a_refused_knock_says_why() {
    PAIR.run(async |pair| {
        let (bob, peer) = (pair.a.user("bob").await, Peer::start().await);
        let room = Abroad::new(&peer, RoomVersionId::V12);
        let via = [peer.name().as_str()];
        let cases = [
            (Told::error(403, "M_FORBIDDEN"), 403, "M_FORBIDDEN"),
            (Told::error(404, "M_NOT_FOUND"), 404, "M_NOT_FOUND"),
            (Told::error(401, "M_UNKNOWN_TOKEN"), 502, "M_UNKNOWN"),
            (Told::error(403, "M_CONSENT_NOT_GIVEN"), 502, "M_UNKNOWN"),
            (Told::error(401, "M_INCOMPATIBLE_ROOM_VERSION"), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
            (
                Told::json(400, json!({ "errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "The room is too old for you.", "room_version": "3" })),
                400,
                "M_INCOMPATIBLE_ROOM_VERSION",
            ),
            (Told::error(501, "M_UNKNOWN"), 502, "M_UNKNOWN"),
            (Told::ok(json!({ "room_version": "12", "event": {} })), 502, "M_UNKNOWN"),
            (Told::ok(room.template("@x:example.org", "knock")), 502, "M_UNKNOWN"),
            (Told::ok(room.template(&bob.id, "join")), 502, "M_UNKNOWN"),
        ];
        for (told, status, errcode) in cases {
            peer.on(MAKE, move |_: &Asked| told.clone());
            bob.knock_via(&room.id, &via).await.refused(status, errcode);
        }
        assert_eq!(peer.count(SEND), 0);
        bob.sync(Sync::initial()).await.silent(&room.id);
        bob.knock("!nowhere").await.refused(404, "M_NOT_FOUND");
    });
}

/// Lets an event come in as the inbox does.
async fn comes(server: &TestServer, version: &RoomVersionId, event: &Value) -> Heard {
    let rules = version.rules().unwrap();
    let object = serde_json::from_value(event.clone()).unwrap();
    let pdu = server.app().federation.open(object, &rules).await.unwrap();
    received(server.app(), pdu).await.unwrap()
}

#[test]
fn the_inviter_takes_an_invite_back_by_kick_or_ban() {
    PAIR.run(async |pair| {
        for membership in ["leave", "ban"] {
            let (server, peer) = (&pair.a, Peer::start().await);
            let bob = server.user("bob").await;
            let room = Abroad::new(&peer, RoomVersionId::V11);
            let invite = room.invite(&peer, server, &bob.id).await;
            let (id, user) = (RoomId::parse(&room.id).unwrap(), UserId::parse(&bob.id).unwrap());
            let version = room_version(server.app(), &id, &user).await.unwrap();
            assert_eq!(version, Some(RoomVersionId::V11));
            let since = bob.sync(Sync::initial()).await;
            // It must rest on the invite that it takes back.
            let (_, event) = room.says(&peer, &room.host, &bob.id, membership, &[]);
            assert_eq!(comes(server, &room.version, &event).await, Heard::Hint);
            let (_, event) = room.says(&peer, &room.host, &bob.id, membership, &[&invite]);
            assert_eq!(comes(server, &room.version, &event).await, Heard::Taken);
            assert_eq!(comes(server, &room.version, &event).await, Heard::Nothing);
            let news = bob.sync(Sync::since(&since.next_batch)).await;
            assert_eq!(news.left(&room.id).membership(&bob), Some(membership));
            bob.sync(Sync::initial()).await.silent(&room.id);
        }
    });
}

#[test]
fn a_knock_is_denied_by_the_server_that_let_it_in() {
    PAIR.run(async |pair| {
        let (server, peer, other) = (&pair.a, Peer::start().await, Peer::start().await);
        let bob = server.user("bob").await;
        let room = Abroad::new(&peer, RoomVersionId::V12);
        lets_knock(&peer, &room, &bob);
        bob.knock_via(&room.id, &[peer.name().as_str()]).await.granted();
        let knock = peer.hears(SEND).await;
        let knock = knock.path.rsplit('/').next().unwrap().replace("%24", "$");
        let stranger = other.user("mallory").to_string();
        let (_, event) = room.says(&other, &stranger, &bob.id, "leave", &[&knock]);
        assert_eq!(comes(server, &room.version, &event).await, Heard::Hint);
        bob.sync(Sync::initial()).await.knocked(&room.id);
        let (_, event) = room.says(&peer, peer.user("mod").as_str(), &bob.id, "leave", &[&knock]);
        assert_eq!(comes(server, &room.version, &event).await, Heard::Taken);
        bob.sync(Sync::initial()).await.silent(&room.id);
    });
}

#[test]
fn a_hint_is_looked_into_late() {
    runtime().block_on(async {
        let clock = standing_clock();
        let server = TestServer::start_with(clock.clone(), Peer::befriend).await;
        let peer = Peer::start().await;
        let [bob, carol] = server.users(["bob", "carol"]).await;
        let room = Abroad::new(&peer, RoomVersionId::V12);
        let invites = [
            room.invite(&peer, &server, &bob.id).await,
            room.invite(&peer, &server, &carol.id).await,
        ];
        let carols = carol.localpart.clone();
        let template = room.template(&carol.id, "leave");
        peer.on("/_matrix/federation/v1/make_leave/", move |asked: &Asked| {
            if asked.path.contains(&carols) {
                return Told::ok(template.clone());
            }
            Told::error(403, "M_FORBIDDEN")
        });
        let moderator = peer.user("mod").to_string();
        for (user, invite) in [&bob, &carol].into_iter().zip(&invites) {
            let (_, event) = room.says(&peer, &moderator, &user.id, "leave", &[invite]);
            for _ in 0..2 {
                assert_eq!(comes(&server, &room.version, &event).await, Heard::Hint);
            }
        }
        clock.advance(Duration::from_mins(1));
        bob.sync(Sync::initial()).await.invited(&room.id);
        assert_eq!(peer.count("/_matrix/federation/v1/make_leave/"), 0);
        clock.advance(Duration::from_mins(1));
        let app = server.app();
        eventually("both looked into", async || match app.errands.count() {
            0 => Ok(()),
            left => Err(format!("{left} left")),
        })
        .await;
        bob.sync(Sync::initial()).await.silent(&room.id);
        carol.sync(Sync::initial()).await.invited(&room.id);
        assert_eq!(peer.count("/_matrix/federation/v1/make_leave/"), 2);
        assert_eq!(peer.count("/_matrix/federation/v2/send_leave/"), 0);
    });
}

#[test]
fn between_two_servers_a_knock_is_made_taken_back_and_accepted() {
    PAIR.run(async |pair| {
        let (alice, bob) = (pair.a.user("alice").await, pair.b.user("bob").await);
        let via = [pair.a.name()];
        for version in ["7", "10", "12"] {
            let rule = if version == "10" { "knock_restricted" } else { "knock" };
            let rules = json!({ "type": "m.room.join_rules", "content": { "join_rule": rule } });
            let room = alice
                .new_room(
                    json!({ "room_version": version, "name": "Tea", "initial_state": [rules] }),
                )
                .await;
            bob.knock_via(&room, &via).await.granted();
            let sync = bob.sync(Sync::initial()).await;
            let stripped = sync.knocked(&room).stripped();
            assert_eq!(find(stripped, "m.room.name", "")["content"]["name"], "Tea");
            assert_eq!(alice.membership(&room, &bob).await, "knock");
            bob.leave(&room).await.granted();
            assert_eq!(alice.membership(&room, &bob).await, "leave");
            // The server that was knocked through is remembered.
            bob.knock(&room).await.granted();
            alice.invite(&room, &bob).await.granted();
            bob.sync(Sync::initial()).await.invited(&room);
            bob.knock_via(&room, &via).await.forbidden();
            alice.ban(&room, &bob).await.granted();
            bob.knock_via(&room, &via).await.forbidden();
        }
        let room = alice.private_room().await;
        bob.knock_via(&room, &via).await.forbidden();
        let old = alice.new_room(json!({ "room_version": "6" })).await;
        bob.knock_via(&old, &via).await.forbidden();
    });
}

#[test]
fn between_two_servers_what_ends_an_invite_or_a_knock_arrives() {
    PAIR.run(async |pair| {
        for (here, there) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            let (alice, bob) = (here.user("alice").await, there.user("bob").await);
            for version in ["10", "12"] {
                let room = alice.new_room(json!({ "room_version": version })).await;
                let mut bobs = bob.listens().await;
                for verb in ["kick", "ban"] {
                    alice.invite(&room, &bob).await.granted();
                    bobs.until_in("invite", &room).await;
                    alice.act(&room, verb, json!({ "user_id": bob.id })).await.granted();
                    let news = bobs.until_in("leave", &room).await;
                    let expected = if verb == "ban" { "ban" } else { "leave" };
                    assert_eq!(news.left(&room).membership(&bob), Some(expected));
                    bob.sync(Sync::initial()).await.silent(&room);
                }
                let room = alice.room_with_rule("knock").await;
                bob.knock_via(&room, &[here.name()]).await.granted();
                bobs.until_in("knock", &room).await;
                alice.kick(&room, &bob).await.granted();
                let news = bobs.until_in("leave", &room).await;
                assert_eq!(news.left(&room).membership(&bob), Some("leave"));
            }
        }
    });
}
