//! What other servers answer to those who want to join: what of it is believed, and what of it is told.

use matryx_core::event::SigningKey;
use ruma::RoomVersionId;
use serde_json::{Value, json};

use super::{
    federation_join::join_via,
    support::{
        Answer, Hosted, MAKE_JOIN, Peer, SEND_JOIN, SharedPair, TestUser, Told, fresh, has, user_of,
    },
};

static PAIR: SharedPair = SharedPair::new();

/// What a test changes of an answer.
type Change = fn(&mut Value);

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
        join_via(&user, &room.id, &[&peer], json!({})).await.granted();
        let state = user.state(&room.id).await.granted();
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
            join_via(&user, &room.id, &[&peer], json!({})).await.granted();
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

/// What a user who wants to join is told where the only server that knows the room answers this.
async fn told(user: &TestUser, status: u16, body: Value) -> Answer {
    let peer = Peer::start().await;
    peer.on(MAKE_JOIN, move |_| Told::json(status, body.clone()));
    let room = format!("!r{}:{}", fresh(), peer.name());
    join_via(user, &room, &[&peer], json!({})).await
}

fn error(code: &str) -> Value {
    json!({ "errcode": code, "error": "Because of the test." })
}

#[test]
fn what_the_others_refuse_is_told_as_they_say_it() {
    PAIR.run(async |pair| {
        let user = pair.a.user("alice").await;
        for (status, code) in [
            (403, "M_FORBIDDEN"),
            (404, "M_NOT_FOUND"),
            (400, "M_UNABLE_TO_AUTHORISE_JOIN"),
            (400, "M_UNABLE_TO_GRANT_JOIN"),
        ] {
            let answer = told(&user, status, error(code)).await;
            answer.refused(status, code).says("because of the test").says("make_join");
        }
        told(&user, 401, error("M_FORBIDDEN")).await.forbidden();
        let mut long = error("M_FORBIDDEN");
        long["error"] = json!("No!\n2026 ERROR forged ".repeat(1000));
        let answer = told(&user, 403, long).await;
        assert!(answer.text.len() < 2000 && !answer.text.contains("\\n"), "{}", answer.text);
        answer.forbidden();
    });
}

#[test]
fn which_version_a_room_has_is_told() {
    PAIR.run(async |pair| {
        let user = pair.a.user("alice").await;
        let mut body = error("M_INCOMPATIBLE_ROOM_VERSION");
        body["room_version"] = json!("org.example.99");
        let answer = told(&user, 400, body).await;
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
    });
}

#[test]
fn what_the_others_may_not_say_for_us_is_not_told() {
    PAIR.run(async |pair| {
        let user = pair.a.user("alice").await;
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
            let answer = told(&user, status, body).await;
            for key in ["soft_logout", "consent_uri", "flows"] {
                assert!(answer.body.get(key).is_none(), "{}", answer.text);
            }
            answer.refused(502, "M_UNKNOWN").says(code);
        }
        told(&user, 500, error("M_UNKNOWN")).await.refused_with_status(502);
        told(&user, 403, json!("no")).await.refused_with_status(502);
        told(&user, 200, json!({ "nothing": 1 })).await.refused_with_status(502);
        let nowhere = join_via(&user, "!nobody-knows-it", &[], json!({})).await;
        nowhere.refused(404, "M_NOT_FOUND").says("via");
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
                answer.granted();
                let member = user.member(&room.id, &user).await;
                assert_eq!(member["join_authorised_via_users_server"], json!(room.creator));
            } else {
                answer.refused_with_status(502).says("sign");
            }
        }
    });
}
