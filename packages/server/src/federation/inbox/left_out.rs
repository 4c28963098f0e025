//! What stood in a room's state when one of us joined it, and was left out because the key of whoever sent it could not be had.
//! A note of it waits beside the events that wait; when the key can be had, it is asked for and comes into the state.

use std::collections::BTreeMap;

use matryx_core::room::StateMap;
use matryx_repository::Before;
use ruma::{
    EventId, OwnedEventId, OwnedServerName, OwnedUserId, RoomId,
    room_version_rules::RoomVersionRules,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    fetch::Search,
    opened::{Opened, name_of, open_all},
    waiting::Tried,
};
use crate::{app::App, room::SendError};

/// How many events of one key a note names. What stands in the state and in no note comes with them.
const MOST: usize = 500;

/// How many keys are waited for.
const KEYS: usize = 100;

/// What is left out of a state, by the key that it needs.
#[derive(Debug, Default)]
pub struct LeftOut(BTreeMap<(OwnedServerName, String), Part>);

#[derive(Debug)]
struct Part {
    first: Box<RawValue>,
    events: Vec<OwnedEventId>,
}

/// What is kept of a part. It is no event, so that nobody can send us one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// The join before which it stood.
    left_out_before: OwnedEventId,
    /// One of the events: it shows when the key can be had.
    first: Box<RawValue>,
    /// All of them.
    events: Vec<OwnedEventId>,
}

impl LeftOut {
    /// Adds an event that could not be verified.
    pub fn add(&mut self, text: &RawValue, rules: &RoomVersionRules) {
        #[derive(Deserialize)]
        struct Signed {
            sender: OwnedUserId,
            signatures: BTreeMap<OwnedServerName, BTreeMap<String, String>>,
        }
        let Ok(mut signed) = serde_json::from_str::<Signed>(text.get()) else { return };
        let server = signed.sender.server_name().to_owned();
        let keys = signed.signatures.remove(&server).unwrap_or_default();
        let Some((id, (key, _))) = name_of(text, rules).zip(keys.into_iter().next()) else {
            return;
        };
        let place = (server, key);
        if let Some(part) = self.0.get_mut(&place) {
            if part.events.len() < MOST {
                part.events.push(id);
            }
        } else if self.0.len() < KEYS {
            self.0.insert(place, Part { first: text.to_owned(), events: vec![id] });
        }
    }

    /// Keeps what is needed to bring it into the state before this join later: durable when it returns.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep(self, app: &App, room: &RoomId, join: &EventId) -> Result<(), SendError> {
        for ((server, _), Part { first, events }) in self.0 {
            let note = Note { left_out_before: join.to_owned(), first, events };
            let Ok(text) = serde_json::to_string(&note) else { continue };
            let way = (room.to_owned(), server);
            app.federation.inbox().0.waiting.note(app, &way, &text).await?;
        }
        Ok(())
    }
}

impl Note {
    pub(super) fn read(text: &RawValue) -> Option<Self> {
        serde_json::from_str(text.get()).ok()
    }
}

/// Brings what a note tells of into the room's state, if the key can be had now.
///
/// # Errors
/// When the database fails.
pub(super) async fn bring(search: &Search<'_>, note: Note) -> Result<Tried, SendError> {
    let Search { app, room, .. } = search;
    let join = app.rooms.events().get(&note.left_out_before).await?;
    if join.is_none_or(|join| join.before == Before::Unknown) {
        // It has come to nothing.
        return Ok(Tried::Done);
    }
    let rules = room.look().rules.clone();
    match open_all(app, &room.id, vec![note.first], &rules).await.pop() {
        Some(Opened::Event(_)) => {}
        Some(Opened::Early(..)) => return Ok(Tried::Missing(Vec::new())),
        Some(Opened::Unfit(..)) | None => return Ok(Tried::Done),
    }
    let all = note.events.len();
    let before = search.unknown(note.events.iter().cloned()).await?;
    search.learn(before).await?;
    let missing: Vec<OwnedEventId> = search.unknown(note.events).await?.into_iter().collect();
    if missing.len() == all {
        return Ok(Tried::Missing(missing));
    }
    let Some(state) = search.state_before(&note.left_out_before).await? else {
        return Ok(Tried::Missing(missing));
    };
    let look = room.look();
    let lacks = |entry: &(_, _)| look.entry(&entry.0).is_none();
    let state: StateMap = state.into_iter().filter(lacks).collect();
    match app.rooms.amend(&room.id, state).await {
        Ok(()) if missing.is_empty() => Ok(Tried::Done),
        Ok(()) => Ok(Tried::Missing(missing)),
        Err(SendError::Refused(refusal)) => {
            tracing::info!(%refusal, room = %room.id, "inbox.left_out");
            Ok(Tried::Missing(missing))
        }
        Err(error) => Err(error),
    }
}
