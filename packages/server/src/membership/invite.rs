//! Inviting: also how a knock is accepted.

use matryx_core::membership::Action;
use ruma::{CanonicalJsonObject, OwnedEventId, RoomId, UserId};

use super::change::{Verb, change};
use crate::{app::App, room::SendError};

/// Invites somebody.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub async fn invite(
    app: &App,
    room: &RoomId,
    actor: &UserId,
    target: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    change(app, room, Verb::Plain(Action::Invite), actor, target, content).await
}
