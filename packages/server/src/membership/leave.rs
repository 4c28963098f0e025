//! Leaving, which also declines an invite and takes back a knock, and forgetting what one has left.

use matryx_core::{
    membership::{Action, Membership},
    refusal::{Refusal, RefusalKind},
    room::StateKey,
};
use matryx_repository::Mine;
use ruma::{CanonicalJsonObject, OwnedEventId, RoomId, UserId};

use super::change::{Verb, change};
use crate::{
    app::App,
    room::{Changes, Desk, Intent, Proposal, SendError},
};

/// Leaves a room.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub async fn leave(
    app: &App,
    room: &RoomId,
    user: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    change(app, room, Verb::Plain(Action::Leave), user, user, content).await
}

/// Forgets a room: it is in no answer to this user any more until they are invited, join or knock again.
///
/// # Errors
/// When the user is still in the room, invited or knocking, or never was; or why the server could not.
pub async fn forget(app: &App, room: &RoomId, user: &UserId) -> Result<(), SendError> {
    let standing = app.rooms.stream().standing(user).await?;
    let Some(mine) = standing.rooms.get(room) else { return Err(nothing_to_forget().into()) };
    if mine.forgotten {
        return Ok(());
    }
    still_there(mine.membership)?;
    let mine = Mine { forgotten: true, ..Mine::clone(mine) };
    let intent = Intent::new(Vec::new(), move |desk| {
        stands(desk, &mine)?;
        let forget = vec![mine.clone()];
        Ok(Proposal::Change(Changes { forget, ..Changes::default() }))
    });
    app.rooms.send(room, intent).await.map(drop)
}

/// The record that is to be forgotten must be the one that stands: the user may have come back in the meantime.
fn stands(desk: &Desk<'_>, mine: &Mine) -> Result<(), Refusal> {
    let entry = desk.look.entry(&StateKey::member(&mine.user));
    if entry.is_some_and(|entry| entry.event_id == mine.event) {
        return Ok(());
    }
    still_there(desk.look.membership(&mine.user))?;
    let sentence = "Your membership has changed in this moment. Try again.";
    Err(Refusal::new(RefusalKind::Unknown, sentence))
}

fn still_there(membership: Membership) -> Result<(), Refusal> {
    let sentence = match membership {
        Membership::Left | Membership::Banned => return Ok(()),
        Membership::Joined => "You are in this room. Leave it before you forget it.",
        Membership::Invited => {
            "You are invited to this room. Decline by leaving it before you forget it."
        }
        Membership::Knocking => {
            "You have knocked on this room. Take that back by leaving it before you forget it."
        }
    };
    Err(Refusal::new(RefusalKind::Unknown, sentence))
}

fn nothing_to_forget() -> Refusal {
    let sentence = "You never were in this room, nor invited to it: there is nothing to forget.";
    Refusal::new(RefusalKind::NotFound, sentence)
}
