//! Joining rooms through other servers: whom we ask, and what comes of it.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::support::{
    Answer, Hosted, MAKE_JOIN, Peer, SEND_JOIN, SharedPair, Sync, TestServer, TestUser, Told,
    eventually, has, runtime, standing_clock, user_of, v3,
};

static PAIR: SharedPair = SharedPair::new();

/// How many pieces of a body that trickles come while ten seconds pass.
const PIECES: usize = 5;

/// `POST /join/{room}` with servers that are said to be in it.
pub async fn join_via(user: &TestUser, room: &str, via: &[&Peer], body: Value) -> Answer {
    let url = user.http.url(&v3(&["join", room]));
    let request = user.http.request(reqwest::Method::POST, url).json(&body);
    let query: Vec<_> = via.iter().map(|peer| ("via", peer.name().as_str())).collect();
    user.http.send(request.query(&query)).await
}

#[test]
fn a_room_is_joined_by_the_server_that_is_named() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let mut room = Hosted::public(&peer);
        let creator = room.creator.clone();
        room.says(&peer, &creator, "m.room.topic", "", &json!({ "topic": "far away" }));
        room.open(&peer);
        let user = pair.a.user("alice").await;
        user.put(&["profile", &user.id, "displayname"], &json!({ "displayname": "Alice" }))
            .await
            .granted();
        let mut listener = user.listens().await;
        let body = json!({ "reason": "curious", "org.example.extra": [1] });
        let answer = join_via(&user, &room.id, &[&peer], body).await;
        assert_eq!(answer.granted(), json!({ "room_id": room.id }));

        let asked = peer.hears(MAKE_JOIN).await;
        for version in ["6", "10", "11", "12"] {
            assert!(asked.path.contains(&format!("ver={version}")), "{}", asked.path);
        }
        let sent = peer.hears(SEND_JOIN).await.body;
        assert_eq!(
            sent["content"],
            json!({
                "membership": "join", "displayname": "Alice", "reason": "curious",
                "org.example.extra": [1],
            }),
        );
        assert!(sent["signatures"][pair.a.name()].is_object(), "{sent}");
        assert!(sent.get("origin").is_none(), "{sent}");

        let news = listener.until_in("join", &room.id).await;
        let there = news.joined(&room.id);
        for (kind, key) in
            [("m.room.create", ""), ("m.room.topic", ""), ("m.room.member", creator.as_str())]
        {
            assert!(has(there.state(), kind, key), "no {kind} in the state");
        }
        assert_eq!(there.membership(&user), Some("join"));
        assert_eq!(
            user.state_event(&room.id, "m.room.topic", "").await.granted()["topic"],
            "far away"
        );
        // Once more: the event that stands is the answer, and nobody is asked.
        join_via(&user, &room.id, &[&peer], json!({})).await.granted();
        assert_eq!(peer.count(MAKE_JOIN), 1);
    });
}

#[test]
fn one_candidate_after_another_is_asked() {
    runtime().block_on(async {
        let clock = standing_clock();
        let server = TestServer::start_with(clock.clone(), Peer::befriend).await;
        let (deaf, hanging, peer) = (Peer::start().await, Peer::start().await, Peer::start().await);
        let room = Hosted::public(&peer);
        deaf.on(MAKE_JOIN, |_| Told::error(404, "M_NOT_FOUND"));
        hanging.on(MAKE_JOIN, |_| Told::Hang);
        room.open(&peer);
        let user = server.user("alice").await;
        let via = [&deaf, &hanging, &peer];
        let time = async {
            hanging.hears(MAKE_JOIN).await;
            clock.advance(Duration::from_secs(3));
        };
        tokio::join!(join_via(&user, &room.id, &via, json!({})), time).0.granted();
        assert_eq!((deaf.count(MAKE_JOIN), hanging.count(MAKE_JOIN)), (1, 1));
        assert_eq!(user.joined_rooms().await, [room.id]);
    });
}

#[test]
fn a_candidate_that_fails_late_makes_room_for_the_next() {
    PAIR.run(async |pair| {
        let (broken, peer) = (Peer::start().await, Peer::start().await);
        let room = Hosted::public(&peer);
        let template = room.clone();
        broken.on(MAKE_JOIN, move |asked| Told::ok(template.template(&user_of(asked))));
        broken.on(SEND_JOIN, |_| Told::error(500, "M_UNKNOWN"));
        room.open(&peer);
        let user = pair.a.user("alice").await;
        join_via(&user, &room.id, &[&broken, &peer], json!({})).await.granted();
        assert_eq!(broken.count(SEND_JOIN), 1);
    });
}

#[test]
fn a_candidate_that_only_trickles_makes_room_for_the_next() {
    runtime().block_on(async {
        let clock = standing_clock();
        let server = TestServer::start_with(clock.clone(), Peer::befriend).await;
        let (slow, peer) = (Peer::start().await, Peer::start().await);
        let room = Hosted::public(&peer);
        let template = room.clone();
        slow.on(MAKE_JOIN, move |asked| Told::ok(template.template(&user_of(asked))));
        let going = Arc::new(Notify::new());
        let piece = Arc::clone(&going);
        slow.on(SEND_JOIN, move |_| Told::Trickle(r#"{"state":["#, Arc::clone(&piece)));
        room.open(&peer);
        let user = server.user("alice").await;
        let via = [&slow, &peer];
        let join = join_via(&user, &room.id, &via, json!({}));
        // Pieces come between one step of the time and the next, so that nothing ever stands still.
        let time = async {
            slow.hears(SEND_JOIN).await;
            let passes = async {
                for _ in 0..200 {
                    for _ in 0..PIECES {
                        going.notified().await;
                    }
                    clock.advance(Duration::from_secs(10));
                }
            };
            // Who comes next is not to be judged by time that flies.
            tokio::select! {
                _ = peer.hears(MAKE_JOIN) => {}
                () = passes => panic!("half an hour has passed"),
            }
        };
        tokio::join!(join, time).0.granted();
        assert_eq!(user.joined_rooms().await, [room.id]);
    });
}

#[test]
fn every_candidate_is_named_in_the_answer() {
    PAIR.run(async |pair| {
        let (one, two) = (Peer::start().await, Peer::start().await);
        one.on(MAKE_JOIN, |_| Told::error(404, "M_NOT_FOUND"));
        two.on(MAKE_JOIN, |_| Told::error(403, "M_FORBIDDEN"));
        let user = pair.a.user("alice").await;
        let answer = join_via(&user, "!r:one", &[&one, &two], json!({})).await;
        let attempts = answer.body["org.matryx.attempts"].as_array().unwrap().clone();
        let names: Vec<_> = attempts.iter().map(|attempt| &attempt["server"]).collect();
        assert!(names.contains(&&json!(one.name())) && names.contains(&&json!(two.name())));
        answer.forbidden().says(one.name().as_str()).says(two.name().as_str());
    });
}

#[test]
fn a_second_request_attaches_and_hanging_up_stops_nothing() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let room = Hosted::public(&peer);
        room.open(&peer);
        let hosted = room.clone();
        let both = Arc::new(Notify::new());
        peer.on(SEND_JOIN, {
            let both = Arc::clone(&both);
            move |_| Told::Held(Arc::clone(&both), hosted.answer())
        });
        let user = pair.a.user("alice").await;
        let mut listener = user.listens().await;
        let first = tokio::spawn({
            let (user, id, via) = (user.clone(), room.id.clone(), peer.name().to_owned());
            async move {
                let url = user.http.url(&v3(&["join", &id]));
                let request = user.http.request(reqwest::Method::POST, url);
                user.http.send(request.query(&[("via", via.as_str())])).await
            }
        });
        peer.hears(SEND_JOIN).await;
        first.abort();
        let id = room.id.as_str().try_into().unwrap();
        let attached = eventually("the second request", async || {
            match pair.a.app().entering.waiting_for(id) {
                2 => Ok(()),
                waiting => Err(format!("{waiting} wait")),
            }
        });
        let via = [&peer];
        let answered = async {
            attached.await;
            both.notify_one();
        };
        tokio::join!(join_via(&user, &room.id, &via, json!({})), answered).0.granted();
        listener.until_in("join", &room.id).await;
        assert_eq!((peer.count(MAKE_JOIN), peer.count(SEND_JOIN)), (1, 1));
    });
}

#[test]
fn who_comes_second_needs_no_other_server() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let room = Hosted::public(&peer);
        room.open(&peer);
        let [alice, bob] = pair.a.users(["alice", "bob"]).await;
        let via = [&peer];
        let (one, two) = tokio::join!(
            join_via(&alice, &room.id, &via, json!({})),
            join_via(&bob, &room.id, &via, json!({})),
        );
        one.granted();
        two.granted();
        assert_eq!(peer.count(SEND_JOIN), 1);
        let members = alice.members(&room.id, &[("membership", "join")]).await.granted();
        assert_eq!(members["chunk"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn an_alias_of_another_server_leads_to_its_room() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let room = Hosted::public(&peer);
        room.open(&peer);
        let id = room.id.clone();
        let name = peer.name().to_owned();
        peer.on("/_matrix/federation/v1/query/directory", move |asked| {
            if asked.path.contains("known") {
                Told::ok(json!({ "room_id": id, "servers": [name] }))
            } else {
                Told::error(404, "M_NOT_FOUND")
            }
        });
        let user = pair.a.user("alice").await;
        let alias = format!("#known:{}", peer.name());
        let found = user.get(&["directory", "room", &alias]).await.granted();
        assert_eq!(found, json!({ "room_id": room.id, "servers": [peer.name()] }));
        assert_eq!(user.join_by(&alias).await.granted(), json!({ "room_id": room.id }));
        let alias = format!("#nothing:{}", peer.name());
        user.get(&["directory", "room", &alias]).await.refused(404, "M_NOT_FOUND").says(&alias);
        user.join_by(&alias).await.refused(404, "M_NOT_FOUND");
        let away = user.get(&["directory", "room", "#x:127.0.0.1:9"]).await;
        away.refused_with_status(502).says("127.0.0.1:9");
    });
}

#[test]
fn a_room_that_was_left_is_joined_again_as_it_has_become() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let mut room = Hosted::public(&peer);
        let creator = room.creator.clone();
        room.says(&peer, &creator, "m.room.topic", "", &json!({ "topic": "before" }));
        room.open(&peer);
        let user = pair.a.user("alice").await;
        join_via(&user, &room.id, &[&peer], json!({})).await.granted();
        user.leave(&room.id).await.granted();
        room.says(&peer, &creator, "m.room.topic", "", &json!({ "topic": "after" }));
        assert_eq!(
            user.state_event(&room.id, "m.room.topic", "").await.granted()["topic"],
            "before"
        );
        room.open(&peer);
        let mut listener = user.listens().await;
        user.join_by(&room.id).await.granted();
        assert_eq!(peer.count(SEND_JOIN), 2);
        let news = listener.until_in("join", &room.id).await;
        let there = news.joined(&room.id);
        assert!(has(there.state(), "m.room.create", ""), "all of the state again");
        assert_eq!(there.timeline().len(), 1);
        assert_eq!(
            user.state_event(&room.id, "m.room.topic", "").await.granted()["topic"],
            "after"
        );
        user.say(&room.id, "here again").await;
        let whole = user.sync(Sync::initial()).await;
        assert_eq!(whole.joined(&room.id).membership(&user), Some("join"));
    });
}

#[test]
fn the_past_before_a_gap_keeps_its_visibility() {
    PAIR.run(async |pair| {
        let alice = pair.a.user("alice").await;
        let [bob, carol] = pair.b.users(["bob", "carol"]).await;
        let room = alice.public_room().await;
        let via = [pair.a.name()];
        let mut bobs = bob.listens().await;
        bob.join_via(&room, &via).await.granted();
        alice.say(&room, "one").await;
        bobs.until("the first word", |answer| answer.room(&room).said().contains(&"one")).await;
        bob.leave(&room).await.granted();
        eventually("the end of his stay", async || match alice.membership(&room, &bob).await {
            membership if membership == "leave" => Ok(()),
            membership => Err(membership),
        })
        .await;
        let joined = json!({ "history_visibility": "joined" });
        alice.put_state(&room, "m.room.history_visibility", "", joined).await.granted();
        alice.say(&room, "two").await;
        bob.join_via(&room, &via).await.granted();
        alice.say(&room, "three").await;
        bobs.until("the last word", |answer| answer.room(&room).said().contains(&"three")).await;
        // Behind the gap Bob was in the room; in it he was not, and members alone read that.
        let read = async |user: &TestUser| {
            let (mut from, mut said) = (String::new(), Vec::new());
            loop {
                let mut query = vec![("dir", "b"), ("limit", "100")];
                query.extend((!from.is_empty()).then_some(("from", from.as_str())));
                let page = user.query(&["rooms", &room, "messages"], &query).await.granted();
                let chunk = page["chunk"].as_array().unwrap();
                let words = chunk.iter().filter_map(|event| event["content"]["body"].as_str());
                said.extend(words.map(str::to_owned));
                match page["end"].as_str() {
                    Some(end) => end.clone_into(&mut from),
                    None => return said,
                }
            }
        };
        assert_eq!(read(&bob).await, ["three", "one"]);
        // Who comes now reads what was open to all when it was said.
        carol.join(&room).await.granted();
        assert_eq!(read(&carol).await, ["one"]);
    });
}
