//! The aliases that a room calls its own must lead to it.
//! <https://spec.matrix.org/v1.19/client-server-api/#mroomcanonical_alias>

use matryx_core::{
    event::Pdu,
    refusal::{Refusal, RefusalKind},
    room::StateKey,
};
use matryx_repository::Database;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue as Value, OwnedRoomAliasId, OwnedRoomId, OwnedUserId,
    RoomAliasId, RoomId,
    events::{StateEventType, TimelineEventType},
};

use super::{Intent, Proposal, Rooms, Saying, SendError};

/// An alias and the room that it leads to, as far as this server knows.
pub(super) type Lead = (OwnedRoomAliasId, Option<OwnedRoomId>);

impl Rooms {
    /// Takes an alias that leads nowhere any more out of those that a room calls its own.
    ///
    /// # Errors
    /// A refusal if the user may not do that; or why the server could not.
    pub async fn disown_alias(
        &self,
        room: &RoomId,
        sender: OwnedUserId,
        alias: OwnedRoomAliasId,
    ) -> Result<(), SendError> {
        let key = StateKey::new(StateEventType::RoomCanonicalAlias, "");
        let held = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        if held.look().entry(&key).is_none() {
            return Ok(());
        }
        let intent = Intent::new(vec![key.clone()], move |desk| {
            let standing = desk.event(&key).ok_or_else(|| {
                Refusal::new(RefusalKind::NotFound, "The room has no canonical alias.")
            })?;
            let Some(content) = without(standing, &alias) else {
                return Ok(Proposal::Unchanged(standing.event_id().clone()));
            };
            let kind = TimelineEventType::RoomCanonicalAlias;
            let state_key = Some(String::new());
            let saying = Saying { sender: sender.clone(), kind, state_key, content };
            saying.may(desk)?;
            Ok(Proposal::say(saying.draft()))
        });
        self.send(room, intent).await?;
        Ok(())
    }
}

/// The content of a canonical alias without this alias; `None` if it does not name it.
fn without(standing: &Pdu, alias: &RoomAliasId) -> Option<CanonicalJsonObject> {
    let mut content: CanonicalJsonObject = standing.content_as().ok()?;
    let before = content.clone();
    let is_it = |value: &Value| value.as_str() == Some(alias.as_str());
    if content.get("alias").is_some_and(is_it) {
        content.remove("alias");
    }
    if let Some(Value::Array(others)) = content.get_mut("alt_aliases") {
        others.retain(|other| !is_it(other));
        if others.is_empty() {
            content.remove("alt_aliases");
        }
    }
    (content != before).then_some(content)
}

/// The aliases of a content, each with where it leads.
pub(super) async fn where_they_lead(
    database: &Database,
    content: &CanonicalJsonObject,
) -> Result<Vec<Lead>, SendError> {
    let mut leads = Vec::new();
    for alias in named(content)? {
        let room = database.alias(&alias).await?.map(|found| found.room);
        leads.push((alias, room));
    }
    Ok(leads)
}

/// Checks that the aliases that are new lead here. One that stands already may have been removed since.
pub(super) fn check(leads: &[Lead], standing: Option<&Pdu>, room: &RoomId) -> Result<(), Refusal> {
    let stand = standing
        .and_then(|event| event.content_as().ok())
        .and_then(|content| named(&content).ok())
        .unwrap_or_default();
    let astray =
        leads.iter().find(|(alias, to)| to.as_deref() != Some(room) && !stand.contains(alias));
    match astray {
        None => Ok(()),
        Some((alias, Some(_))) => Err(bad_alias(format!("The alias {alias} is another room's."))),
        Some((alias, None)) => {
            Err(bad_alias(format!("The alias {alias} leads to no room that this server knows.")))
        }
    }
}

/// Checks what a new room is to call itself: nothing leads to it but the alias that it is made with.
pub(super) fn check_new(
    content: &CanonicalJsonObject,
    made_with: Option<&RoomAliasId>,
) -> Result<(), Refusal> {
    match named(content)?.into_iter().find(|alias| Some(&**alias) != made_with) {
        None => Ok(()),
        Some(alias) => Err(bad_alias(format!(
            "The alias {alias} does not lead to the new room: it is made with `room_alias_name`."
        ))),
    }
}

fn named(content: &CanonicalJsonObject) -> Result<Vec<OwnedRoomAliasId>, Refusal> {
    let one = match content.get("alias") {
        None | Some(Value::Null) => None,
        // Some clients take the alias away like this.
        Some(Value::String(none)) if none.is_empty() => None,
        Some(value) => Some(parsed(value)?),
    };
    let others = match content.get("alt_aliases") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(aliases)) => aliases.iter().map(parsed).collect::<Result<_, _>>()?,
        Some(_) => return Err(invalid("`alt_aliases` must be a list of aliases.".to_owned())),
    };
    Ok(one.into_iter().chain(others).collect())
}

fn parsed(value: &Value) -> Result<OwnedRoomAliasId, Refusal> {
    let text = value.as_str().unwrap_or_default();
    RoomAliasId::parse(text).map_err(|error| invalid(format!("{text:?} is no alias: {error}.")))
}

fn invalid(sentence: String) -> Refusal {
    Refusal::new(RefusalKind::InvalidParam, sentence)
}

fn bad_alias(sentence: String) -> Refusal {
    Refusal::new(RefusalKind::BadAlias, sentence)
}
