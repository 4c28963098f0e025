//! From drafts to events: what is in them, how large they may be, what survives a redaction.

use matryx_core::{
    event::{MAX_NESTING, MAX_PDU_BYTES, Pdu, Place},
    membership::Membership,
    refusal::RefusalKind,
    room::StateKey,
};
use ruma::{
    CanonicalJsonObject, OwnedEventId, RoomVersionId, UInt, events::TimelineEventType,
    signatures::verify_event,
};
use serde_json::{Value, json};

use crate::world::{VERSIONS, draft, event_id, place, public_keys, rules, sealed, user};

fn message(body: &str) -> matryx_core::event::Draft {
    draft("@a:x", "m.room.message", None, json!({"body": body}))
}

fn text_of(pdu: &Pdu) -> Value {
    serde_json::from_str(pdu.json()).unwrap()
}

#[test]
fn a_sealed_event_is_what_was_drafted() {
    for version in VERSIONS {
        let content = json!({"membership": "join", "reason": "ä \"quoted\"", "nested": {"z": 1, "a": [null, true]}});
        let pdu = sealed(
            draft("@a:x", "m.room.member", Some("@a:x"), content.clone()),
            place(),
            &version,
        )
        .unwrap();

        assert_eq!(pdu.room_id(), "!room:x");
        assert_eq!(*pdu.sender(), user("@a:x"));
        assert_eq!(*pdu.kind(), TimelineEventType::RoomMember);
        assert_eq!(pdu.state_key(), Some("@a:x"));
        assert_eq!(pdu.key(), Some(StateKey::member(&user("@a:x"))));
        assert_eq!(pdu.membership(), Some(Membership::Joined));
        assert_eq!(pdu.content_as::<Value>().unwrap(), content);
        assert_eq!(pdu.origin_server_ts().get(), UInt::from(1_000_u32));
        assert_eq!(pdu.depth(), 7);
        assert_eq!(pdu.prev_events(), [event_id("prev")]);
        assert_eq!(pdu.auth_events(), [event_id("auth")]);
        assert!(!pdu.rejected());

        // The text is canonical, and what was signed.
        let object: CanonicalJsonObject = serde_json::from_str(pdu.json()).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), pdu.json());
        verify_event(&public_keys(&["x"]), &object, &rules(&version)).unwrap();
        assert!(object.contains_key("hashes") && !object.contains_key("unsigned"));
        assert!(pdu.json().contains(pdu.content().get()));
    }
}

#[test]
fn an_event_is_named_by_its_hash() {
    let one = sealed(message("one"), place(), &RoomVersionId::V11).unwrap();
    let same = sealed(message("one"), place(), &RoomVersionId::V11).unwrap();
    let other = sealed(message("two"), place(), &RoomVersionId::V11).unwrap();
    assert_eq!(one, same);
    assert_ne!(one.event_id(), other.event_id());
    assert_eq!(one.event_id().as_str().len(), 44);
    assert!(one.membership().is_none() && one.key().is_none() && one.state_key().is_none());
    // Version 3 used the alphabet that does not go into a path; later ones do not.
    let named = |version| {
        (0..40)
            .map(|number| sealed(message(&number.to_string()), place(), version).unwrap())
            .any(|pdu| pdu.event_id().as_str().contains(['/', '+']))
    };
    assert!(named(&RoomVersionId::V3) && !named(&RoomVersionId::V4));
}

#[test]
fn a_room_of_version_12_is_named_after_its_create_event() {
    let create = || draft("@a:x", "m.room.create", Some(""), json!({"room_version": "12"}));
    let first = || Place { room_id: None, prev_events: vec![], auth_events: vec![], ..place() };
    let pdu = sealed(create(), first(), &RoomVersionId::V12).unwrap();
    assert_eq!(pdu.room_id().as_str()[1..], pdu.event_id().as_str()[1..]);
    assert!(text_of(&pdu).get("room_id").is_none());

    let refused = |version: &RoomVersionId, draft, place: Place| {
        let refusal = sealed(draft, place, version).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::BadJson, "{refusal}");
    };
    refused(&RoomVersionId::V12, create(), place());
    refused(&RoomVersionId::V11, create(), first());
    refused(&RoomVersionId::V12, message("nowhere"), first());
}

#[test]
fn a_redaction_names_its_target_where_the_version_looks() {
    for version in VERSIONS {
        let rules = rules(&version);
        let target: OwnedEventId = event_id("target");
        let mut redaction = draft("@a:x", "m.room.redaction", None, json!({"reason": "why"}));
        redaction.redacts = Some(target.clone());
        let pdu = sealed(redaction, place(), &version).unwrap();
        let text = text_of(&pdu);
        let in_content = rules.redaction.content_field_redacts;
        assert_eq!(text["content"].get("redacts").is_some(), in_content);
        assert_eq!(text.get("redacts").is_some(), !in_content);
        assert_eq!(pdu.redacts(&rules), Some(&*target));

        // In the other place it says nothing.
        let mut elsewhere = draft("@a:x", "m.room.redaction", None, json!({"redacts": "$target"}));
        elsewhere.redacts = None;
        let pdu = sealed(elsewhere, place(), &version).unwrap();
        assert_eq!(pdu.redacts(&rules).is_some(), in_content);
    }
    let plain = draft("@a:x", "m.room.message", None, json!({"redacts": "$target"}));
    let plain = sealed(plain, place(), &RoomVersionId::V12).unwrap();
    assert_eq!(plain.redacts(&rules(&RoomVersionId::V12)), None);
}

#[test]
fn an_event_may_have_65536_bytes_and_no_more() {
    let version = RoomVersionId::V12;
    let empty = sealed(message(""), place(), &version).unwrap().json().len();
    let full = "x".repeat(MAX_PDU_BYTES - empty);
    let pdu = sealed(message(&full), place(), &version).unwrap();
    assert_eq!(pdu.json().len(), MAX_PDU_BYTES);
    let refusal = sealed(message(&format!("{full}x")), place(), &version).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::TooLarge);
    assert_eq!(
        refusal.sentence,
        "The event has 65537 bytes as canonical JSON; at most 65536 are allowed."
    );
    let refusal = sealed(message(&"x".repeat(100_000)), place(), &version).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::TooLarge);
}

#[test]
fn an_event_may_have_120_objects_and_lists_inside_of_one_another() {
    let seal = |lists: usize| {
        let deep = (0..lists).fold(json!(1), |inside, _| json!([inside]));
        sealed(draft("@a:x", "m.x", None, json!({ "a": deep })), place(), &RoomVersionId::V12)
    };
    // Beside the event and its content.
    let pdu = seal(MAX_NESTING - 2).unwrap();
    assert!(pdu.json().contains(&"[".repeat(118)));
    let refusal = seal(MAX_NESTING - 1).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::BadJson);
    assert_eq!(
        refusal.sentence,
        "The event has more than 120 objects and lists inside of one another."
    );
}

#[test]
fn fields_may_have_255_bytes_and_no_more() {
    let version = RoomVersionId::V11;
    // Bytes, not letters: each of these has two.
    let fits = "ä".repeat(127) + "x";
    let long = "ä".repeat(128);
    for (kind, state_key, field) in
        [("m.x", &*long, "state_key"), (&*long, "", "type"), (&*long, &*long, "type")]
    {
        let refusal =
            sealed(draft("@a:x", kind, Some(state_key), json!({})), place(), &version).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::TooLarge);
        assert_eq!(refusal.sentence, format!("`{field}` has 256 bytes; at most 255 are allowed."));
    }
    sealed(draft("@a:x", &fits, Some(&fits), json!({})), place(), &version).unwrap();
}

#[test]
fn an_event_follows_20_events_at_most_and_names_10_that_allow_it() {
    let version = RoomVersionId::V12;
    let ids = |count: usize| -> Vec<_> { (0..count).map(|n| event_id(&n.to_string())).collect() };
    let at = |prev, auth| Place { prev_events: ids(prev), auth_events: ids(auth), ..place() };
    sealed(message("x"), at(20, 10), &version).unwrap();
    for (place, field) in [(at(21, 10), "prev_events"), (at(20, 11), "auth_events")] {
        let refusal = sealed(message("x"), place, &version).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::BadJson);
        assert!(refusal.sentence.contains(field), "{refusal}");
    }
    // Version 12 forbids to name the create event.
    let naming = Place {
        room_id: Some("!0".try_into().unwrap()),
        auth_events: vec![event_id("0")],
        ..place()
    };
    let refusal = sealed(message("x"), naming, &version).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::BadJson);
}

#[test]
fn the_depth_stays_at_its_maximum() {
    let pdu =
        sealed(message("x"), Place { depth: u64::MAX, ..place() }, &RoomVersionId::V12).unwrap();
    assert_eq!(pdu.depth(), (1 << 53) - 1);
}

#[test]
fn versions_1_and_2_are_refused() {
    for version in [RoomVersionId::V1, RoomVersionId::V2] {
        let refusal = sealed(message("x"), place(), &version).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::UnsupportedRoomVersion);
    }
}

#[test]
fn the_store_gives_back_what_it_was_given() {
    let version = RoomVersionId::V12;
    let create = draft("@a:x", "m.room.create", Some(""), json!({}));
    let first = Place { room_id: None, prev_events: vec![], auth_events: vec![], ..place() };
    for pdu in
        [sealed(create, first, &version).unwrap(), sealed(message("x"), place(), &version).unwrap()]
    {
        let restore = |rejected| {
            Pdu::restore(pdu.event_id().clone(), pdu.room_id().to_owned(), pdu.json(), rejected)
                .unwrap()
        };
        let again = restore(false);
        assert_eq!(again, pdu);
        assert_eq!(again.room_id(), pdu.room_id());
        assert_eq!(again.content().get(), pdu.content().get());
        assert!(restore(true).rejected());
        assert_eq!(restore(true), pdu.clone().into_rejected());
    }
    Pdu::restore(event_id("x"), "!room:x".try_into().unwrap(), "{}", false).unwrap_err();
}

#[test]
fn a_redacted_event_keeps_its_name_and_its_signatures() {
    for version in VERSIONS {
        let rules = rules(&version);
        let content = json!({"membership": "join", "displayname": "Ada", "reason": "why"});
        let pdu = sealed(draft("@a:x", "m.room.member", Some("@a:x"), content), place(), &version)
            .unwrap();
        let redacted = pdu.redact(&rules).unwrap();
        assert_eq!(redacted.content().get(), r#"{"membership":"join"}"#);
        assert_eq!(redacted.event_id(), pdu.event_id());
        assert_eq!(redacted.room_id(), pdu.room_id());
        assert_eq!(redacted.membership(), Some(Membership::Joined));
        assert_eq!(text_of(&redacted)["signatures"], text_of(&pdu)["signatures"]);
        let object = serde_json::from_str(redacted.json()).unwrap();
        verify_event(&public_keys(&["x"]), &object, &rules).unwrap();
        assert_eq!(redacted.redact(&rules).unwrap(), redacted);
        // What was rejected stays rejected.
        assert!(pdu.into_rejected().redact(&rules).unwrap().rejected());
    }
}

#[test]
fn a_member_event_of_somebody_careless_is_still_an_event() {
    let version = RoomVersionId::V12;
    let member = |content: Value| {
        sealed(draft("@a:x", "m.room.member", Some("@a:x"), content), place(), &version).unwrap()
    };
    assert_eq!(member(json!({"membership": "knock"})).membership(), Some(Membership::Knocking));
    assert_eq!(member(json!({"membership": "dance"})).membership(), None);
    assert_eq!(member(json!({"membership": 5})).membership(), None);
    assert_eq!(member(json!({})).membership(), None);
    let named = json!({"membership": "join", "displayname": 5});
    assert_eq!(member(named).membership(), Some(Membership::Joined));
    assert!(member(json!({})).content_as::<Vec<u8>>().is_err());
}
