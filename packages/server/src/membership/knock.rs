//! Knocking: asking to be invited. It is taken back by leaving, accepted by an invite, denied by a kick.

use matryx_core::membership::Action;
use ruma::{CanonicalJsonObject, OwnedEventId, RoomId, UserId};

use super::change::{Verb, change};
use crate::{app::App, room::SendError};

/// Knocks on a room.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub async fn knock(
    app: &App,
    room: &RoomId,
    user: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    change(app, room, Verb::Plain(Action::Knock), user, user, content).await
}
