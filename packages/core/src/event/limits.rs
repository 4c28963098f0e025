//! How an event must be formed and how large it may be.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#size-limits>

use std::mem;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue,
    room_version_rules::{EventFormatRules, EventsReferenceFormatVersion, RoomVersionRules},
    state_res::check_pdu_format,
};

/// The size of a whole event in bytes: canonical JSON, signatures included.
pub const MAX_PDU_BYTES: usize = 65_536;
/// The size of `sender`, `room_id`, `event_id`, `type` and `state_key` in bytes.
pub const MAX_FIELD_BYTES: usize = 255;
/// How many events one may follow.
pub const MAX_PREV_EVENTS: usize = 20;
/// How many events one may name as what allows it.
pub const MAX_AUTH_EVENTS: usize = 10;
/// How many objects and lists may stand inside of one another, the event itself among them.
///
/// The specification says nothing; parsers have limits, for many 127 or 128 with whatever an event is wrapped in on its
/// way. What a server cannot read holds up everything behind it.
pub const MAX_NESTING: usize = 120;

/// What is wrong with an event's form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It, or a field of it, is too large.
    #[error("{0}")]
    TooLarge(String),
    /// A field is missing or has the wrong type.
    #[error("{0}")]
    Malformed(String),
    /// Events of this room version cannot be handled.
    #[error("{0}")]
    Version(String),
}

/// Can events of this room version be handled at all?
pub(super) fn check_version(rules: &RoomVersionRules) -> Result<(), Fault> {
    if rules.events_reference_format == EventsReferenceFormatVersion::V1 {
        return Err(Fault::Version("Room versions 1 and 2 are not supported here.".to_owned()));
    }
    Ok(())
}

/// Checks the fields of an event, its content excepted. Size limits that `ruma` words less helpfully come first.
pub(super) fn check_fields(
    object: &mut CanonicalJsonObject,
    rules: &EventFormatRules,
) -> Result<(), Fault> {
    for field in ["sender", "room_id", "event_id", "type", "state_key"] {
        if let Some(CanonicalJsonValue::String(value)) = object.get(field)
            && value.len() > MAX_FIELD_BYTES
        {
            return Err(Fault::TooLarge(too_long(field, value)));
        }
    }
    for (field, most) in [("prev_events", MAX_PREV_EVENTS), ("auth_events", MAX_AUTH_EVENTS)] {
        if let Some(CanonicalJsonValue::Array(items)) = object.get(field)
            && items.len() > most
        {
            return Err(Fault::Malformed(format!(
                "`{field}` names {} events; at most {most} are allowed.",
                items.len()
            )));
        }
    }
    if object.values().any(|value| is_deeper(value, MAX_NESTING - 1)) {
        return Err(Fault::Malformed(format!(
            "The event has more than {MAX_NESTING} objects and lists inside of one another."
        )));
    }
    // ruma weighs the whole event too, and one byte too strictly (65,535). It looks at nothing in the content: without
    // it, its scales cannot tip before ours.
    let Some(content @ CanonicalJsonValue::Object(_)) = object.remove("content") else {
        return Err(Fault::Malformed("`content` must be an object.".to_owned()));
    };
    let verdict = check_pdu_format(object, rules).map_err(Fault::Malformed);
    object.insert("content".to_owned(), content);
    verdict
}

/// Checks the fields of somebody else's event, its content excepted; gives the reason to reject it if there is one.
///
/// The limits are bytes. Before room version 11 most servers have counted characters: what is too long only in bytes has
/// its place in such rooms, and the events that follow it would be lost with it. It is kept, and rejected.
pub(super) fn check_received(
    object: &mut CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<Option<String>, Fault> {
    // Nothing in the rules says so; this one came with the same version.
    let in_bytes = rules.redaction.content_field_redacts;
    let (mut why, mut long) = (None, Vec::new());
    for field in ["type", "state_key"] {
        if let Some(CanonicalJsonValue::String(value)) = object.get_mut(field)
            && !in_bytes
            && value.len() > MAX_FIELD_BYTES
            && value.chars().count() <= MAX_FIELD_BYTES
        {
            why = Some(too_long(field, value));
            long.push((field, mem::take(value)));
        }
    }
    let verdict = check_fields(object, &rules.event_format);
    for (field, value) in long {
        object.insert(field.to_owned(), CanonicalJsonValue::String(value));
    }
    verdict.map(|()| why)
}

/// Whether more than `most` objects and lists stand inside of one another.
fn is_deeper(value: &CanonicalJsonValue, most: usize) -> bool {
    let inside = |value| is_deeper(value, most - 1);
    match value {
        CanonicalJsonValue::Array(items) => most == 0 || items.iter().any(inside),
        CanonicalJsonValue::Object(fields) => most == 0 || fields.values().any(inside),
        _ => false,
    }
}

fn too_long(field: &str, value: &str) -> String {
    format!("`{field}` has {} bytes; at most {MAX_FIELD_BYTES} are allowed.", value.len())
}

/// Checks the size of an event's canonical text, signatures included.
pub(super) fn check_size(text: &str) -> Result<(), Fault> {
    if text.len() > MAX_PDU_BYTES {
        return Err(Fault::TooLarge(format!(
            "The event has {} bytes as canonical JSON; at most {MAX_PDU_BYTES} are allowed.",
            text.len()
        )));
    }
    Ok(())
}
