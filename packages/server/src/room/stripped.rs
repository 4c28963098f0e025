//! Stripped state: what someone who is invited or knocks may see of a room.
//! <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>

use std::sync::Arc;

use matryx_core::{
    event::{MAX_PDU_BYTES, Pdu, event_id_of},
    room::StateKey,
};
use matryx_repository::StoreError;
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedUserId, RoomId, RoomVersionId, UserId,
    api::federation::membership::RawStrippedState, events::StateEventType,
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Look, Rooms, work::Work};

/// How many events of a stripped state that another server sends are looked at.
const MOST: usize = 100;
/// How large they may be together, in bytes: they are kept, and sent with each first /sync. One may be as large as an event.
const LARGEST: usize = 256 << 10;

/// The kinds that the specification lists, and the create event, which it requires since v1.16.
const KINDS: [StateEventType; 7] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomJoinRules,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
];

impl Rooms {
    /// The events that a server may see of a room that it is not in, because one of its users is invited or knocks; whole, as
    /// other servers are given them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shown_outside(&self, look: &Look) -> Result<Vec<Arc<Pdu>>, StoreError> {
        let keys = KINDS.map(|kind| StateKey::new(kind, ""));
        let mut events = self.events().state(look, &keys).await?;
        Ok(keys.iter().filter_map(|key| events.remove(key)).collect())
    }
}

/// What another server shows of a room, whole or stripped, as it came.
#[expect(deprecated, reason = "servers from before v1.16 send stripped events")]
#[must_use]
pub fn shown(state: RawStrippedState) -> Box<RawValue> {
    match state {
        RawStrippedState::Stripped(event) => event.into_json(),
        RawStrippedState::Pdu(pdu) => pdu,
        _ => RawValue::NULL.to_owned(),
    }
}

/// The keys that are shown to `user` when `sender` makes them invited or knocking.
pub(super) fn keys(user: &str, sender: &UserId) -> Vec<StateKey> {
    let mut keys: Vec<StateKey> = KINDS.into_iter().map(|kind| StateKey::new(kind, "")).collect();
    keys.push(StateKey::member(sender));
    if user != sender.as_str() {
        keys.push(StateKey::new(StateEventType::RoomMember, user));
    }
    keys
}

/// A JSON array of stripped events: the room's, the inviter's member event, and the invite or the knock itself last.
pub(super) fn for_clients(work: &Work, user: &UserId) -> String {
    let own = StateKey::member(user);
    let sender = work.event(&own).map(|event| event.sender().clone());
    let mut events: Vec<Value> = KINDS
        .into_iter()
        .filter_map(|kind| work.event(&StateKey::new(kind, "")))
        .map(|event| strip(event))
        .collect();
    if let Some(sender) = sender.filter(|sender| sender != user) {
        events.extend(work.event(&StateKey::member(&sender)).map(|event| strip(event)));
    }
    events.extend(work.event(&own).map(|event| strip(event)));
    Value::Array(events).to_string()
}

/// Type, state key, sender and content. The create event keeps its time as well: clients are shown when the room was
/// made, and Complement asks for it.
fn strip(event: &Pdu) -> Value {
    let mut stripped = json!({
        "type": event.kind().to_string(),
        "state_key": event.state_key().unwrap_or_default(),
        "sender": event.sender(),
        "content": event.content(),
    });
    if event.state_key() == Some("") && event.kind().to_string() == "m.room.create" {
        stripped["origin_server_ts"] = json!(event.origin_server_ts());
    }
    stripped
}

/// The stripped state that another server sends with an invite or gives to a knock, as clients are shown it, with the invite
/// or the knock itself last. What it sends are whole events, or events stripped already, and anything may stand in them:
/// only what clients are to see is passed on.
#[must_use]
pub fn from_elsewhere(sent: &[Box<RawValue>], own: &Pdu, version: &RoomVersionId) -> String {
    let own_key = own.key();
    let rules = version.rules();
    let mut left = LARGEST;
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut events: Vec<Value> = Vec::new();
    for raw in sent.iter().take(MOST) {
        let size = raw.get().len();
        if size > left.min(MAX_PDU_BYTES) {
            continue;
        }
        let Some(event) = prune(raw, own.room_id(), rules.as_ref()) else { continue };
        let part = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let key = (part("type"), part("state_key"));
        let is_own =
            own_key.as_ref().is_some_and(|own| own.kind.to_string() == key.0 && *own.key == *key.1);
        if !is_own && !seen.contains(&key) {
            left -= size;
            seen.push(key);
            events.push(event);
        }
    }
    events.push(strip(own));
    Value::Array(events).to_string()
}

/// An event of another server's stripped state, if it is one and is not of another room, as far as that shows.
fn prune(raw: &RawValue, room: &RoomId, rules: Option<&RoomVersionRules>) -> Option<Value> {
    #[derive(Deserialize)]
    struct Sent {
        #[serde(rename = "type")]
        kind: String,
        state_key: String,
        sender: OwnedUserId,
        content: serde_json::Map<String, Value>,
        room_id: Option<String>,
        origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    }
    let sent: Sent = serde_json::from_str(raw.get()).ok()?;
    if sent.room_id.is_some_and(|named| named != room.as_str()) {
        return None;
    }
    let is_create = sent.kind == "m.room.create" && sent.state_key.is_empty();
    if is_create && rules.is_some_and(|rules| !may_create(raw, room, rules)) {
        return None;
    }
    let mut event = json!({
        "type": sent.kind,
        "state_key": sent.state_key,
        "sender": sent.sender,
        "content": sent.content,
    });
    if is_create && let Some(time) = sent.origin_server_ts {
        event["origin_server_ts"] = json!(time);
    }
    Some(event)
}

/// Whether an event can be the room's create event. Since version 12 the room's id is that event's hash.
fn may_create(raw: &RawValue, room: &RoomId, rules: &RoomVersionRules) -> bool {
    if !rules.authorization.room_create_event_id_as_room_id {
        return true;
    }
    let Ok(mut object) = serde_json::from_str::<CanonicalJsonObject>(raw.get()) else {
        return false;
    };
    object.remove("unsigned");
    event_id_of(&object, rules).is_ok_and(|id| id.as_str().get(1..) == room.as_str().get(1..))
}

/// The keys whose events an append needs beside the law: those of the stripped state it writes.
pub(super) fn needed(look: &Look, pdu: &Pdu) -> Vec<StateKey> {
    use matryx_core::membership::Membership;
    match (pdu.membership(), pdu.state_key()) {
        (Some(Membership::Invited | Membership::Knocking), Some(user)) => {
            keys(user, pdu.sender()).into_iter().filter(|key| look.entry(key).is_some()).collect()
        }
        _ => Vec::new(),
    }
}
