//! The law: may this event be in this room?
//!
//! The rules are ruma's. This names their steps as the specification numbers them.
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use std::sync::Arc;

use ruma::{
    EventId, OwnedEventId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    state_res::{
        auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules,
    },
};
use serde_json::value::RawValue;

use super::StateKey;
use crate::event::Pdu;

/// What becomes of an event whose form and signatures are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is part of the room.
    Accepted,
    /// It was allowed where it stands but is not any more: kept, named by later events, shown to nobody.
    SoftFailed(String),
    /// It was never allowed: kept, so that it need not be judged again, and never part of the room.
    Rejected(String),
}

/// The keys of the state that decides about an event: what its `auth_events` must name.
///
/// Never the create event where the room's id is that event's hash (since version 12).
///
/// # Errors
///
/// When it is a member event without a state key or with a malformed content.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>
pub fn auth_keys(
    kind: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
    rules: &RoomVersionRules,
) -> Result<Vec<StateKey>, String> {
    let keys = auth_types_for_event(kind, sender, state_key, content, &rules.authorization)?;
    Ok(keys.into_iter().map(|(kind, key)| StateKey::new(kind, key)).collect())
}

/// Step 4: is the event allowed by the events that it names itself?
///
/// `fetch` finds events that were received, the rejected included. On `Err` the event is rejected; where one of the
/// events is missing that need not be final.
///
/// # Errors
///
/// The rule that it breaks.
pub fn judge_by_auth_events(
    pdu: &Arc<Pdu>,
    rules: &RoomVersionRules,
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), String> {
    check_state_independent_auth_rules(&rules.authorization, pdu, fetch)?;
    let named: Vec<Arc<Pdu>> = pdu.auth_events().iter().filter_map(|id| fetch(id)).collect();
    judge_by_state(pdu, rules, &|kind, key| {
        if *kind == StateEventType::RoomCreate
            && rules.authorization.room_create_event_id_as_room_id
        {
            return fetch(&create_event_id(pdu)?);
        }
        let kind = TimelineEventType::from(kind.clone());
        named.iter().find(|event| *event.kind() == kind && event.state_key() == Some(key)).cloned()
    })
}

/// Steps 5 and 6: is the event allowed by this state?
///
/// By the state before it (else it is rejected) and by the room's current state (else it has soft-failed). `state`
/// also answers for the create event, in every room version.
///
/// # Errors
///
/// The rule that it breaks.
pub fn judge_by_state(
    pdu: &Arc<Pdu>,
    rules: &RoomVersionRules,
    state: &impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>>,
) -> Result<(), String> {
    check_state_dependent_auth_rules(&rules.authorization, pdu, state)
}

/// Since version 12 a room's id is the create event's id with another sigil.
fn create_event_id(pdu: &Pdu) -> Option<OwnedEventId> {
    EventId::parse(format!("${}", pdu.room_id().strip_sigil())).ok()
}
