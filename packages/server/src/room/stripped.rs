//! Stripped state: what someone who is invited or knocks may see of a room.
//! <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>

use std::sync::Arc;

use matryx_core::{event::Pdu, room::StateKey};
use matryx_repository::StoreError;
use ruma::{UserId, events::StateEventType};
use serde_json::{Value, json};

use super::{Look, Rooms, work::Work};

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
        .map(strip)
        .collect();
    if let Some(sender) = sender.filter(|sender| sender != user) {
        events.extend(work.event(&StateKey::member(&sender)).map(strip));
    }
    events.extend(work.event(&own).map(strip));
    Value::Array(events).to_string()
}

/// Type, state key, sender and content. The create event keeps its time as well: clients are shown when the room was
/// made, and Complement asks for it.
fn strip(event: &Arc<Pdu>) -> Value {
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
