//! What can't be let in when it comes: it is kept, its sender is answered, and it is tried again.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use matryx_core::room::StateKey;
use matryx_server::clock::Clock;
use ruma::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::timeout};

use super::{
    federation_inbox::{Guest, path},
    support::{
        Hosted, KEYS, MAKE_JOIN, Peer, SEND_JOIN, SharedPair, TestServer, TestUser, Told,
        eventually, runtime, standing_clock, user_of, v3,
    },
};

static PAIR: SharedPair = SharedPair::standing_still();

/// For what is tried again by itself.
static IN_TIME: SharedPair = SharedPair::new();

/// Waits until a user reads an event.
async fn reads(user: &TestUser, room: &str, event: &OwnedEventId) {
    eventually("the event", async || {
        let answer = user.event(room, event.as_str()).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
}

/// Waits until so many events wait.
async fn waits(server: &TestServer, count: usize) {
    eventually("those who wait", async || match server.app().federation.inbox().waiting() {
        waiting if waiting == count => Ok(()),
        waiting => Err(format!("{waiting} wait")),
    })
    .await;
}

/// A server whose clock stands still.
async fn with_a_clock() -> (TestServer, Clock) {
    let clock = standing_clock();
    (TestServer::start_with(clock.clone(), Peer::befriend).await, clock)
}

#[test]
fn what_is_not_given_at_first_is_asked_for_again() {
    IN_TIME.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let (a, first) = guest.words("a", &[&guest.join]);
        let (b, second) = guest.words("b", &[a]);
        let asked = AtomicUsize::new(0);
        guest.peer.on(&path("get_missing_events"), move |_| {
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 => Told::error(500, "M_UNKNOWN"),
                _ => Told::ok(json!({ "events": [first] })),
            }
        });
        let answer = guest.send(&[&second]).await.granted();
        assert_eq!(answer["pdus"], json!({ b.as_str(): {} }));
        reads(&guest.alice, &guest.room, &b).await;
        assert_eq!(guest.said().await, ["a", "b"]);
        waits(guest.server, 0).await;
    });
}

#[test]
fn what_nothing_leads_to_stands_behind_a_gap() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let state: Vec<_> =
            guest.look().await.state.values().map(|entry| entry.event_id.clone()).collect();
        guest.peer.on(&path("get_missing_events"), |_| Told::error(404, "M_NOT_FOUND"));
        guest.peer.on(&path("state_ids"), move |_| {
            Told::ok(json!({ "pdu_ids": state, "auth_chain_ids": [] }))
        });
        let (lost, _) = guest.words("lost", &[&guest.join]);
        let (_, event) = guest.words("found", &[&lost]);
        guest.send(&[&event]).await.granted();
        assert_eq!(guest.said().await, ["found"]);
        waits(guest.server, 0).await;
    });
}

#[test]
fn who_gives_what_is_unfit_is_not_asked_for_the_state() {
    PAIR.run(async |pair| {
        for unfit in [json!({ "events": [{ "type": "m.room.message" }] }), json!({})] {
            let guest = Guest::new(&pair.a).await;
            guest.peer.on(&path("get_missing_events"), move |_| Told::ok(unfit.clone()));
            let (lost, late) = guest.words("lost", &[&guest.join]);
            let (_, event) = guest.words("waits", &[&lost]);
            guest.send(&[&event]).await.granted();
            assert!(guest.said().await.is_empty());
            assert_eq!(guest.peer.count(&path("get_missing_events")), 1);
            assert_eq!(guest.peer.count(&path("state_ids")), 0);
            guest.send(&[&late]).await.granted();
            waits(guest.server, 0).await;
        }
    });
}

#[test]
fn no_state_is_asked_for_where_what_allows_an_event_is_not_to_be_had() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let state: Vec<_> =
            guest.look().await.state.values().map(|entry| entry.event_id.clone()).collect();
        let (lost, late) = guest.words("lost", &[&guest.join]);
        let kind = "m.room.message";
        let words = |text: &str| json!({ "msgtype": "m.text", "body": text });
        let (first, given) = guest.event_by(kind, None, words("given"), &[&lost], &[&lost]);
        let (_, sent) = guest.event_by(kind, None, words("sent"), &[&first], &[&lost]);
        guest.peer.on(&path("get_missing_events"), move |_| Told::ok(json!({ "events": [given] })));
        guest.peer.on(&path("state_ids"), move |_| {
            Told::ok(json!({ "pdu_ids": state, "auth_chain_ids": [] }))
        });
        guest.send(&[&sent]).await.granted();
        assert!(guest.said().await.is_empty());
        let asked = guest.peer.asked();
        let of = asked.iter().filter(|asked| asked.path.starts_with(&path("state_ids")));
        assert_eq!(of.filter(|asked| !asked.path.contains(&lost.as_str()[1..])).count(), 0);
        guest.send(&[&late]).await.granted();
        waits(guest.server, 0).await;
    });
}

#[test]
fn what_comes_late_lets_in_what_waits_for_it() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let mut prev = guest.join.clone();
        let mut events = Vec::new();
        for number in 0..4 {
            let (id, event) = guest.words(&number.to_string(), &[prev]);
            prev = id;
            events.push(event);
        }
        for event in events.iter().rev() {
            guest.send(&[event]).await.granted();
        }
        reads(&guest.alice, &guest.room, &prev).await;
        assert_eq!(guest.said().await, ["0", "1", "2", "3"]);
        waits(guest.server, 0).await;
    });
}

#[test]
fn what_waits_outlives_a_restart() {
    runtime().block_on(async {
        let [server] = TestServer::together(["a"]).await;
        let (peer, alice, room, wanted) = {
            let guest = Guest::new(&server).await;
            let (a, first) = guest.words("a", &[&guest.join]);
            let (b, second) = guest.words("b", &[a]);
            guest.send(&[&second]).await.granted();
            waits(&server, 1).await;
            let Guest { peer, alice, room, .. } = guest;
            let server = server;
            let down = server.stop().await;
            peer.on(&path("get_missing_events"), move |_| Told::ok(json!({ "events": [first] })));
            ((peer, down), alice, room, b)
        };
        let (_peer, down) = peer;
        let server = down.up().await;
        reads(&alice, &room, &wanted).await;
        waits(&server, 0).await;
    });
}

#[test]
fn who_answers_slowly_holds_up_no_other_room() {
    runtime().block_on(async {
        let (server, clock) = with_a_clock().await;
        let slow = Guest::new(&server).await;
        let other =
            slow.alice.new_room(json!({ "preset": "public_chat", "room_version": "11" })).await;
        slow.peer.on(&path("get_missing_events"), |_| Told::Hang);
        let (lost, _) = slow.words("lost", &[&slow.join]);
        let (first, event) = slow.words("found", &[&lost]);
        let events = [&event];
        let answer = {
            let (asked, mut sent) = (path("get_missing_events"), pin!(slow.send(&events)));
            tokio::select! {
                early = &mut sent => panic!("{early:?}"),
                _ = slow.peer.hears(&asked) => {}
            }
            loop {
                clock.advance(Duration::from_secs(6));
                // Nobody sees from when on it is waited for: it may be from now on.
                if let Ok(answer) = timeout(Duration::from_secs(5), &mut sent).await {
                    break answer;
                }
            }
        };
        assert_eq!(answer.granted()["pdus"], json!({ first.as_str(): {} }));
        // It is being worked on: nobody waits for it a second time, though the clock stands still.
        let (second, event) = slow.words("more", &[&first]);
        let answer = slow.send(&[&event]).await;
        assert_eq!(answer.granted()["pdus"], json!({ second.as_str(): {} }));
        let guest = Guest { room: other, ..slow };
        let user = guest.user.to_string();
        let tips = guest.tips().await;
        let join = json!({ "membership": "join" });
        let (join, event) = guest.event("m.room.member", Some(&user), join, &tips);
        guest.send(&[&event]).await.granted();
        guest.alice.event(&guest.room, join.as_str()).await.granted();
    });
}

#[test]
fn not_more_waits_than_is_allowed() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.b).await;
        for number in 0..60 {
            let (lost, _) = guest.words(&format!("lost {number}"), &[&guest.join]);
            let (_, event) = guest.words(&format!("found {number}"), &[&lost]);
            guest.send(&[&event]).await.granted();
        }
        waits(guest.server, 50).await;
    });
}

/// A user of another server joins.
async fn joins(guest: &Guest<'_>, other: &Peer) -> (OwnedEventId, Value) {
    let user = other.user("carol").to_string();
    let look = guest.look().await;
    let keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.join_rules", "")];
    let auth: Vec<_> = keys
        .into_iter()
        .filter_map(|(kind, key)| {
            Some(look.entry(&StateKey::new(kind.into(), key))?.event_id.clone())
        })
        .collect();
    other.event(
        &RoomVersionId::V11,
        json!({
            "type": "m.room.member", "sender": user, "state_key": user, "room_id": guest.room,
            "content": { "membership": "join" }, "prev_events": guest.tips().await,
            "auth_events": auth, "depth": 50,
        }),
    )
}

#[test]
fn what_cannot_be_verified_yet_is_tried_again() {
    IN_TIME.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let other = Peer::start().await;
        other.on(KEYS, |_| Told::error(503, "M_UNKNOWN"));
        let (join, event) = joins(&guest, &other).await;
        let answer = guest.send(&[&event]).await.granted();
        assert!(answer["pdus"][join.as_str()]["error"].is_string(), "{answer}");
        waits(guest.server, 1).await;
        let (keys, name) = (other.keys(), other.name().to_owned());
        other.on(KEYS, move |_| {
            let document = keys.document(&name, Clock::machine().now()).unwrap();
            Told::ok(serde_json::to_value(&document).unwrap())
        });
        reads(&guest.alice, &guest.room, &join).await;
    });
}

#[test]
fn who_gives_nothing_of_use_is_not_the_last_to_be_asked() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let other = Peer::start().await;
        let (join, event) = joins(&guest, &other).await;
        guest.send(&[&event]).await.granted();
        guest.alice.event(&guest.room, join.as_str()).await.granted();

        let (a, first) = guest.words("a", &[&join]);
        let (b, second) = guest.words("b", &[&a]);
        let (_, useless) = guest.words("useless", &[&join]);
        guest
            .peer
            .on(&path("get_missing_events"), move |_| Told::ok(json!({ "events": [useless] })));
        other.on(&path("get_missing_events"), move |_| Told::ok(json!({ "events": [first] })));
        guest.send(&[&second]).await.granted();
        reads(&guest.alice, &guest.room, &b).await;
        assert_eq!(guest.said().await, ["a", "b"]);
    });
}

/// `POST /join/{room}` through a server.
async fn join_via(user: &TestUser, room: &str, peer: &Peer) -> crate::support::Answer {
    let url = user.http.url(&v3(&["join", room]));
    let request = user.http.request(reqwest::Method::POST, url).json(&json!({}));
    user.http.send(request.query(&[("via", peer.name().as_str())])).await
}

#[test]
fn what_is_said_while_a_room_is_joined_is_there_after_the_join() {
    runtime().block_on(async {
        let (server, clock) = with_a_clock().await;
        let alice = server.user("alice").await;
        let peer = Peer::start().await;
        let room = Hosted::public(&peer);
        let gate = Arc::new(Notify::new());
        let open = Arc::clone(&gate);
        let template = room.clone();
        peer.on(MAKE_JOIN, move |asked| Told::ok(template.template(&user_of(asked))));
        let host = room.clone();
        peer.on(SEND_JOIN, move |asked| {
            let mut answer = host.answer();
            answer["event"] = asked.body.clone();
            Told::Held(Arc::clone(&gate), answer)
        });
        let says = async {
            let asked = peer.hears(SEND_JOIN).await;
            let join = asked.path.rsplit('/').next().unwrap().replace("%24", "$");
            let join = join.split('?').next().unwrap().to_owned();
            let mut auth = room.auth_events(&room.creator, &room.creator);
            auth.retain(|id| Some(id) != room.at("m.room.join_rules", ""));
            let (id, event) = peer.event(
                &room.version,
                json!({
                    "type": "m.room.message", "sender": room.creator, "room_id": room.id,
                    "content": { "msgtype": "m.text", "body": "welcome" },
                    "prev_events": [join], "auth_events": auth, "depth": 90,
                }),
            );
            let body: Value = json!({
                "origin": peer.name(), "origin_server_ts": 1, "pdus": [event], "edus": [],
            });
            let (answer, ()) = futures::join!(
                peer.put(&server, "/_matrix/federation/v1/send/early", &body),
                async {
                    // Whoever joins has time; who sends something meanwhile has less.
                    eventually("the answer", async || {
                        clock.advance(Duration::from_secs(1));
                        match server.app().federation.inbox().waiting() {
                            0 => Err("nothing waits".to_owned()),
                            _ => Ok(()),
                        }
                    })
                    .await;
                }
            );
            answer.granted();
            open.notify_one();
            id
        };
        let (joined, id) = futures::join!(join_via(&alice, &room.id, &peer), says);
        joined.granted();
        reads(&alice, &room.id, &id).await;
        waits(&server, 0).await;
    });
}
