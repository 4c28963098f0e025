//! What other servers send: the four fates before judgement.

use matryx_core::{
    event::{MAX_NESTING, MAX_PDU_BYTES, OpenError, Pdu, open},
    membership::Membership,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, RoomVersionId, ServerName,
    signatures::{PublicKeyMap, PublicKeySet, sign_event},
};
use serde_json::{Value, json};

use crate::world::{VERSIONS, draft, key, object, place, public_keys, rules, sealed};

fn sent(pdu: &Pdu) -> CanonicalJsonObject {
    serde_json::from_str(pdu.json()).unwrap()
}

fn join(content: Value, version: &RoomVersionId) -> Pdu {
    sealed(draft("@a:x", "m.room.member", Some("@a:x"), content), place(), version).unwrap()
}

fn message(version: &RoomVersionId) -> Pdu {
    sealed(draft("@a:x", "m.room.message", None, json!({"body": "hi"})), place(), version).unwrap()
}

fn insert(object: &mut CanonicalJsonObject, field: &str, value: Value) {
    object.insert(field.to_owned(), CanonicalJsonValue::try_from(value).unwrap());
}

#[test]
fn what_one_server_seals_another_opens() {
    for version in VERSIONS.into_iter().chain([RoomVersionId::V3, RoomVersionId::V5]) {
        let pdu = join(json!({"membership": "join", "displayname": "Ada"}), &version);
        let opened = open(sent(&pdu), &public_keys(&["x", "y"]), &rules(&version)).unwrap();
        assert_eq!(opened, pdu);
    }
}

#[test]
fn a_create_event_of_version_12_opens_with_its_room() {
    let version = RoomVersionId::V12;
    let mut at = place();
    (at.room_id, at.prev_events, at.auth_events) = (None, vec![], vec![]);
    let create = draft("@a:x", "m.room.create", Some(""), json!({"room_version": "12"}));
    let pdu = sealed(create, at, &version).unwrap();
    let opened = open(sent(&pdu), &public_keys(&["x"]), &rules(&version)).unwrap();
    assert_eq!(opened.room_id(), pdu.room_id());
    assert_eq!(
        opened.room_id().as_str().strip_prefix('!'),
        opened.event_id().as_str().strip_prefix('$')
    );
}

#[test]
fn what_others_claim_beside_the_event_is_thrown_away() {
    let version = RoomVersionId::V12;
    let pdu = message(&version);
    let mut object = sent(&pdu);
    insert(
        &mut object,
        "unsigned",
        json!({"age": 5, "redacted_because": {}, "x": "x".repeat(MAX_PDU_BYTES)}),
    );
    assert_eq!(open(object, &public_keys(&["x"]), &rules(&version)).unwrap(), pdu);
}

#[test]
fn a_tampered_content_leaves_the_redacted_copy() {
    for version in VERSIONS {
        let rules = rules(&version);
        let pdu = join(json!({"membership": "join", "displayname": "Ada"}), &version);
        let mut object = sent(&pdu);
        insert(&mut object, "content", json!({"membership": "join", "displayname": "Eve"}));
        let opened = open(object, &public_keys(&["x"]), &rules).unwrap();
        assert_eq!(opened, pdu.redact(&rules).unwrap());
        assert_eq!(opened.membership(), Some(Membership::Joined));
        assert_eq!(opened.event_id(), pdu.event_id());

        // What a redaction keeps is signed: changing it is no tampering that could be survived.
        let mut object = sent(&pdu);
        insert(&mut object, "content", json!({"membership": "ban", "displayname": "Ada"}));
        let error = open(object, &public_keys(&["x"]), &rules).unwrap_err();
        assert!(matches!(error, OpenError::Signature(_)), "{error}");
    }
}

#[test]
fn a_bad_signature_drops_the_event() {
    let version = RoomVersionId::V12;
    let rules = rules(&version);
    let dropped = |object: CanonicalJsonObject, keys: &PublicKeyMap| {
        let error = open(object, keys, &rules).unwrap_err();
        assert!(matches!(error, OpenError::Signature(_)), "{error}");
    };
    let pdu = message(&version);
    // By a key that is not the sender's.
    let mut keys = public_keys(&["x", "y"]);
    keys.insert("x".to_owned(), keys["y"].clone());
    dropped(sent(&pdu), &keys);
    // No key is known.
    dropped(sent(&pdu), &PublicKeyMap::new());
    // Not signed at all, or by somebody else.
    let mut object = sent(&pdu);
    insert(&mut object, "signatures", json!({}));
    dropped(object, &public_keys(&["x"]));
    let mut object = sent(&pdu);
    let signatures = object.remove("signatures").unwrap();
    let signature = signatures.as_object().unwrap()["x"].clone();
    object.insert(
        "signatures".into(),
        CanonicalJsonValue::Object([("y".to_owned(), signature)].into()),
    );
    dropped(object, &public_keys(&["x", "y"]));
    // Hashes are part of what is signed.
    let mut object = sent(&pdu);
    insert(&mut object, "hashes", json!({"sha256": "AAAA"}));
    dropped(object, &public_keys(&["x"]));
}

#[test]
fn signatures_with_keys_that_nobody_knows_are_passed_over() {
    let version = RoomVersionId::V12;
    let mut object = sent(&message(&version));
    let signatures =
        object.get_mut("signatures").and_then(CanonicalJsonValue::as_object_mut).unwrap();
    let of_x = signatures.get_mut("x").and_then(CanonicalJsonValue::as_object_mut).unwrap();
    of_x.insert("ed25519:old".to_owned(), CanonicalJsonValue::String("AAAA".to_owned()));
    let opened = open(object, &public_keys(&["x"]), &rules(&version)).unwrap();
    assert!(opened.json().contains("ed25519:old"));
}

#[test]
fn a_restricted_join_needs_the_signature_of_who_authorised_it() {
    let content = json!({"membership": "join", "join_authorised_via_users_server": "@b:y"});
    for version in VERSIONS {
        let rules = rules(&version);
        let pdu = join(content.clone(), &version);
        let keys = public_keys(&["x", "y"]);
        let opened = open(sent(&pdu), &keys, &rules);
        if !rules.signatures.check_join_authorised_via_users_server {
            assert_eq!(opened.unwrap(), pdu);
            continue;
        }
        // Without it the event is rejected by an authorisation rule, not dropped.
        let Err(OpenError::Rejected { event, .. }) = opened else { panic!("{opened:?}") };
        assert!(event.rejected());
        assert_eq!(event.event_id(), pdu.event_id());
        // A wrong signature of the sender drops it all the same.
        let error = open(sent(&pdu), &public_keys(&["y"]), &rules).unwrap_err();
        assert!(matches!(error, OpenError::Signature(_)), "{error}");

        let mut object = sent(&pdu);
        let server = <&ServerName>::try_from("y").unwrap();
        sign_event("y", &key(server), &mut object, &rules.redaction).unwrap();
        let signed = object.clone();
        let opened = open(object, &keys, &rules).unwrap();
        // Another signature does not make another event.
        assert_eq!(opened.event_id(), pdu.event_id());
        assert!(!opened.rejected());

        // What cannot be checked now is not rejected for good.
        let mut empty = public_keys(&["x"]);
        empty.insert("y".to_owned(), PublicKeySet::new());
        for keys in [public_keys(&["x"]), empty] {
            let error = open(signed.clone(), &keys, &rules).unwrap_err();
            assert!(matches!(error, OpenError::Signature(_)), "{error}");
        }
        // What is wrong is.
        let mut wrong = public_keys(&["x"]);
        wrong.extend(public_keys(&["x"]).into_values().map(|of_x| ("y".to_owned(), of_x)));
        let error = open(signed, &wrong, &rules).unwrap_err();
        assert!(matches!(error, OpenError::Rejected { .. }), "{error}");
    }
}

#[test]
fn an_invite_by_a_third_party_need_not_be_signed_by_the_inviter() {
    let version = RoomVersionId::V12;
    let content = json!({
        "membership": "invite",
        "third_party_invite": {"display_name": "a…", "signed": {"mxid": "@b:y", "token": "t", "signatures": {}}},
    });
    let invite = draft("@a:x", "m.room.member", Some("@b:y"), content);
    let mut object = sent(&sealed(invite, place(), &version).unwrap());
    insert(&mut object, "signatures", json!({}));
    open(object, &public_keys(&["x"]), &rules(&version)).unwrap();
}

#[test]
fn what_has_not_the_form_of_an_event_is_dropped() {
    let version = RoomVersionId::V12;
    let rules = rules(&version);
    let keys = public_keys(&["x"]);
    let whole = sent(&join(json!({"membership": "join"}), &version));
    open(whole.clone(), &keys, &rules).unwrap();
    for field in ["type", "sender", "room_id", "depth", "prev_events", "auth_events", "content"] {
        for wrong in [None, Some(json!(null)), Some(json!(true))] {
            let mut object = whole.clone();
            object.remove(field);
            if let Some(wrong) = wrong {
                insert(&mut object, field, wrong);
            }
            let error = open(object, &keys, &rules).unwrap_err();
            assert!(matches!(error, OpenError::Format(_)), "{field}: {error}");
        }
    }
    for (field, wrong) in [
        ("state_key", json!(5)),
        ("depth", json!(-1)),
        ("prev_events", json!(["no event id"])),
        ("prev_events", json!([["$old", {"sha256": ""}]])),
        ("origin_server_ts", json!(-1)),
        ("origin_server_ts", json!("now")),
        ("sender", json!("nobody")),
        ("hashes", json!([])),
        ("signatures", json!([])),
    ] {
        let mut object = whole.clone();
        insert(&mut object, field, wrong.clone());
        assert!(open(object, &keys, &rules).is_err(), "{field} {wrong}");
    }
    assert!(matches!(open(CanonicalJsonObject::new(), &keys, &rules), Err(OpenError::Format(_))));
}

#[test]
fn a_signed_event_of_a_bad_form_is_dropped_too() {
    let version = RoomVersionId::V12;
    let rules = rules(&version);
    let x = <&ServerName>::try_from("x").unwrap();
    for (field, wrong) in [("prev_events", json!(["no id"])), ("origin_server_ts", json!(-1))] {
        let mut object = sent(&message(&version));
        insert(&mut object, field, wrong);
        object.remove("signatures");
        object.remove("hashes");
        ruma::signatures::hash_and_sign_event("x", &key(x), &mut object, &rules.redaction).unwrap();
        let error = open(object, &public_keys(&["x"]), &rules).unwrap_err();
        assert!(matches!(error, OpenError::Format(_)), "{error}");
    }
}

#[test]
fn what_is_too_large_is_dropped() {
    let version = RoomVersionId::V11;
    let rules = rules(&version);
    let x = <&ServerName>::try_from("x").unwrap();
    let signed = |kind: &str, body: usize| {
        let mut object = object(json!({
            "type": kind, "sender": "@a:x", "room_id": "!room:x", "content": {"body": "x".repeat(body)},
            "depth": 1, "origin_server_ts": 1, "prev_events": [], "auth_events": [],
        }));
        ruma::signatures::hash_and_sign_event("x", &key(x), &mut object, &rules.redaction).unwrap();
        object
    };
    let keys = public_keys(&["x"]);
    let empty = serde_json::to_string(&signed("m.x", 0)).unwrap().len();
    let most = MAX_PDU_BYTES - empty;
    open(signed("m.x", most), &keys, &rules).unwrap();
    for object in [signed("m.x", most + 1), signed(&"ä".repeat(128), 0)] {
        let error = open(object, &keys, &rules).unwrap_err();
        assert!(matches!(error, OpenError::TooLarge(_)), "{error}");
    }
}

#[test]
fn what_is_nested_too_deeply_is_dropped() {
    let rules = rules(&RoomVersionId::V11);
    let x = <&ServerName>::try_from("x").unwrap();
    let opened = |field: &str, lists: usize| {
        let mut object = object(json!({
            "type": "m.x", "sender": "@a:x", "room_id": "!room:x", "content": {},
            "depth": 1, "origin_server_ts": 1, "prev_events": [], "auth_events": [],
        }));
        let deep = (0..lists).fold(json!({}), |inside, _| json!([inside]));
        object.insert(field.to_owned(), serde_json::from_value(json!({ "a": deep })).unwrap());
        ruma::signatures::hash_and_sign_event("x", &key(x), &mut object, &rules.redaction).unwrap();
        open(object, &public_keys(&["x"]), &rules)
    };
    for field in ["content", "anything"] {
        // Beside the event, the field and what is innermost.
        opened(field, MAX_NESTING - 3).unwrap();
        let error = opened(field, MAX_NESTING - 2).unwrap_err();
        assert!(matches!(error, OpenError::Format(_)), "{error}");
    }
}

#[test]
fn what_is_too_long_only_in_bytes_is_kept_as_rejected_before_version_11() {
    let x = <&ServerName>::try_from("x").unwrap();
    let keys = public_keys(&["x"]);
    for version in VERSIONS {
        let rules = rules(&version);
        let opened = |kind: &str, state_key: &str| {
            let mut object = object(json!({
                "type": kind, "state_key": state_key, "sender": "@a:x", "room_id": "!room:x", "content": {},
                "depth": 1, "origin_server_ts": 1, "prev_events": [], "auth_events": [],
            }));
            ruma::signatures::hash_and_sign_event("x", &key(x), &mut object, &rules.redaction)
                .unwrap();
            (object.clone(), open(object, &keys, &rules))
        };
        let (fits, longer, too_long) = ("x".repeat(255), "ä".repeat(255), "ä".repeat(256));
        opened(&fits, &fits).1.unwrap();
        for (kind, state_key) in [("m.x", &*longer), (&*longer, ""), (&*longer, &*longer)] {
            let (object, opened) = opened(kind, state_key);
            let old = version.as_str().parse::<u8>().is_ok_and(|version| version < 11);
            match opened.unwrap_err() {
                OpenError::Rejected { event, why } if old => {
                    assert!(event.rejected());
                    assert!(why.contains("510 bytes"), "{why}");
                    assert_eq!(event.state_key(), Some(state_key));
                    assert_eq!(event.json(), serde_json::to_string(&object).unwrap());
                }
                OpenError::TooLarge(_) if !old => {}
                error => panic!("version {version}: {error:?}"),
            }
        }
        let error = opened("m.x", &too_long).1.unwrap_err();
        assert!(matches!(error, OpenError::TooLarge(_)), "version {version}: {error}");
    }
}

#[test]
fn versions_1_and_2_are_refused() {
    let object = sent(&message(&RoomVersionId::V3));
    for version in [RoomVersionId::V1, RoomVersionId::V2] {
        let error = open(object.clone(), &public_keys(&["x"]), &rules(&version)).unwrap_err();
        assert!(matches!(error, OpenError::Version(_)), "{error}");
    }
}
