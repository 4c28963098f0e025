//! Declining invites of rooms that nobody here is in: at once for the user, whatever other servers do; and for the room as soon
//! as it can be told.

use std::time::Duration;

use futures::{StreamExt, stream};
use matryx_core::event::SigningKey;
use matryx_server::clock::Clock;
use ruma::RoomVersionId;
use serde_json::{Value, json};

use crate::support::{
    Abroad, Asked, Hosted, Peer, SharedPair, Sync, TestServer, Told, escaped, eventually,
    free_address, fresh, has, runtime, standing_clock, v3,
};

static PAIR: SharedPair = SharedPair::standing_still();

const MAKE: &str = "/_matrix/federation/v1/make_leave/";
const SEND: &str = "/_matrix/federation/v2/send_leave/";

#[test]
fn the_room_is_told_with_the_reason() {
    PAIR.run(async |pair| {
        for version in [RoomVersionId::V11, RoomVersionId::V12] {
            let (server, peer) = (&pair.a, Peer::start().await);
            let bob = server.user("bob").await;
            let room = Abroad::new(&peer, version);
            room.lets_leave(&peer, &bob.id);
            room.invite(&peer, server, &bob.id).await;
            let since = bob.sync(Sync::initial()).await;
            bob.act(&room.id, "leave", json!({ "reason": "no time" })).await.granted();
            // Where the other server answers, the order of things is kept.
            assert_eq!(peer.count(SEND), 1);
            let sent = peer.hears(SEND).await.body;
            assert_eq!(sent["content"], json!({ "membership": "leave", "reason": "no time" }));
            assert_eq!((&sent["sender"], &sent["state_key"]), (&json!(bob.id), &json!(bob.id)));
            assert!(sent["signatures"][server.name()].is_object());
            let left = bob.sync(Sync::since(&since.next_batch)).await;
            let said = left.left(&room.id).happened("m.room.member", &bob.id).cloned().unwrap();
            assert_eq!(said["content"]["membership"], "leave");
            bob.sync(Sync::initial()).await.silent(&room.id);
        }
    });
}

/// What a server answers.
type Answering = fn(&Abroad, &str) -> Told;

/// How long somebody may take to get out, whatever the other server does.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn whatever_the_other_server_does_the_user_is_out() {
    runtime().block_on(async {
        let clock = standing_clock();
        let server = &TestServer::start_with(clock.clone(), Peer::befriend).await;
        let answers: [(&str, Answering); 8] = [
            ("not found", |_, _| Told::error(404, "M_NOT_FOUND")),
            ("forbidden", |_, _| Told::error(403, "M_FORBIDDEN")),
            ("failing", |_, _| Told::error(500, "M_UNKNOWN")),
            ("hanging", |_, _| Told::Hang),
            ("nonsense", |_, _| Told::Raw(200, "hello".into())),
            ("another membership", |room, user| Told::ok(room.template(user, "join"))),
            ("another user", |room, _| Told::ok(room.template("@x:example.org", "leave"))),
            ("an empty answer", |_, _| Told::ok(json!({}))),
        ];
        for (what, answer) in answers {
            let peer = Peer::start().await;
            let bob = server.user("bob").await;
            let room = Abroad::new(&peer, RoomVersionId::V12);
            room.invite(&peer, server, &bob.id).await;
            let told = answer(&room, &bob.id);
            let hangs = matches!(told, Told::Hang);
            peer.on(MAKE, move |_: &Asked| told.clone());
            let time = async {
                peer.hears(MAKE).await;
                if hangs {
                    clock.advance(AT_ONCE);
                }
            };
            tokio::join!(goes_out(what, &bob, &room), time);
            // Whoever is invited anew sees that.
            let (id, event) = room.says(&peer, &room.host, &bob.id, "invite", &["$again"]);
            room.hand_in(&peer, server, &id, &event).await.granted();
            bob.sync(Sync::initial()).await.invited(&room.id);
        }
    });
}

async fn goes_out(what: &str, bob: &crate::support::TestUser, room: &Abroad) {
    let since = bob.sync(Sync::initial()).await;
    since.invited(&room.id);
    bob.leave(&room.id).await.granted();
    let news = bob.sync(Sync::since(&since.next_batch)).await;
    assert_eq!(news.left(&room.id).membership(bob), Some("leave"), "{what}");
    bob.leave(&room.id).await.granted();
    bob.sync(Sync::since(&news.next_batch)).await.silent(&room.id);
    bob.sync(Sync::initial()).await.silent(&room.id);
    bob.forget(&room.id).await.granted();
}

/// Hands in an invite that shows no more of the room than these.
async fn invite_showing(
    room: &Abroad,
    from: &Peer,
    server: &TestServer,
    (id, event): (String, Value),
    shown: Value,
) {
    let body = json!({
        "room_version": room.version, "event": event, "invite_room_state": shown,
    });
    let path = format!("/_matrix/federation/v2/invite/{}/{id}", room.id);
    from.put(server, &path, &body).await.granted();
}

#[test]
fn anothers_no_is_not_the_last_word() {
    runtime().block_on(async {
        let server = &TestServer::start_with(Clock::machine(), Peer::befriend).await;
        let (peer, other) = (Peer::start().await, Peer::start().await);
        let bob = server.user("bob").await;
        let room = Abroad::new(&peer, RoomVersionId::V12);
        let invite = room.says(&peer, &room.host, &bob.id, "invite", &[]);
        let name = json!({
            "type": "m.room.name", "state_key": "", "sender": other.user("mod"),
            "content": { "name": "Tea" },
        });
        invite_showing(&room, &peer, server, invite, json!([room.create, room.member, name])).await;
        peer.on(MAKE, |_: &Asked| Told::error(503, "M_UNKNOWN"));
        other.on(MAKE, |_: &Asked| Told::error(403, "M_FORBIDDEN"));
        bob.leave(&room.id).await.granted();
        other.hears(MAKE).await;
        room.lets_leave(&peer, &bob.id);
        assert_eq!(peer.hears(SEND).await.body["sender"], json!(bob.id));
    });
}

#[test]
fn an_invite_that_the_room_never_heard_of_can_be_declined() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = Hosted::public(&peer);
        room.open(&peer);
        let (id, event) = peer.event(
            &room.version,
            json!({
                "type": "m.room.member", "state_key": alice.id, "sender": room.creator, "depth": 9,
                "room_id": room.id, "prev_events": [room.tip], "content": { "membership": "invite" },
                "auth_events": room.auth_events(&room.creator, &alice.id),
            }),
        );
        let body =
            json!({ "room_version": room.version, "event": event, "invite_room_state": [] });
        let path = format!("/_matrix/federation/v2/invite/{}/{id}", room.id);
        peer.put(server, &path, &body).await.granted();
        alice.sync(Sync::initial()).await.invited(&room.id);
        let url = bob.http.url(&v3(&["join", &room.id]));
        let join = bob.http.request(reqwest::Method::POST, url).json(&json!({}));
        bob.http.send(join.query(&[("via", peer.name().as_str())])).await.granted();
        alice.sync(Sync::initial()).await.invited(&room.id);
        alice.leave(&room.id).await.granted();
        alice.sync(Sync::initial()).await.silent(&room.id);
        assert_eq!(peer.count(MAKE), 0);
    });
}

/// Hastens things until a peer has been asked so often. What was tried is put off only after its answer, which nobody hears of.
async fn attempts(peer: &Peer, count: usize, mut hasten: impl AsyncFnMut()) {
    eventually("the attempts", async || match peer.count(MAKE) {
        so_far if so_far >= count => Ok(()),
        so_far => {
            hasten().await;
            Err(format!("{so_far} of {count}"))
        }
    })
    .await;
    assert_eq!(peer.count(MAKE), count);
}

#[test]
fn a_stranger_hastens_nothing() {
    runtime().block_on(async {
        let clock = standing_clock();
        let server = TestServer::start_with(clock.clone(), |config| {
            Peer::befriend(config);
            config.testing.short_federation_backoff = false;
        })
        .await;
        let (peer, stranger) = (Peer::start().await, Peer::start().await);
        let bob = server.user("bob").await;
        let room = Abroad::new(&peer, RoomVersionId::V12);
        room.invite(&peer, &server, &bob.id).await;
        peer.on(MAKE, |_: &Asked| Told::error(500, "M_UNKNOWN"));
        bob.leave(&room.id).await.granted();
        let shows_itself = async |who: &Peer, number: usize| {
            let (_, event) = room.says(who, who.user("x").as_str(), "@y:z", "leave", &[]);
            let path = format!("/_matrix/federation/v1/send/{number}");
            let body = json!({
                "origin": who.name(), "origin_server_ts": 1, "pdus": [event], "edus": [],
            });
            who.put(&server, &path, &body).await.granted();
            bob.sync(Sync::initial()).await;
        };
        attempts(&peer, 1, async || {}).await;
        // Once more after half a minute, and then not before another has passed.
        for (number, who) in [&stranger, &peer].into_iter().enumerate() {
            shows_itself(who, number).await;
        }
        assert_eq!(peer.count(MAKE), 1);
        for count in [2, 3] {
            attempts(&peer, count, async || clock.advance(Duration::from_secs(10))).await;
        }
        // The next would be two minutes away.
        clock.advance(Duration::from_secs(70));
        shows_itself(&stranger, 5).await;
        assert_eq!(peer.count(MAKE), 3);
        attempts(&peer, 4, async || shows_itself(&peer, fresh()).await).await;
    });
}

#[test]
fn a_server_that_comes_back_is_told_also_after_a_restart() {
    crate::support::runtime().block_on(async {
        let [server] = TestServer::together(["a"]).await;
        let peer = Peer::start().await;
        let [bob, carol] = server.users(["bob", "carol"]).await;
        let room = Abroad::new(&peer, RoomVersionId::V12);
        room.invite(&peer, &server, &bob.id).await;
        room.invite(&peer, &server, &carol.id).await;
        peer.on(MAKE, |_: &Asked| Told::error(503, "M_UNKNOWN"));
        bob.leave(&room.id).await.granted();
        carol.leave(&room.id).await.granted();
        assert_eq!(server.app().errands.count(), 2);
        let server = server.restart().await;
        assert_eq!(peer.count(SEND), 0);
        let (template, other) =
            (room.template(&bob.id, "leave"), room.template(&carol.id, "leave"));
        let bobs = bob.localpart.clone();
        peer.on(MAKE, move |asked: &Asked| {
            Told::ok(if asked.path.contains(&bobs) { template.clone() } else { other.clone() })
        });
        peer.on(SEND, |_: &Asked| Told::ok(json!({})));
        for user in [&bob, &carol] {
            let sent = peer
                .hears_one(|asked| asked.path.starts_with(SEND) && asked.body["sender"] == user.id);
            assert_eq!(sent.await.body["content"]["membership"], "leave");
        }
        let app = server.app();
        eventually("all errands done", async || match app.errands.count() {
            0 => Ok(()),
            left => Err(format!("{left} left")),
        })
        .await;
    });
}

#[test]
fn a_server_that_shows_itself_is_told_at_once() {
    crate::support::runtime().block_on(async {
        // Nothing is due by itself: the clock stands still.
        let clock = standing_clock();
        let server = TestServer::start_with(clock, |config| {
            Peer::befriend(config);
            config.testing.short_federation_backoff = false;
        })
        .await;
        let bob = server.user("bob").await;
        let (address, key) = (free_address(), || SigningKey::from_seed("back", [5; 32]).unwrap());
        let peer = Peer::start_at(address, key()).await;
        let room = Abroad::new(&peer, RoomVersionId::V11);
        room.invite(&peer, &server, &bob.id).await;
        drop(peer);
        bob.leave(&room.id).await.granted();
        assert_eq!(server.app().errands.count(), 1);
        let peer = Peer::start_at(address, key()).await;
        room.lets_leave(&peer, &bob.id);
        let path = format!("/_matrix/federation/v1/query/profile?user_id={}", escaped(&bob.id));
        peer.get(&server, &path).await.granted();
        let sent = peer.hears(SEND).await.body;
        assert_eq!(sent["content"]["membership"], "leave");
    });
}

#[test]
fn a_thousand_invites_are_shown_and_only_what_is_new_is_told() {
    PAIR.run(async |pair| {
        let (server, peer) = (&pair.a, Peer::start().await);
        let bob = server.user("bob").await;
        let (peer, bob) = (&peer, &bob);
        let invites = (0..1000).map(|_| async {
            let mut room = Abroad::new(peer, RoomVersionId::V11);
            room.id = format!("!many{}:{}", fresh(), peer.name());
            room.invite(peer, server, &bob.id).await;
            room.id
        });
        let rooms: Vec<String> = stream::iter(invites).buffer_unordered(16).collect().await;
        let all = bob.sync(Sync::initial()).await;
        for room in &rooms {
            assert!(has(all.invited(room).stripped(), "m.room.member", &bob.id));
        }
        assert!(bob.sync(Sync::since(&all.next_batch)).await.body["rooms"].is_null());
        let room = Abroad::new(peer, RoomVersionId::V11);
        room.invite(peer, server, &bob.id).await;
        let news = bob.sync(Sync::since(&all.next_batch)).await;
        news.invited(&room.id);
        let told = news.body["rooms"]["invite"].as_object().unwrap();
        assert_eq!(told.len(), 1);
        bob.leave(&rooms[500]).await.granted();
        let news = bob.sync(Sync::since(&news.next_batch)).await;
        news.left(&rooms[500]);
        assert!(news.body["rooms"].get("invite").is_none_or(|invites| invites == &json!({})));
    });
}

#[test]
fn who_was_never_invited_has_nothing_to_leave() {
    PAIR.run(async |pair| {
        let bob = pair.a.user("bob").await;
        bob.leave("!nowhere:example.org").await.refused(404, "M_NOT_FOUND");
        bob.forget("!nowhere:example.org").await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn between_two_servers_the_order_of_things_is_kept() {
    PAIR.run(async |pair| {
        for (here, there) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            let (alice, bob) = (here.user("alice").await, there.user("bob").await);
            for version in ["6", "10", "12"] {
                let room = alice.new_room(json!({ "room_version": version })).await;
                for _ in 0..3 {
                    alice.invite(&room, &bob).await.granted();
                    bob.sync(Sync::initial()).await.invited(&room);
                    bob.act(&room, "leave", json!({ "reason": "not now" })).await.granted();
                    assert_eq!(alice.membership(&room, &bob).await, "leave");
                    assert_eq!(alice.member(&room, &bob).await["reason"], "not now");
                    bob.sync(Sync::initial()).await.silent(&room);
                }
                // In a room where nobody is left there is nobody to tell.
                alice.invite(&room, &bob).await.granted();
                alice.leave(&room).await.granted();
                bob.leave(&room).await.granted();
                bob.sync(Sync::initial()).await.silent(&room);
            }
        }
    });
}
