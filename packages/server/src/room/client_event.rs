//! Events as clients are given them.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>

use std::{collections::HashMap, sync::Arc};

use matryx_core::membership::Membership;
use matryx_repository::{StoreError, StoredEvent};
use ruma::{
    DeviceId, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, TransactionId, UserId,
    events::TimelineEventType, room_version_rules::RoomVersionRules, serde::Raw,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Events, Sight};

/// For whom events are written out, and how.
#[derive(Debug, Clone, Copy)]
pub struct Viewer<'a> {
    /// Who asks.
    pub user: &'a UserId,
    /// On which device: it is told its own transaction ids.
    pub device: Option<&'a DeviceId>,
    /// What the user was at each line; without it `unsigned.membership` is left out.
    pub sight: Option<&'a Sight>,
    /// The time, for `unsigned.age`.
    pub now: MilliSecondsSinceUnixEpoch,
    /// Whether `room_id` stands in the event: everywhere but in /sync.
    pub with_room_id: bool,
}

#[derive(Serialize)]
struct ClientEvent<'a> {
    content: &'a RawValue,
    event_id: &'a EventId,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a RoomId>,
    sender: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a TimelineEventType,
    #[serde(skip_serializing_if = "Unsigned::is_empty")]
    unsigned: Unsigned<'a>,
}

#[derive(Default, Serialize)]
struct Unsigned<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_content: Option<&'a RawValue>,
    /// Not in the specification; clients and Complement look for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_sender: Option<&'a UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted_because: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces_state: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<&'a TransactionId>,
}

impl Unsigned<'_> {
    fn is_empty(&self) -> bool {
        self.age.is_none() && self.membership.is_none()
    }
}

impl Events {
    /// Writes events out for a client, in the order given.
    ///
    /// # Errors
    /// When the database fails: what an event replaced or was redacted by may have to be read.
    pub async fn for_client<'a, T>(
        &self,
        events: impl IntoIterator<Item = &'a StoredEvent> + Clone,
        rules: &RoomVersionRules,
        viewer: Viewer<'_>,
    ) -> Result<Vec<Raw<T>>, StoreError> {
        let beside: Vec<&EventId> = events
            .clone()
            .into_iter()
            .flat_map(|event| [&event.replaces, &event.redacted_by])
            .flatten()
            .map(|id| &**id)
            .collect();
        let beside = self.get_all(beside).await?;
        events
            .into_iter()
            .map(|event| {
                let json = write(event, &beside, rules, viewer, true).map_err(|error| {
                    StoreError::inconsistent("event", event.pdu.event_id(), error)
                })?;
                Ok(Raw::from_json(json))
            })
            .collect()
    }
}

fn write(
    event: &StoredEvent,
    beside: &HashMap<OwnedEventId, Arc<StoredEvent>>,
    rules: &RoomVersionRules,
    viewer: Viewer<'_>,
    whole: bool,
) -> serde_json::Result<Box<RawValue>> {
    let pdu = &event.pdu;
    let find = |id: &Option<OwnedEventId>| id.as_ref().and_then(|id| beside.get(id));
    let replaced = find(&event.replaces).map(|replaced| &replaced.pdu);
    let redaction = find(&event.redacted_by).filter(|_| whole);
    let ours = event
        .sent
        .as_ref()
        .filter(|sent| sent.user == viewer.user && Some(&*sent.device) == viewer.device);
    let membership = match (viewer.sight, event.n) {
        (Some(sight), Some(n)) => Some(sight.membership_at(n)),
        _ => None,
    };
    let unsigned = Unsigned {
        age: Some(u64::from(viewer.now.0).saturating_sub(u64::from(pdu.origin_server_ts().0))),
        membership: membership.map(Membership::as_str),
        prev_content: replaced.map(|pdu| pdu.content()),
        prev_sender: replaced.map(|pdu| &**pdu.sender()),
        redacted_because: redaction
            .map(|redaction| write(redaction, beside, rules, viewer, false))
            .transpose()?,
        replaces_state: event.replaces.as_deref(),
        transaction_id: ours.map(|sent| &*sent.transaction),
    };
    let redacts = pdu.redacts(rules);
    // What a redaction is about stands in its content since version 11. Clients of either kind find it in both places.
    let content = match redacts {
        Some(target) if event.redacted_by.is_none() => with_redacts(pdu.content(), target)?,
        _ => pdu.content().to_owned(),
    };
    to_raw_value(&ClientEvent {
        content: &content,
        event_id: pdu.event_id(),
        origin_server_ts: pdu.origin_server_ts(),
        redacts,
        room_id: viewer.with_room_id.then_some(pdu.room_id()),
        sender: pdu.sender(),
        state_key: pdu.state_key(),
        kind: pdu.kind(),
        unsigned,
    })
}

fn with_redacts(content: &RawValue, target: &EventId) -> serde_json::Result<Box<RawValue>> {
    let mut content: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(content.get())?;
    content.insert("redacts".to_owned(), target.as_str().into());
    to_raw_value(&content)
}
