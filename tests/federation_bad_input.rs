//! Events that no server should hand in: each is refused with a reason, and nothing changes by it.

use ruma::signatures::KeyPair;
use serde_json::{Value, json};

use crate::support::{
    Answer, Guest, Neighbours, Peer, Ready, SharedNeighbours, TestServer, TestUser, escaped,
};

static SCENE: SharedNeighbours = SharedNeighbours::new();

/// The verbs, each with the endpoints that take its event.
pub const VERBS: [(&str, &[&str]); 3] = [
    ("join", &["v1/send_join", "v2/send_join"]),
    ("knock", &["v1/send_knock"]),
    ("leave", &["v1/send_leave", "v2/send_leave"]),
];

/// A room, somebody who may do the verb to it, and what there was before.
pub struct Stage<'a> {
    alice: TestUser,
    pub room: String,
    pub guest: Guest<'a>,
    verb: &'static str,
    before: (Vec<Value>, Vec<Value>),
}

/// The events of a room's state and of its timeline.
async fn standing(alice: &TestUser, room: &str) -> (Vec<Value>, Vec<Value>) {
    let ids = |events: &Value| {
        events.as_array().unwrap().iter().map(|event| event["event_id"].clone()).collect()
    };
    let (state, timeline) =
        (alice.state(room).await.granted(), alice.messages(room).await.granted());
    (ids(&state), ids(&timeline["chunk"]))
}

impl<'a> Stage<'a> {
    pub async fn set(scene: &'a Neighbours, verb: &'static str) -> Self {
        let alice = scene.alice().await;
        let rule = if verb == "knock" { "knock" } else { "public" };
        let rules = json!([{ "type": "m.room.join_rules", "content": { "join_rule": rule } }]);
        let options = json!({ "room_version": "11", "initial_state": rules });
        let room = alice.new_room(options).await;
        let guest = scene.guest("carol");
        if verb == "leave" {
            guest.join(&room).await;
        }
        let before = standing(&alice, &room).await;
        Self { alice, room, guest, verb, before }
    }

    pub async fn ready(&self, change: impl FnOnce(&mut Value)) -> Ready {
        self.guest.ready(self.verb, &self.room, change).await
    }

    async fn unchanged(&self, ready: &Ready) {
        assert_eq!(standing(&self.alice, &self.room).await, self.before);
        if let Ok(id) = <&ruma::EventId>::try_from(ready.id.as_str()) {
            let events = self.guest.server.app().rooms.events();
            assert!(events.get(id).await.unwrap().is_none(), "{id} is kept");
        }
    }
}

/// Hands in what `make` makes of a stage, by every endpoint, and expects the same refusal.
async fn refused(
    scene: &Neighbours,
    make: impl AsyncFn(&Stage<'_>) -> Ready,
    status: u16,
    errcode: &str,
    says: &str,
) {
    for (verb, endpoints) in VERBS {
        let stage = Stage::set(scene, verb).await;
        let ready = make(&stage).await;
        for endpoint in endpoints {
            let answer = stage.guest.hand_in(endpoint, &stage.room, &ready).await;
            answer.refused(status, errcode).says(says);
        }
        stage.unchanged(&ready).await;
    }
}

#[test]
fn a_wrong_signer() {
    SCENE.run(async |scene| {
        // Signed by a server that is not the sender's.
        let foreign = async |stage: &Stage<'_>| {
            let mut ready = stage.ready(|_| {}).await;
            ready.event["signatures"] = json!({});
            ready.event = scene.other.sign_event(&ready.version, ready.event);
            ready
        };
        refused(scene, foreign, 403, "M_FORBIDDEN", "signature").await;
        // By nobody at all.
        let nobody = async |stage: &Stage<'_>| {
            let mut ready = stage.ready(|_| {}).await;
            ready.event["signatures"] = json!({});
            ready
        };
        refused(scene, nobody, 403, "M_FORBIDDEN", "signature").await;
        // By the right one, but over something else.
        let forged = async |stage: &Stage<'_>| {
            let ready = stage.ready(|_| {}).await;
            let mut other = stage.ready(|event| event["depth"] = json!(4000)).await;
            other.event["signatures"] = ready.event["signatures"].clone();
            other
        };
        refused(scene, forged, 403, "M_FORBIDDEN", "signature").await;
    });
}

#[test]
fn a_wrong_type() {
    SCENE.run(async |scene| {
        let message = async |stage: &Stage<'_>| {
            stage.ready(|event| event["type"] = json!("m.room.message")).await
        };
        refused(scene, message, 400, "M_INVALID_PARAM", "m.room.member").await;
        let timeline = async |stage: &Stage<'_>| {
            let remove =
                |event: &mut Value| drop(event.as_object_mut().unwrap().remove("state_key"));
            stage.ready(remove).await
        };
        refused(scene, timeline, 400, "M_INVALID_PARAM", "state_key").await;
    });
}

#[test]
fn a_wrong_membership() {
    SCENE.run(async |scene| {
        for wrong in [json!("invite"), json!("ban"), json!("Join"), json!(1), json!(null)] {
            let make = async |stage: &Stage<'_>| {
                stage.ready(|event| event["content"]["membership"] = wrong.clone()).await
            };
            refused(scene, make, 400, "M_INVALID_PARAM", "membership").await;
        }
        for (verb, endpoints) in VERBS {
            for (other, _) in VERBS.into_iter().filter(|(other, _)| *other != verb) {
                let stage = Stage::set(scene, verb).await;
                let ready = stage.ready(|event| event["content"]["membership"] = json!(other));
                let ready = ready.await;
                for endpoint in endpoints {
                    let answer = stage.guest.hand_in(endpoint, &stage.room, &ready).await;
                    answer.refused(400, "M_INVALID_PARAM").says("membership");
                }
                stage.unchanged(&ready).await;
            }
        }
    });
}

#[test]
fn a_wrong_state_key() {
    SCENE.run(async |scene| {
        let doris = scene.peer.user("doris");
        let make =
            async |stage: &Stage<'_>| stage.ready(|event| event["state_key"] = json!(doris)).await;
        refused(scene, make, 400, "M_INVALID_PARAM", "state_key").await;
        let nobody = async |stage: &Stage<'_>| {
            let both = |event: &mut Value| {
                event["state_key"] = json!("nobody");
                event["sender"] = json!("nobody");
            };
            stage.ready(both).await
        };
        refused(scene, nobody, 400, "M_INVALID_PARAM", "user id").await;
    });
}

#[test]
fn a_foreign_origin() {
    SCENE.run(async |scene| {
        for (verb, endpoints) in VERBS {
            let stage = Stage::set(scene, verb).await;
            let ready = stage.ready(|_| {}).await;
            // Signed well by the sender's server, and handed in by another.
            let thief = Guest { peer: &scene.other, ..scene.guest("x") };
            for endpoint in endpoints {
                let answer = thief.hand_in(endpoint, &stage.room, &ready).await;
                answer.refused(403, "M_FORBIDDEN").says("is no user of");
            }
            stage.unchanged(&ready).await;
        }
    });
}

#[test]
fn a_body_for_another_user_of_another_server() {
    SCENE.run(async |scene| {
        let victim = scene.other.user("victim");
        let make = async |stage: &Stage<'_>| {
            let both = |event: &mut Value| {
                event["state_key"] = json!(victim);
                event["sender"] = json!(victim);
            };
            stage.ready(both).await
        };
        refused(scene, make, 403, "M_FORBIDDEN", "is no user of").await;
    });
}

#[test]
fn a_template_of_another_room_or_event() {
    SCENE.run(async |scene| {
        for (verb, endpoints) in VERBS {
            let stage = Stage::set(scene, verb).await;
            let elsewhere = Stage::set(scene, verb).await;
            // Somebody may do it there.
            let swapped = Guest { id: stage.guest.id.clone(), ..scene.guest("x") };
            if verb == "leave" {
                swapped.join(&elsewhere.room).await;
            }
            let ready = swapped.ready(verb, &elsewhere.room, |_| {}).await;
            let mut renamed = stage.ready(|_| {}).await;
            renamed.id = format!("${}", "a".repeat(43));
            // The other room's predecessors and rights in an event of this room.
            let foreign = |event: &mut Value| {
                event["prev_events"] = ready.event["prev_events"].clone();
                event["auth_events"] = ready.event["auth_events"].clone();
            };
            let foreign = stage.ready(foreign).await;
            let unknown = |event: &mut Value| event["prev_events"] = json!([renamed.id]);
            let unknown = stage.ready(unknown).await;
            for endpoint in endpoints {
                let hand_in =
                    async |ready: &Ready| stage.guest.hand_in(endpoint, &stage.room, ready).await;
                hand_in(&ready).await.refused(400, "M_INVALID_PARAM").says("room");
                hand_in(&renamed).await.refused(400, "M_INVALID_PARAM").says("path");
                hand_in(&foreign).await.refused(403, "M_FORBIDDEN").says("not allowed");
                hand_in(&unknown).await.refused(400, "M_INVALID_PARAM").says("prev_events");
                let answer = stage.guest.hand_in(endpoint, "!nowhere:x", &ready).await;
                answer.refused(404, "M_NOT_FOUND");
            }
            for ready in [&ready, &renamed, &foreign, &unknown] {
                stage.unchanged(ready).await;
            }
        }
    });
}

/// Hands in any text, signed as no library would do it where that is no canonical JSON.
pub async fn put_text(stage: &Stage<'_>, endpoint: &str, id: &str, body: String) -> Answer {
    let (room, id) = (escaped(&stage.room), escaped(id));
    let path = format!("/_matrix/federation/{endpoint}/{room}/{id}");
    let content: Value = serde_json::from_str(&body).unwrap_or_default();
    put_signed(stage.guest.peer, stage.guest.server, &path, &content.to_string(), body).await
}

/// Puts any text, signed as if it were this one.
pub async fn put_signed(
    peer: &Peer,
    server: &TestServer,
    path: &str,
    canonical: &str,
    body: String,
) -> Answer {
    let rest = json!({
        "destination": server.name(), "method": "PUT", "origin": peer.name(), "uri": path,
    });
    let rest = rest.to_string();
    let signed = format!("{{\"content\":{canonical},{}", rest.trim_start_matches('{'));
    let signature = peer.key().sign(signed.as_bytes());
    let header = format!(
        "X-Matrix origin=\"{}\",destination=\"{}\",key=\"{}\",sig=\"{}\"",
        peer.name(),
        server.name(),
        peer.key().key_id(),
        signature.base64(),
    );
    peer.send(server, http::Method::PUT, path, &[header], body.into()).await
}

#[test]
fn json_that_is_not_canonical() {
    SCENE.run(async |scene| {
        for (verb, endpoints) in VERBS {
            let stage = Stage::set(scene, verb).await;
            let ready = stage.ready(|event| event["content"]["org.example"] = json!("#")).await;
            let text = ready.event.to_string();
            for number in ["1.5", "1e3", "9007199254740992", "-9007199254740992"] {
                let body = text.replace("\"#\"", number);
                for endpoint in endpoints {
                    let answer = put_text(&stage, endpoint, &ready.id, body.clone()).await;
                    answer.refused(400, "M_BAD_JSON");
                }
            }
            for body in ["[]", "1", "{", "{\"type\":", "\u{0}"] {
                let answer = put_text(&stage, endpoints[0], &ready.id, body.to_owned()).await;
                answer.refused_with_status(400);
            }
            stage.unchanged(&ready).await;
        }
    });
}

#[test]
fn an_event_without_what_an_event_has() {
    SCENE.run(async |scene| {
        for field in ["prev_events", "auth_events", "depth", "hashes"] {
            let make = async |stage: &Stage<'_>| {
                let mut ready = stage.ready(|_| {}).await;
                ready.event.as_object_mut().unwrap().remove(field);
                ready.event["signatures"] = json!({});
                let event = scene.peer.sign_event(&ready.version, ready.event);
                Ready { event, ..ready }
            };
            for (verb, endpoints) in VERBS {
                let stage = Stage::set(scene, verb).await;
                let ready = make(&stage).await;
                for endpoint in endpoints {
                    let answer = stage.guest.hand_in(endpoint, &stage.room, &ready).await;
                    assert!([400, 403].contains(&answer.status), "{field}: {}", answer.text);
                    let status = answer.status;
                    answer.refused_with_status(status);
                }
                stage.unchanged(&ready).await;
            }
        }
    });
}

#[test]
fn another_version_of_room() {
    SCENE.run(async |scene| {
        // As events named one another in the first two versions.
        let old = async |stage: &Stage<'_>| {
            let pairs = |event: &mut Value| {
                let id = event["prev_events"][0].clone();
                event["prev_events"] = json!([[id, { "sha256": "a" }]]);
            };
            stage.ready(pairs).await
        };
        refused(scene, old, 400, "M_BAD_JSON", "version").await;
        for verb in ["join", "knock"] {
            let stage = Stage::set(scene, verb).await;
            for query in ["?ver=org.example.unknown", "?ver=1&ver=2", "?ver=12"] {
                let answer = stage.guest.make_with(verb, &stage.room, query).await;
                assert_eq!(answer.body["room_version"], "11");
                answer.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
            }
        }
    });
}

#[test]
fn more_than_an_event_may_be() {
    SCENE.run(async |scene| {
        let large = async |stage: &Stage<'_>| {
            let mut ready = stage.ready(|_| {}).await;
            // The tests' signer makes no such event itself.
            ready.event["content"]["org.example"] = json!("x".repeat(70_000));
            ready
        };
        refused(scene, large, 413, "M_TOO_LARGE", "bytes").await;
        let many = async |stage: &Stage<'_>| {
            let ids: Vec<_> = (0..21).map(|n| format!("${}{n:02}", "a".repeat(41))).collect();
            stage.ready(|event| event["prev_events"] = json!(ids)).await
        };
        refused(scene, many, 400, "M_BAD_JSON", "prev_events").await;
    });
}
