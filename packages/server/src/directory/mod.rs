//! Room aliases, of this server and of others.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>

use std::time::Duration;

use http::StatusCode;
use matryx_core::{
    membership::Membership,
    refusal::{Refusal, RefusalKind},
    room::Power,
};
use matryx_repository::Alias;
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, ServerName,
    UserId, api::federation::query::get_room_information, events::TimelineEventType,
};
use serde_json::json;

use crate::{
    app::App,
    federation::PeerError,
    room::{Elsewhere, SendError},
};

/// How long another server may take to say where an alias leads.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where an alias leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The room.
    pub room: OwnedRoomId,
    /// Servers that are said to be in it, the likeliest first.
    pub servers: Vec<OwnedServerName>,
}

/// The room that an id or an alias means. An id is believed: whether there is such a room shows where it is used.
///
/// # Errors
/// When the alias leads nowhere, its server does not say where, or the database fails.
pub async fn resolve(app: &App, name: &RoomOrAliasId) -> Result<Place, SendError> {
    match <&RoomId>::try_from(name) {
        Ok(room) => Ok(Place { room: room.to_owned(), servers: Vec::new() }),
        Err(alias) => look_up(app, alias).await,
    }
}

/// Where an alias leads, be it ours or another server's.
///
/// # Errors
/// When it leads nowhere, its server does not say where, or the database fails.
pub async fn look_up(app: &App, alias: &RoomAliasId) -> Result<Place, SendError> {
    let server = alias.server_name();
    if server == app.server_name {
        let room = find(app, alias).await?.room;
        let mut servers = vec![app.server_name.clone()];
        if let Some(held) = app.rooms.room(&room).await? {
            let look = held.look();
            servers.extend(look.servers.keys().filter(|name| **name != app.server_name).cloned());
        }
        return Ok(Place { room, servers });
    }
    let request = get_room_information::v1::Request::new(alias.to_owned());
    let answer = app.federation.client().in_passing().ask(server, request, PATIENCE).await;
    let answer = answer.map_err(|error| unknown(alias, &error))?;
    let mut servers = answer.servers;
    // Who knows the alias most likely is in the room.
    if !servers.iter().any(|name| name == server) {
        servers.insert(0, server.to_owned());
    }
    Ok(Place { room: answer.room_id, servers })
}

/// What another server's refusal means for who asks after its alias.
fn unknown(alias: &RoomAliasId, error: &PeerError) -> SendError {
    if error.status() == Some(StatusCode::NOT_FOUND) {
        let sentence = format!("{} knows no alias {alias}.", alias.server_name());
        return Refusal::new(RefusalKind::NotFound, sentence).into();
    }
    let sentence = format!("Where {alias} leads could not be asked: {error}.");
    let body = json!({ "errcode": "M_UNKNOWN", "error": sentence });
    SendError::Elsewhere(Box::new(Elsewhere { status: StatusCode::BAD_GATEWAY, body }))
}

/// An alias of this server.
///
/// # Errors
/// When there is none, or the database fails.
pub async fn find(app: &App, alias: &RoomAliasId) -> Result<Alias, SendError> {
    if let Some(found) = app.database.alias(alias).await? {
        return Ok(found);
    }
    let sentence = if alias.server_name() == app.server_name {
        format!("There is no alias {alias}.")
    } else {
        format!("{alias} is an alias of another server.")
    };
    Err(Refusal::new(RefusalKind::NotFound, sentence).into())
}

/// The aliases of a room, for those who are in it, and for everybody if it is `world_readable`.
///
/// # Errors
/// A refusal to others, or the database fails.
pub async fn of_room(
    app: &App,
    user: &UserId,
    room: &RoomId,
) -> Result<Vec<OwnedRoomAliasId>, SendError> {
    let reading = app.rooms.reading(room, user).await?;
    if reading.membership != Membership::Joined && !reading.sight.world_readable_at(reading.look.n)
    {
        let sentence = "Only those who are in a room see its aliases.";
        return Err(Refusal::forbidden(sentence).into());
    }
    Ok(app.database.aliases_of(room).await?)
}

/// The alias of this server with this local part.
///
/// # Errors
/// When there cannot be such an alias.
pub fn alias_of(localpart: &str, server: &ServerName) -> Result<OwnedRoomAliasId, Refusal> {
    let bad = |why: &str| {
        let sentence = format!("{localpart:?} cannot be an alias: {why}.");
        Refusal::new(RefusalKind::InvalidParam, sentence)
    };
    if localpart.is_empty() {
        return Err(bad("it is empty"));
    }
    if localpart.chars().any(|c| c == ':' || c.is_whitespace() || c.is_control()) {
        return Err(bad("it has a colon, a space or a control character"));
    }
    let alias = format!("#{localpart}:{server}");
    OwnedRoomAliasId::try_from(alias).map_err(|error| bad(&error.to_string()))
}

/// Lets an alias lead to a room that its maker is in. False if it leads somewhere already.
///
/// # Errors
/// When the alias is not this server's to give or the user is not in the room; when the database fails.
pub async fn add(
    app: &App,
    user: &UserId,
    alias: &RoomAliasId,
    room: &RoomId,
) -> Result<bool, SendError> {
    if alias.server_name() != app.server_name {
        let sentence = format!("Aliases on this server end with :{}.", app.server_name);
        return Err(Refusal::new(RefusalKind::InvalidParam, sentence).into());
    }
    let alias = alias_of(alias.alias(), &app.server_name)?;
    let look = app.rooms.room(room).await?.ok_or(SendError::UnknownRoom)?.look();
    if look.membership(user) != Membership::Joined {
        let sentence = "Only those who are in a room can give it an alias.";
        return Err(Refusal::forbidden(sentence).into());
    }
    let alias = Alias { alias, room: room.to_owned(), creator: user.to_owned() };
    Ok(app.database.add_alias(&alias).await?)
}

/// Removes an alias: its maker may, and who may set the room's canonical alias. The room does not call it its own any
/// more if the user may see to that too; if not, the alias is gone all the same.
///
/// # Errors
/// When there is no such alias or the user may not remove it; when the database fails.
pub async fn remove(app: &App, user: &UserId, alias: &RoomAliasId) -> Result<(), SendError> {
    let alias = find(app, alias).await?;
    if alias.creator != user {
        may_remove(app, user, &alias).await?;
    }
    app.database.remove_alias(&alias).await?;
    let Alias { alias, room, .. } = alias;
    if let Err(error) = app.rooms.disown_alias(&room, user.to_owned(), alias.clone()).await {
        tracing::info!(%error, %room, %alias, "directory.alias_still_named");
    }
    Ok(())
}

async fn may_remove(app: &App, user: &UserId, alias: &Alias) -> Result<(), SendError> {
    let look = app.rooms.room(&alias.room).await?.ok_or(SendError::UnknownRoom)?.look();
    let powers = look.law.powers.as_ref().filter(|_| look.membership(user) == Membership::Joined);
    let Some(powers) = powers else {
        let sentence = "Another user made this alias, and you are not in its room.";
        return Err(Refusal::forbidden(sentence).into());
    };
    let needed = powers.to_send(&TimelineEventType::RoomCanonicalAlias, true);
    let held = powers.of(user);
    if held >= Power::Level(needed) {
        return Ok(());
    }
    Err(Refusal::forbidden(format!(
        "Another user made this alias. To remove it, this room asks for the power level of `m.room.canonical_alias` ({needed}); you have {held}."
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn an_alias_is_made_of_letters_that_can_be_said() {
        let server = server_name!("x");
        assert_eq!(alias_of("the-room.ü", server).unwrap().as_str(), "#the-room.ü:x");
        let long = "x".repeat(256);
        for bad in ["", "a b", "#a:x", "nul\0", "tab\t", long.as_str()] {
            let refusal = alias_of(bad, server).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::InvalidParam, "{bad:?}: {refusal}");
        }
    }
}
