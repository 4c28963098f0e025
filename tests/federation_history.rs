//! What other servers are given of a room's past, and of what this server knows.

use serde_json::{Value, json};

use crate::support::{
    Answer, Guest, Neighbours, Peer, Ready, SharedNeighbours, TestUser, escaped, fresh,
};

static SCENE: SharedNeighbours = SharedNeighbours::new();

/// What the peer is answered.
async fn ask(scene: &Neighbours, path: &str) -> Answer {
    scene.peer.get(&scene.server, &format!("/_matrix/federation/v1/{path}")).await
}

/// What the peer is given that it says is missing.
async fn missing(scene: &Neighbours, room: &str, body: Value) -> Answer {
    let path = format!("/_matrix/federation/v1/get_missing_events/{}", escaped(room));
    scene.peer.post(&scene.server, &path, &body).await
}

/// Everything that a peer asks about a room and one of its events.
async fn everything(scene: &Neighbours, peer: &Peer, room: &str, event: &str) -> Vec<Answer> {
    let (room, event) = (escaped(room), escaped(event));
    let mut answers = Vec::new();
    for path in [
        format!("state/{room}?event_id={event}"),
        format!("state_ids/{room}?event_id={event}"),
        format!("event_auth/{room}/{event}"),
        format!("backfill/{room}?v={event}&limit=5"),
    ] {
        answers.push(peer.get(&scene.server, &format!("/_matrix/federation/v1/{path}")).await);
    }
    let path = format!("/_matrix/federation/v1/get_missing_events/{room}");
    let body = json!({ "earliest_events": [], "latest_events": [] });
    answers.push(peer.post(&scene.server, &path, &body).await);
    answers
}

fn bodies(events: &Value) -> Vec<String> {
    let body = |event: &Value| event["content"]["body"].as_str().unwrap_or("").to_owned();
    events.as_array().unwrap().iter().map(body).collect()
}

fn kinds(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

async fn say(user: &TestUser, room: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 1..=count {
        ids.push(user.say(room, &format!("m{n}")).await);
    }
    ids
}

#[test]
fn a_member_is_given_the_past_and_the_state() {
    SCENE.run(async |scene| {
        let alice = scene.server.user("alice").await;
        for version in ["11", "12"] {
            let options = json!({ "preset": "public_chat", "room_version": version });
            let room = alice.new_room(options).await;
            let carol = scene.guest("carol");
            let (joined, ready) = carol.join(&room).await;
            let said = say(&alice, &room, 6).await;
            let (place, last) = (escaped(&room), escaped(&said[5]));

            let one = ask(scene, &format!("event/{last}")).await.granted();
            assert_eq!(one["origin"], scene.server.name());
            assert_eq!(bodies(&one["pdus"]), ["m6"]);
            assert!(
                one["pdus"][0]["signatures"].is_object()
                    && one["pdus"][0].get("event_id").is_none()
            );

            let back = ask(scene, &format!("backfill/{place}?v={last}&limit=3")).await.granted();
            assert_eq!(bodies(&back["pdus"]), ["m6", "m5", "m4"]);
            let all = ask(scene, &format!("backfill/{place}?v={last}&limit=1000")).await.granted();
            assert_eq!(kinds(&all["pdus"]).last(), Some(&"m.room.create"));

            let body = json!({
                "earliest_events": [said[1]], "latest_events": [said[5]], "limit": 10,
            });
            let missed = missing(scene, &room, body).await.granted();
            assert_eq!(bodies(&missed["events"]), ["m3", "m4", "m5"]);
            let body = json!({ "earliest_events": [], "latest_events": [said[5]], "limit": 2 });
            let missed = missing(scene, &room, body).await.granted();
            assert_eq!(bodies(&missed["events"]), ["m4", "m5"]);

            // Before the join there is nobody of the peer's; before the message there is.
            let join = escaped(&ready.id);
            let state = ask(scene, &format!("state/{place}?event_id={join}")).await.granted();
            assert_eq!(state["pdus"], joined["state"]);
            assert_eq!(state["auth_chain"].as_array().unwrap().len(), {
                let ids = ask(scene, &format!("state_ids/{place}?event_id={join}")).await.granted();
                assert_eq!(ids["pdu_ids"].as_array().unwrap().len(), kinds(&state["pdus"]).len());
                ids["auth_chain_ids"].as_array().unwrap().len()
            });
            let ids = ask(scene, &format!("state_ids/{place}?event_id={last}")).await.granted();
            assert!(ids["pdu_ids"].as_array().unwrap().contains(&json!(ready.id)));

            let auth = ask(scene, &format!("event_auth/{place}/{join}")).await.granted();
            let mut chain = kinds(&auth["auth_chain"]);
            chain.sort_unstable();
            let wanted =
                ["m.room.create", "m.room.join_rules", "m.room.member", "m.room.power_levels"];
            assert_eq!(chain, wanted);
        }
    });
}

#[test]
fn the_chain_of_a_join_tells_of_the_one_before() {
    SCENE.run(async |scene| {
        let alice = scene.server.user("alice").await;
        let room = alice.public_room().await;
        let carol = scene.guest("carol");
        let (_, first) = carol.join(&room).await;
        let left = carol.leave(&room).await;
        let (_, again) = carol.join(&room).await;
        let path = format!("event_auth/{}/{}", escaped(&room), escaped(&again.id));
        let auth = ask(scene, &path).await.granted();
        let signed = |ready: &Ready| ready.event["hashes"].clone();
        let chain = auth["auth_chain"].as_array().unwrap();
        for one in [&first, &left] {
            assert!(chain.iter().any(|event| event["hashes"] == signed(one)));
        }
        assert!(!chain.iter().any(|event| event["hashes"] == signed(&again)));
        assert_eq!(chain.len(), 6);
    });
}

#[test]
fn strangers_are_given_nothing() {
    SCENE.run(async |scene| {
        let alice = scene.server.user("alice").await;
        let room = alice.public_room().await;
        let said = alice.say(&room, "m1").await;
        for answer in everything(scene, &scene.peer, &room, &said).await {
            answer.refused(403, "M_FORBIDDEN").says("not in this room");
        }
        let path = format!("event/{}", escaped(&said));
        ask(scene, &path).await.refused(404, "M_NOT_FOUND");
        for answer in everything(scene, &scene.peer, "!nowhere:x", &said).await {
            answer.refused(404, "M_NOT_FOUND");
        }
        // Being invited is not being in.
        let carol = scene.guest("carol");
        carol.join(&room).await;
        let elsewhere = alice.public_room().await;
        let other = alice.say(&elsewhere, "m2").await;
        let place = escaped(&room);
        for path in [
            format!("state/{place}?event_id={}", escaped(&other)),
            format!("state_ids/{place}?event_id={}", escaped(&other)),
            format!("event_auth/{place}/{}", escaped(&other)),
        ] {
            ask(scene, &path).await.refused(404, "M_NOT_FOUND");
        }
        let path = format!("backfill/{place}?v={}&limit=5", escaped(&other));
        assert_eq!(ask(scene, &path).await.granted()["pdus"], json!([]));
        ask(scene, &format!("state/{place}")).await.refused(400, "M_MISSING_PARAM");
        ask(scene, &format!("backfill/{place}?limit=nan")).await.refused_with_status(400);
    });
}

#[test]
fn the_acl_keeps_out_of_the_past_too() {
    SCENE.run(async |scene| {
        let alice = scene.server.user("alice").await;
        let room = alice.public_room().await;
        let carol = scene.guest("carol");
        carol.join(&room).await;
        let said = alice.say(&room, "m1").await;
        for answer in everything(scene, &scene.peer, &room, &said).await {
            answer.granted();
        }
        let acl = json!({ "allow": ["*"], "allow_ip_literals": false });
        alice.put_state(&room, "m.room.server_acl", "", acl).await.granted();
        for answer in everything(scene, &scene.peer, &room, &said).await {
            answer.refused(403, "M_FORBIDDEN").says("m.room.server_acl");
        }
        // The specification does not name this one.
        ask(scene, &format!("event/{}", escaped(&said))).await.granted();
    });
}

#[test]
fn what_the_history_does_not_show_comes_redacted() {
    SCENE.run(async |scene| {
        let alice = scene.server.user("alice").await;
        let visibility = json!([{
            "type": "m.room.history_visibility", "content": { "history_visibility": "joined" },
        }]);
        let options = json!({ "preset": "public_chat", "initial_state": visibility });
        let room = alice.new_room(options).await;
        say(&alice, &room, 2).await;
        let carol = scene.guest("carol");
        carol.join(&room).await;
        let seen = alice.say(&room, "m3").await;
        let path = format!("backfill/{}?v={}&limit=4", escaped(&room), escaped(&seen));
        let back = ask(scene, &path).await.granted();
        assert_eq!(bodies(&back["pdus"]), ["m3", "", "", ""]);
        assert_eq!(kinds(&back["pdus"])[2..], ["m.room.message", "m.room.message"]);
        assert_eq!(back["pdus"][2]["content"], json!({}));
    });
}

#[test]
fn who_has_left_is_given_what_was_before() {
    SCENE.run(async |scene| {
        let alice = scene.server.user("alice").await;
        let room = alice.public_room().await;
        let carol = scene.guest("carol");
        carol.join(&room).await;
        let before = alice.say(&room, "before").await;
        let left = carol.leave(&room).await;
        let after = alice.say(&room, "after").await;
        for event in [&before, &left.id] {
            for answer in everything(scene, &scene.peer, &room, event).await {
                answer.granted();
            }
            ask(scene, &format!("event/{}", escaped(event))).await.granted();
        }
        ask(scene, &format!("event/{}", escaped(&after))).await.refused(404, "M_NOT_FOUND");
        let path = format!("state_ids/{}?event_id={}", escaped(&room), escaped(&after));
        ask(scene, &path).await.refused(404, "M_NOT_FOUND");
        let path = format!("backfill/{}?v={}&limit=3", escaped(&room), escaped(&after));
        let back = ask(scene, &path).await.granted();
        assert_eq!(bodies(&back["pdus"]), ["", "before"]);
        let dave = Guest { peer: &scene.other, id: scene.other.user("dave"), ..scene.guest("x") };
        for answer in everything(scene, &scene.other, &room, &before).await {
            answer.refused(403, "M_FORBIDDEN");
        }
        dave.join(&room).await;
    });
}

#[test]
fn what_leads_to_our_leaving_can_be_had_after_it() {
    SCENE.run(async |scene| {
        let alice = scene.server.user("alice").await;
        let room = alice.public_room().await;
        let carol = scene.guest("carol");
        carol.join(&room).await;
        let said = say(&alice, &room, 3).await;
        alice.leave(&room).await.granted();
        carol.make("join", &room).await.refused(404, "M_NOT_FOUND");
        let member = scene.server.app().rooms.room(room.as_str().try_into().unwrap()).await;
        let look = member.unwrap().unwrap().look();
        let user: ruma::OwnedUserId = alice.id.as_str().try_into().unwrap();
        let key = matryx_core::room::StateKey::member(&user);
        let left = look.entry(&key).unwrap().event_id.to_string();
        for answer in everything(scene, &scene.peer, &room, &left).await {
            answer.granted();
        }
        ask(scene, &format!("event/{}", escaped(&left))).await.granted();
        let body = json!({ "earliest_events": [said[0]], "latest_events": [left], "limit": 10 });
        let missed = missing(scene, &room, body).await.granted();
        assert_eq!(bodies(&missed["events"]), ["m2", "m3"]);
        for answer in everything(scene, &scene.other, &room, &left).await {
            answer.refused(403, "M_FORBIDDEN");
        }
    });
}

#[test]
fn aliases_and_profiles_are_told() {
    SCENE.run(async |scene| {
        let alice = scene.server.user("alice").await;
        let local = format!("here{}", fresh());
        let options = json!({ "preset": "public_chat", "room_alias_name": local });
        let room = alice.new_room(options).await;
        let alias = |name: &str| escaped(&format!("#{name}:{}", scene.server.name()));
        let path = format!("query/directory?room_alias={}", alias(&local));
        let found = ask(scene, &path).await.granted();
        assert_eq!(found, json!({ "room_id": room, "servers": [scene.server.name()] }));
        scene.guest("carol").join(&room).await;
        let found = ask(scene, &path).await.granted();
        assert_eq!(found["servers"], json!([scene.server.name(), scene.peer.name()]));
        let path = format!("query/directory?room_alias={}", alias("nowhere"));
        ask(scene, &path).await.refused(404, "M_NOT_FOUND");
        ask(scene, "query/directory?room_alias=%23a%3Aelsewhere").await.refused(404, "M_NOT_FOUND");
        ask(scene, "query/directory").await.refused(400, "M_MISSING_PARAM");

        let name = json!({ "displayname": "Alice" });
        alice.put(&["profile", &alice.id, "displayname"], &name).await.granted();
        let id = escaped(&alice.id);
        let profile = ask(scene, &format!("query/profile?user_id={id}")).await.granted();
        assert_eq!(profile, name);
        let profile = ask(scene, &format!("query/profile?user_id={id}&field=displayname")).await;
        assert_eq!(profile.granted(), name);
        let profile = ask(scene, &format!("query/profile?user_id={id}&field=avatar_url")).await;
        assert_eq!(profile.granted(), json!({}));
        let nobody = escaped(&format!("@nobody:{}", scene.server.name()));
        let answer = ask(scene, &format!("query/profile?user_id={nobody}")).await;
        answer.refused(404, "M_NOT_FOUND");
        let answer = ask(scene, "query/profile?user_id=%40a%3Aelsewhere").await;
        answer.refused(404, "M_NOT_FOUND");
    });
}
