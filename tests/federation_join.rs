//! Joining rooms through other servers: whom we ask, what we believe, what we tell.

use std::time::Duration;

use matryx_core::event::SigningKey;
use matryx_server::clock::Clock;
use ruma::RoomVersionId;
use serde_json::{Value, json};

use super::support::{
    Answer, Hosted, MAKE_JOIN, Peer, SEND_JOIN, SharedPair, Sync, TestServer, TestUser, Told,
    fresh, has, runtime, user_of, v3,
};

static PAIR: SharedPair = SharedPair::new();

/// What a test changes of an answer.
type Change = fn(&mut Value);

/// `POST /join/{room}` with servers that are said to be in it.
async fn join_via(user: &TestUser, room: &str, via: &[&Peer], body: Value) -> Answer {
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
            .ok();
        let mut listener = user.listens().await;
        let body = json!({ "reason": "curious", "org.example.extra": [1] });
        let answer = join_via(&user, &room.id, &[&peer], body).await;
        assert_eq!(answer.ok(), json!({ "room_id": room.id }));

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
        assert_eq!(user.state_event(&room.id, "m.room.topic", "").await.ok()["topic"], "far away");
        // Once more: the event that stands is the answer, and nobody is asked.
        join_via(&user, &room.id, &[&peer], json!({})).await.ok();
        assert_eq!(peer.count(MAKE_JOIN), 1);
    });
}

#[test]
fn one_candidate_after_another_is_asked() {
    PAIR.run(async |pair| {
        let (deaf, hanging, peer) = (Peer::start().await, Peer::start().await, Peer::start().await);
        let room = Hosted::public(&peer);
        deaf.on(MAKE_JOIN, |_| Told::error(404, "M_NOT_FOUND"));
        hanging.on(MAKE_JOIN, |_| Told::Hang);
        room.open(&peer);
        let user = pair.a.user("alice").await;
        join_via(&user, &room.id, &[&deaf, &hanging, &peer], json!({})).await.ok();
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
        join_via(&user, &room.id, &[&broken, &peer], json!({})).await.ok();
        assert_eq!(broken.count(SEND_JOIN), 1);
    });
}

#[test]
fn a_candidate_that_only_trickles_makes_room_for_the_next() {
    runtime().block_on(async {
        let clock = Clock::by_hand(Clock::machine().now());
        let server = TestServer::start_with(clock.clone(), Peer::befriend).await;
        let (slow, peer) = (Peer::start().await, Peer::start().await);
        let room = Hosted::public(&peer);
        let template = room.clone();
        slow.on(MAKE_JOIN, move |asked| Told::ok(template.template(&user_of(asked))));
        slow.on(SEND_JOIN, |_| Told::Trickle(r#"{"state":["#));
        room.open(&peer);
        let user = server.user("alice").await;
        let via = [&slow, &peer];
        let join = join_via(&user, &room.id, &via, json!({}));
        // Something comes between one step of the time and the next, so that nothing ever stands still.
        let time = async {
            slow.hears(SEND_JOIN).await;
            let passes = async {
                for _ in 0..200 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    clock.advance(Duration::from_secs(10));
                }
            };
            // Who comes next is not to be judged by time that flies.
            tokio::select! {
                _ = peer.hears(MAKE_JOIN) => {}
                () = passes => panic!("half an hour has passed"),
            }
        };
        tokio::join!(join, time).0.ok();
        assert_eq!(user.joined_rooms().await, [room.id]);
    });
}

#[test]
fn bad_events_are_left_out_and_do_not_stop_a_join() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let mut room = Hosted::public(&peer);
        let creator = room.creator.clone();
        let add = |room: &mut Hosted, kind: &str| {
            room.says(&peer, &creator, kind, "", &json!({ "name": "n", "topic": "t" }));
            room.state.len() - 1
        };
        let unsigned = add(&mut room, "m.room.topic");
        room.state[unsigned].1.as_object_mut().unwrap().remove("signatures");
        let forged = add(&mut room, "m.room.avatar");
        room.state[forged].1["signatures"] =
            json!({ peer.name().as_str(): { "ed25519:none": "aGVsbG8" } });
        let foreign = add(&mut room, "m.room.encryption");
        room.state[foreign].1["room_id"] = json!("!other:x");
        let nonsense = add(&mut room, "m.room.pinned_events");
        room.state[nonsense].1 = json!("no event");
        add(&mut room, "m.room.name");
        room.open(&peer);
        let user = pair.a.user("alice").await;
        join_via(&user, &room.id, &[&peer], json!({})).await.ok();
        let state = user.state(&room.id).await.ok();
        let state = state.as_array().unwrap();
        assert!(has(state, "m.room.name", ""));
        for kind in ["m.room.topic", "m.room.avatar", "m.room.encryption", "m.room.pinned_events"] {
            assert!(!has(state, kind, ""), "{kind}");
        }
    });
}

#[test]
fn a_template_for_something_else_is_not_signed() {
    PAIR.run(async |pair| {
        let user = pair.a.user("alice").await;
        let wrong: [Change; 6] = [
            |template| template["event"]["room_id"] = json!("!other:x"),
            |template| template["event"]["type"] = json!("m.room.power_levels"),
            |template| template["event"]["sender"] = json!("@other:x"),
            |template| template["event"]["state_key"] = json!("@other:x"),
            |template| template["event"]["content"]["membership"] = json!("leave"),
            |template| template["event"] = json!("nonsense"),
        ];
        for change in wrong {
            let peer = Peer::start().await;
            let room = Hosted::public(&peer);
            room.open(&peer);
            let hosted = room.clone();
            peer.on(MAKE_JOIN, move |asked| {
                let mut template = hosted.template(&user_of(asked));
                change(&mut template);
                Told::ok(template)
            });
            let answer = join_via(&user, &room.id, &[&peer], json!({})).await;
            answer.refused_with_status(502).says("template").says(peer.name().as_str());
            assert_eq!(peer.count(SEND_JOIN), 0);
        }
    });
}

#[test]
fn what_cannot_be_the_room_is_not_joined() {
    PAIR.run(async |pair| {
        let user = pair.a.user("alice").await;
        let wrong: [(&str, Change); 5] = [
            ("create", |answer| {
                answer["state"].as_array_mut().unwrap().retain(|e| e["type"] != "m.room.create");
            }),
            ("not allowed", |answer| {
                answer["state"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|e| e["type"] != "m.room.join_rules");
            }),
            ("cannot be read", |answer| answer["state"] = json!({})),
            ("cannot be read", |answer| *answer = json!({ "errcode": "M_UNKNOWN" })),
            ("left out members", |answer| answer["members_omitted"] = json!(true)),
        ];
        for (why, change) in wrong {
            let peer = Peer::start().await;
            let room = Hosted::public(&peer);
            room.open(&peer);
            let hosted = room.clone();
            peer.on(SEND_JOIN, move |_| {
                let mut answer = hosted.answer();
                change(&mut answer);
                Told::ok(answer)
            });
            let answer = join_via(&user, &room.id, &[&peer], json!({})).await;
            answer.refused_with_status(502).says(why).says("send_join");
            assert!(!user.joined_rooms().await.contains(&room.id));
            // Nothing of it stands in the way of the next attempt.
            room.open(&peer);
            join_via(&user, &room.id, &[&peer], json!({})).await.ok();
        }
        // The room's create event is of another version than the template.
        let peer = Peer::start().await;
        let public = json!({ "join_rule": "public" });
        let room = Hosted::new(&peer, RoomVersionId::V10, &public);
        room.open(&peer);
        let hosted = room.clone();
        peer.on(MAKE_JOIN, move |asked| {
            let mut template = hosted.template(&user_of(asked));
            template["room_version"] = json!("9");
            Told::ok(template)
        });
        join_via(&user, &room.id, &[&peer], json!({}))
            .await
            .refused_with_status(502)
            .says("version");
    });
}

#[test]
fn what_the_others_refuse_is_told_as_they_say_it() {
    PAIR.run(async |pair| {
        let user = pair.a.user("alice").await;
        let told = async |status: u16, body: Value| {
            let peer = Peer::start().await;
            peer.on(MAKE_JOIN, move |_| Told::json(status, body.clone()));
            let room = format!("!r{}:{}", fresh(), peer.name());
            join_via(&user, &room, &[&peer], json!({})).await
        };
        let error = |code: &str| json!({ "errcode": code, "error": "Because of the test." });
        for (status, code) in [
            (403, "M_FORBIDDEN"),
            (404, "M_NOT_FOUND"),
            (400, "M_UNABLE_TO_AUTHORISE_JOIN"),
            (400, "M_UNABLE_TO_GRANT_JOIN"),
        ] {
            let answer = told(status, error(code)).await;
            answer.refused(status, code).says("because of the test").says("make_join");
        }
        let mut body = error("M_INCOMPATIBLE_ROOM_VERSION");
        body["room_version"] = json!("org.example.99");
        let answer = told(400, body).await;
        assert_eq!(answer.body["room_version"], "org.example.99");
        assert_eq!(answer.body["org.matryx.attempts"].as_array().unwrap().len(), 1);
        answer.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
        // A version that we have not asked for.
        let peer = Peer::start().await;
        let mut room = Hosted::public(&peer);
        room.version = RoomVersionId::V2;
        room.open(&peer);
        let answer = join_via(&user, &room.id, &[&peer], json!({})).await;
        assert_eq!(answer.body["room_version"], "2");
        answer.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");

        // What would end the user's session, were it ours to say, or makes the client believe other things of us.
        for (status, code) in [
            (401, "M_UNKNOWN_TOKEN"),
            (403, "M_UNKNOWN_TOKEN"),
            (403, "M_USER_DEACTIVATED"),
            (403, "M_CONSENT_NOT_GIVEN"),
            (404, "M_UNRECOGNIZED"),
        ] {
            let mut body = error(code);
            body["soft_logout"] = json!(false);
            body["consent_uri"] = json!("https://consent.example.org");
            body["flows"] = json!([]);
            let answer = told(status, body).await;
            for key in ["soft_logout", "consent_uri", "flows"] {
                assert!(answer.body.get(key).is_none(), "{}", answer.text);
            }
            answer.refused(502, "M_UNKNOWN").says(code);
        }
        told(401, error("M_FORBIDDEN")).await.forbidden();
        let mut long = error("M_FORBIDDEN");
        long["error"] = json!("No!\n2026 ERROR forged ".repeat(1000));
        let answer = told(403, long).await;
        assert!(answer.text.len() < 2000 && !answer.text.contains("\\n"), "{}", answer.text);
        answer.forbidden();

        told(500, error("M_UNKNOWN")).await.refused_with_status(502);
        told(403, json!("no")).await.refused_with_status(502);
        told(200, json!({ "nothing": 1 })).await.refused_with_status(502);
        let nowhere = join_via(&user, "!nobody-knows-it", &[], json!({})).await;
        nowhere.refused(404, "M_NOT_FOUND").says("via");
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
        peer.on(SEND_JOIN, move |_| Told::Late(Duration::from_millis(500), hosted.answer()));
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
        join_via(&user, &room.id, &[&peer], json!({})).await.ok();
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
        one.ok();
        two.ok();
        assert_eq!(peer.count(SEND_JOIN), 1);
        let members = alice.members(&room.id, &[("membership", "join")]).await.ok();
        assert_eq!(members["chunk"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn a_restricted_join_needs_the_signature_of_who_vouches() {
    PAIR.run(async |pair| {
        let user = pair.a.user("alice").await;
        for signs in [true, false] {
            let seed: [u8; 32] = [u8::from(signs) + 40; 32];
            let key = move || SigningKey::from_seed("vouches", seed).unwrap();
            let peer = Peer::start_with(key()).await;
            let rule = json!({
                "join_rule": "restricted",
                "allow": [{ "type": "m.room_membership", "room_id": "!space:x" }],
            });
            let room = Hosted::new(&peer, RoomVersionId::V11, &rule);
            room.open(&peer);
            let hosted = room.clone();
            peer.on(MAKE_JOIN, move |asked| {
                let mut template = hosted.template(&user_of(asked));
                template["event"]["content"]["join_authorised_via_users_server"] =
                    json!(hosted.creator);
                let creator = hosted.at("m.room.member", &hosted.creator);
                template["event"]["auth_events"].as_array_mut().unwrap().push(json!(creator));
                Told::ok(template)
            });
            let hosted = room.clone();
            let name = peer.name().to_owned();
            peer.on(SEND_JOIN, move |asked| {
                let mut answer = hosted.answer();
                let mut object = serde_json::from_value(asked.body.clone()).unwrap();
                let rules = RoomVersionId::V11.rules().unwrap();
                if signs {
                    ruma::signatures::sign_event(
                        name.as_str(),
                        &key(),
                        &mut object,
                        &rules.redaction,
                    )
                    .unwrap();
                }
                answer["event"] = serde_json::to_value(&object).unwrap();
                Told::ok(answer)
            });
            let answer = join_via(&user, &room.id, &[&peer], json!({})).await;
            if signs {
                answer.ok();
                let member = user.member(&room.id, &user).await;
                assert_eq!(member["join_authorised_via_users_server"], json!(room.creator));
            } else {
                answer.refused_with_status(502).says("sign");
            }
        }
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
        let found = user.get(&["directory", "room", &alias]).await.ok();
        assert_eq!(found, json!({ "room_id": room.id, "servers": [peer.name()] }));
        assert_eq!(user.join_by(&alias).await.ok(), json!({ "room_id": room.id }));
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
        join_via(&user, &room.id, &[&peer], json!({})).await.ok();
        user.leave(&room.id).await.ok();
        room.says(&peer, &creator, "m.room.topic", "", &json!({ "topic": "after" }));
        assert_eq!(user.state_event(&room.id, "m.room.topic", "").await.ok()["topic"], "before");
        room.open(&peer);
        let mut listener = user.listens().await;
        user.join_by(&room.id).await.ok();
        assert_eq!(peer.count(SEND_JOIN), 2);
        let news = listener.until_in("join", &room.id).await;
        let there = news.joined(&room.id);
        assert!(has(there.state(), "m.room.create", ""), "all of the state again");
        assert_eq!(there.timeline().len(), 1);
        assert_eq!(user.state_event(&room.id, "m.room.topic", "").await.ok()["topic"], "after");
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
        bob.join_via(&room, &via).await.ok();
        alice.say(&room, "one").await;
        bobs.until("the first word", |answer| answer.room(&room).said().contains(&"one")).await;
        bob.leave(&room).await.ok();
        let joined = json!({ "history_visibility": "joined" });
        alice.put_state(&room, "m.room.history_visibility", "", joined).await.ok();
        alice.say(&room, "two").await;
        bob.join_via(&room, &via).await.ok();
        alice.say(&room, "three").await;
        bobs.until("the last word", |answer| answer.room(&room).said().contains(&"three")).await;
        // Behind the gap Bob was in the room; in it he was not, and members alone read that.
        let read = async |user: &TestUser| {
            let (mut from, mut said) = (String::new(), Vec::new());
            loop {
                let mut query = vec![("dir", "b"), ("limit", "100")];
                query.extend((!from.is_empty()).then_some(("from", from.as_str())));
                let page = user.query(&["rooms", &room, "messages"], &query).await.ok();
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
        carol.join(&room).await.ok();
        assert_eq!(read(&carol).await, ["one"]);
    });
}
