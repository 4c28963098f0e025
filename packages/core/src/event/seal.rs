//! From a draft to an event of ours.

use std::fmt::Display;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, OwnedEventId, ServerName,
    events::TimelineEventType,
    room_version_rules::RoomVersionRules,
    signatures::{JsonError, hash_and_sign_event, reference_hash},
};

use super::{
    Draft, Pdu, Place, SigningKey,
    limits::{Fault, MAX_PDU_BYTES, check_fields, check_size, check_version},
};
use crate::refusal::{Refusal, RefusalKind};

/// Hashes, signs and names a draft.
///
/// # Errors
///
/// [`RefusalKind::TooLarge`] when the event or a field of it is larger than allowed, [`RefusalKind::BadJson`] when its
/// place is not one that an event can have, [`RefusalKind::UnsupportedRoomVersion`] for room versions 1 and 2.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#signing-events>
pub fn seal(
    draft: Draft,
    place: Place,
    server: &ServerName,
    key: &SigningKey,
    rules: &RoomVersionRules,
) -> Result<Pdu, Refusal> {
    check_version(rules)?;
    check_room_id(&draft, &place, rules)?;
    let mut object = lay_out(draft, place, rules);
    check_fields(&mut object, &rules.event_format)?;

    hash_and_sign_event(server.as_str(), key, &mut object, &rules.redaction).map_err(
        |error| match error {
            // Already without hashes and signatures.
            JsonError::PduTooLarge => Fault::TooLarge(format!(
                "The event has more than {MAX_PDU_BYTES} bytes as canonical JSON, which is the most that is allowed."
            ))
            .into(),
            error => malformed(&error),
        },
    )?;
    let event_id = event_id_of(&object, rules).map_err(|error| malformed(&error))?;
    let text = serde_json::to_string(&object).map_err(|error| malformed(&error))?;
    check_size(&text)?;
    Pdu::read(event_id, None, text, false).map_err(|error| malformed(&error))
}

/// The event's id: its reference hash.
///
/// # Errors
///
/// When it has not the form of an event.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event>
pub fn event_id_of(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<OwnedEventId, String> {
    let hash = reference_hash(object, rules).map_err(|error| error.to_string())?;
    OwnedEventId::try_from(format!("${hash}")).map_err(|error| error.to_string())
}

/// Since version 12 a create event has no room id, because the room is named after it; everything else has one.
fn check_room_id(draft: &Draft, place: &Place, rules: &RoomVersionRules) -> Result<(), Refusal> {
    let expected = draft.kind != TimelineEventType::RoomCreate
        || rules.event_format.require_room_create_room_id;
    if place.room_id.is_some() == expected {
        return Ok(());
    }
    let sentence = if expected {
        "An event needs a room id."
    } else {
        "In this room version the create event has no room id: the room is named after it."
    };
    Err(Refusal::new(RefusalKind::BadJson, sentence))
}

fn lay_out(draft: Draft, place: Place, rules: &RoomVersionRules) -> CanonicalJsonObject {
    let ids = |ids: Vec<OwnedEventId>| {
        CanonicalJsonValue::Array(ids.iter().map(|id| text(id.as_str())).collect())
    };
    let mut content = draft.content;
    let mut object = CanonicalJsonObject::new();
    let mut put = |field: &str, value| object.insert(field.to_owned(), value);

    if let Some(redacts) = draft.redacts {
        if rules.redaction.content_field_redacts {
            content.insert("redacts".to_owned(), text(redacts.as_str()));
        } else {
            put("redacts", text(redacts.as_str()));
        }
    }
    if let Some(room_id) = place.room_id {
        put("room_id", text(room_id.as_str()));
    }
    if let Some(state_key) = draft.state_key {
        put("state_key", CanonicalJsonValue::String(state_key));
    }
    put("type", text(&draft.kind.to_string()));
    put("sender", text(draft.sender.as_str()));
    put("content", CanonicalJsonValue::Object(content));
    put("prev_events", ids(place.prev_events));
    put("auth_events", ids(place.auth_events));
    // The specification lets the depth stay at its maximum once it is reached.
    put("depth", CanonicalJsonValue::Integer(Int::try_from(place.depth).unwrap_or(Int::MAX)));
    put("origin_server_ts", CanonicalJsonValue::Integer(place.origin_server_ts.get().into()));
    object
}

fn text(value: &str) -> CanonicalJsonValue {
    CanonicalJsonValue::String(value.to_owned())
}

fn malformed(error: &impl Display) -> Refusal {
    Refusal::new(RefusalKind::BadJson, format!("The event cannot be made: {error}"))
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::TooLarge(_) => RefusalKind::TooLarge,
            Fault::Malformed(_) => RefusalKind::BadJson,
            Fault::Version(_) => RefusalKind::UnsupportedRoomVersion,
        };
        Self::new(kind, fault.to_string())
    }
}
