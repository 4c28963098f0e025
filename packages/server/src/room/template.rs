//! Templates: what an event would be if it were said now, for another server to finish and to seal.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use imbl::HashMap;
use matryx_core::{
    event::Draft,
    refusal::{Refusal, RefusalKind},
    room::{StateKey, auth_keys},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int, OwnedEventId};
use serde_json::value::to_raw_value;

use super::{Desk, Room, Rooms, SendError};

impl Rooms {
    /// What `decide` comes to in the room as it is, as a template. Nothing is written.
    ///
    /// # Errors
    /// The rule that forbids it, or that the database fails.
    pub async fn template(
        &self,
        room: &Room,
        needs: &[StateKey],
        decide: impl Fn(&Desk<'_>) -> Result<Draft, Refusal>,
    ) -> Result<CanonicalJsonObject, SendError> {
        let look = room.look();
        let events: HashMap<_, _> = self.events().state(&look, needs).await?.into_iter().collect();
        let draft = decide(&Desk { look: &look, events: &events })?;
        let bad = |why: &str| Refusal::new(RefusalKind::BadJson, why.to_owned());
        let content = to_raw_value(&draft.content).map_err(|error| bad(&error.to_string()))?;
        let state_key = draft.state_key.as_deref();
        let keys = auth_keys(&draft.kind, &draft.sender, state_key, &content, &look.rules)
            .map_err(|why| bad(&why))?;
        let auth_events = keys.iter().filter_map(|key| Some(look.entry(key)?.event_id.clone()));
        let (prev_events, depth) = look.prev_events();

        let mut object = CanonicalJsonObject::new();
        let mut put = |field: &str, value: CanonicalJsonValue| {
            object.insert(field.to_owned(), value);
        };
        put("room_id", text(look.room_id.as_str()));
        put("type", text(&draft.kind.to_string()));
        put("sender", text(draft.sender.as_str()));
        if let Some(state_key) = state_key {
            put("state_key", text(state_key));
        }
        put("content", CanonicalJsonValue::Object(draft.content.clone()));
        put("auth_events", ids(auth_events));
        put("prev_events", ids(prev_events.into_iter()));
        let depth = depth.try_into().unwrap_or(Int::MAX);
        put("depth", CanonicalJsonValue::Integer(depth));
        put("origin_server_ts", CanonicalJsonValue::Integer(self.clock().now().get().into()));
        // Of the template only: it says who made it.
        put("origin", text(self.server_name().as_str()));
        Ok(object)
    }
}

fn text(value: &str) -> CanonicalJsonValue {
    CanonicalJsonValue::String(value.to_owned())
}

fn ids(ids: impl Iterator<Item = OwnedEventId>) -> CanonicalJsonValue {
    CanonicalJsonValue::Array(ids.map(|id| text(id.as_str())).collect())
}
