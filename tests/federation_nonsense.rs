//! What no server says, at random: whatever comes, the server refuses it and goes on.

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use rand::{Rng, SeedableRng, rngs::StdRng};
use ruma::{
    RoomVersionId,
    signatures::{hash_and_sign_event, reference_hash},
};
use serde_json::{Value, json};

use super::{
    federation_bad_input::{Stage, VERBS, put_text},
    federation_inbox::{FEDERATION, Guest},
    support::SharedNeighbours,
};

static SCENE: SharedNeighbours = SharedNeighbours::new();

/// Any JSON that can be signed as the body of a request, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991..=9_007_199_254_740_991_i64).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[$@!][a-z]{1,4}(:x)?".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn no_transaction_breaks_the_server() {
    const FIELDS: [&str; 12] = [
        "type",
        "sender",
        "room_id",
        "state_key",
        "content",
        "prev_events",
        "auth_events",
        "depth",
        "origin_server_ts",
        "hashes",
        "signatures",
        "unsigned",
    ];
    SCENE.run(async |scene| {
        let guest = Guest::new(&scene.server).await;
        let mut runner = TestRunner::deterministic();
        let mutation = (prop::sample::select(&FIELDS[..]), any_json(), any::<bool>());
        for round in 0..60 {
            let mut pick = || mutation.new_tree(&mut runner).unwrap().current();
            let tips = guest.tips().await;
            let mut pdus = Vec::new();
            for _ in 0..5 {
                let (_, mut event) = guest.words("fuzz", &tips);
                let (field, value, signed) = pick();
                event[field] = value;
                // Signed again where it can be: what is wrong with it has to be found behind the signatures.
                let form = event
                    .as_object()
                    .is_some_and(|event| event["content"].is_object() && event["type"].is_string());
                if signed && form && !["hashes", "signatures", "unsigned"].contains(&field) {
                    let unsigned = event.as_object_mut().unwrap();
                    unsigned.remove("signatures");
                    unsigned.remove("hashes");
                    if serde_json::from_value::<ruma::CanonicalJsonObject>(event.clone()).is_ok() {
                        event = guest.peer.event(&RoomVersionId::V11, event).1;
                    }
                }
                pdus.push(event);
            }
            pdus.push(pick().1);
            let edus = json!([{ "edu_type": "m.typing", "content": pick().1 }, pick().1]);
            let answer = guest.transaction(&format!("f{round}"), json!(pdus), edus).await;
            assert!(answer.status < 500, "{}: {}", answer.status, answer.text);
        }
        for round in 0..40 {
            let body = any_json().new_tree(&mut runner).unwrap().current();
            let path = format!("{FEDERATION}/send/g{round}");
            let answer = guest.peer.put(guest.server, &path, &body).await;
            assert!(answer.status < 500, "{}: {}", answer.status, answer.text);
        }
        // No lock is held: both doors are open.
        guest.alice.say(&guest.room, "still here").await;
        let (last, event) = guest.words("me too", &guest.tips().await);
        guest.send(&[&event]).await.granted();
        guest.alice.event(&guest.room, last.as_str()).await.granted();
    });
}

/// Puts something else somewhere into an event, or takes something away.
fn spoil(value: &mut Value, dice: &mut StdRng) {
    let deeper = dice.random_range(0..3) > 0;
    match value {
        Value::Object(object) if deeper && !object.is_empty() => {
            let at = dice.random_range(0..object.len());
            let key = object.keys().nth(at).unwrap().clone();
            if dice.random_range(0..4) == 0 {
                object.remove(&key);
            } else {
                spoil(&mut object[&key], dice);
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = dice.random_range(0..items.len());
            spoil(&mut items[at], dice);
        }
        other => {
            let pool = [
                json!(null),
                json!(true),
                json!(-1),
                json!(9_007_199_254_740_991_i64),
                json!(1.5),
                json!(""),
                json!("x".repeat(300)),
                json!("@\u{0}:x"),
                json!("!a:x"),
                json!(format!("${}", "a".repeat(43))),
                json!([]),
                json!([[[]]]),
                json!(vec!["$a"; 30]),
                json!({}),
                json!({ "membership": { "membership": "join" } }),
            ];
            *other = pool[dice.random_range(0..pool.len())].clone();
        }
    }
}

#[test]
fn no_event_that_is_handed_in_breaks_the_server() {
    SCENE.run(async |scene| {
        let mut dice = StdRng::seed_from_u64(1);
        for (verb, endpoints) in VERBS {
            let stage = Stage::set(scene, verb).await;
            let ready = stage.ready(|_| {}).await;
            let rules = ready.version.rules().unwrap();
            for round in 0..120 {
                let mut event = ready.event.clone();
                for _ in 0..=dice.random_range(0..3) {
                    spoil(&mut event, &mut dice);
                }
                // Where it can be signed, it is: then it gets further.
                let name = scene.peer.name().as_str();
                if let Ok(mut object) = serde_json::from_value(event.clone())
                    && hash_and_sign_event(name, scene.peer.key(), &mut object, &rules.redaction)
                        .is_ok()
                {
                    event = serde_json::to_value(&object).unwrap();
                }
                let id = match serde_json::from_value(event.clone())
                    .map(|object| reference_hash(&object, &rules))
                {
                    Ok(Ok(hash)) => format!("${hash}"),
                    _ => ready.id.clone(),
                };
                let endpoint = endpoints[round % endpoints.len()];
                let answer = put_text(&stage, endpoint, &id, event.to_string()).await;
                assert!(answer.status < 500, "{event}: {}", answer.text);
                let known = [200, 400, 403, 404, 413].contains(&answer.status);
                assert!(known, "{event}: {} {}", answer.status, answer.text);
            }
            let carol = scene.guest("carol");
            if verb == "knock" {
                let ready = carol.ready("knock", &stage.room, |_| {}).await;
                carol.hand_in("v1/send_knock", &stage.room, &ready).await.granted();
            } else {
                carol.join(&stage.room).await;
            }
        }
    });
}
