//! Leaving, which also declines an invite and takes back a knock, and forgetting what one has left.

use matryx_core::{
    membership::{Action, Membership},
    refusal::{Refusal, RefusalKind},
};
use matryx_repository::Mine;
use ruma::{CanonicalJsonObject, OwnedEventId, RoomId, UserId};

use super::{
    change::{Verb, change},
    content, out_of_band,
};
use crate::{
    app::App,
    room::{Aside, Record, SendError},
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
    let content = content::cleaned(content)?;
    if let Some(event) = out_of_band::leave(app, room, user, &content).await? {
        return Ok(event);
    }
    change(app, room, Verb::Plain(Action::Leave), user, user, content).await
}

/// Forgets a room: it is in no answer to this user any more until they are invited, join or knock again.
///
/// # Errors
/// When the user is still in the room, invited or knocking, or never was; or why the server could not.
pub async fn forget(app: &App, room: &RoomId, user: &UserId) -> Result<(), SendError> {
    let aside = Aside::new(user.to_owned(), |known| {
        let mine = known.mine.ok_or_else(nothing_to_forget)?;
        if mine.forgotten {
            return Ok(None);
        }
        still_there(mine.membership)?;
        let mine = Mine { forgotten: true, ..mine.clone() };
        Ok(Some(Record { mine, event: None, errand: None }))
    });
    app.rooms.aside(room, aside).await.map(drop)
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
