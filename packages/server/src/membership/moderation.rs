//! What those with power do: kick (which also revokes an invite and denies a knock), ban, unban.

use matryx_core::membership::Action;
use ruma::{CanonicalJsonObject, OwnedEventId, RoomId, UserId};

use super::change::{Verb, change};
use crate::{app::App, room::SendError};

/// Removes somebody from a room.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub async fn kick(
    app: &App,
    room: &RoomId,
    actor: &UserId,
    target: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    change(app, room, Verb::Plain(Action::Kick), actor, target, content).await
}

/// Bans somebody, whatever they are to the room.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub async fn ban(
    app: &App,
    room: &RoomId,
    actor: &UserId,
    target: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    change(app, room, Verb::Plain(Action::Ban), actor, target, content).await
}

/// Lifts a ban.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub async fn unban(
    app: &App,
    room: &RoomId,
    actor: &UserId,
    target: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    change(app, room, Verb::Plain(Action::Unban), actor, target, content).await
}
