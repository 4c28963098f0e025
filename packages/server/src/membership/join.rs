//! Joining: also how an invite is accepted, and the conditions of restricted rooms.
//! <https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms>

use matryx_core::{
    event::Pdu,
    membership::{Action, JoinRule, Membership},
    refusal::{Refusal, RefusalKind},
    room::Power,
};
use matryx_repository::Source;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    change::{Facts, Verb, change, powers},
    content,
    entering::{self, Wish},
};
use crate::{
    app::App,
    room::{Desk, Look, SendError},
};

/// Joins a room: here if we are in it and may let the user in, else through another server. `content` has what else the
/// member event is to say, `via` servers that are said to be in the room.
///
/// # Errors
/// The rule that forbids it, or why the server could not, or what other servers said.
pub async fn join(
    app: &App,
    room: &RoomId,
    user: &UserId,
    content: CanonicalJsonObject,
    via: Vec<OwnedServerName>,
) -> Result<OwnedEventId, SendError> {
    let content = content::cleaned(content)?;
    match locally(app, room, user, &content).await? {
        Locally::Joined(event) => Ok(event),
        Locally::Elsewhere(_) => {
            let wish = Wish { room: room.to_owned(), user: user.to_owned(), content, via };
            entering::enter(app, wish).await
        }
    }
}

/// What comes of a join where no other server is asked.
pub(super) enum Locally {
    /// This event says it, which may have stood before.
    Joined(OwnedEventId),
    /// Others may let the user in. If we know the room, why we may not.
    Elsewhere(Option<Refusal>),
}

/// Joins a room, if this server decides there.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub(super) async fn locally(
    app: &App,
    room: &RoomId,
    user: &UserId,
    content: &CanonicalJsonObject,
) -> Result<Locally, SendError> {
    let held = app.rooms.room(room).await?;
    let standing = app.rooms.stream().standing(user).await?;
    // Who was invited from outside since we left knows more of the room than we do.
    let outside = standing.rooms.get(room).is_some_and(|mine| mine.source != Source::Room);
    let decides = |look: &Look| {
        look.servers.contains_key(&app.server_name)
            || (look.is_resident(&app.server_name) && !outside)
    };
    let Some(look) = held.map(|room| room.look()).filter(|look| decides(look)) else {
        return Ok(Locally::Elsewhere(None));
    };
    let refusal =
        match change(app, room, Verb::Plain(Action::Join), user, user, content.clone()).await {
            Ok(event) => return Ok(Locally::Joined(event)),
            Err(SendError::Refused(refusal)) => refusal,
            Err(error) => return Err(error),
        };
    // Another server may have a user who vouches, or know of an invite that has not come here yet.
    let invited = async || {
        let standing = app.rooms.stream().standing(user).await?;
        let mine = standing.rooms.get(room);
        Ok::<_, SendError>(mine.is_some_and(|mine| {
            mine.membership == Membership::Invited && mine.source != Source::Room
        }))
    };
    let alone = look.servers.keys().all(|server| *server == app.server_name);
    let elsewhere = match refusal.kind {
        RefusalKind::UnableToGrantJoin => true,
        RefusalKind::Forbidden => invited().await?,
        _ => false,
    };
    if elsewhere && !alone {
        return Ok(Locally::Elsewhere(Some(refusal)));
    }
    Err(refusal.into())
}

/// Who vouches for a join by one of the rule's conditions: a user of ours who is in the room and may invite.
///
/// All rooms that a user of ours is in are known here, so that what cannot be seen does not hold.
pub(super) fn authoriser(desk: &Desk<'_>, facts: &Facts) -> Result<OwnedUserId, Refusal> {
    let rooms = desk.look.law.join_rules.as_deref().map(conditions).unwrap_or_default();
    let is_in = |room: &OwnedRoomId| {
        facts.rooms.get(room).is_some_and(|mine| mine.membership == Membership::Joined)
    };
    if !rooms.iter().any(is_in) {
        return Err(Refusal::forbidden(no_condition(desk, &rooms)));
    }
    let powers = powers(desk)?;
    let needed = Power::Level(powers.invite());
    desk.look
        .users(Membership::Joined)
        .find(|user| user.server_name() == facts.server && powers.of(user) >= needed)
        .ok_or_else(|| nobody_vouches(powers.invite(), facts))
}

/// The rooms whose members may join. What is malformed, or of a kind that nobody knows yet, is no condition.
pub(super) fn conditions(join_rules: &Pdu) -> Vec<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Content {
        allow: Vec<Value>,
    }
    #[derive(Deserialize)]
    #[serde(tag = "type")]
    enum Condition {
        #[serde(rename = "m.room_membership")]
        Membership { room_id: OwnedRoomId },
    }
    let Ok(content) = join_rules.content_as::<Content>() else { return Vec::new() };
    content
        .allow
        .into_iter()
        .filter_map(|condition| serde_json::from_value(condition).ok())
        .map(|Condition::Membership { room_id }| room_id)
        .collect()
}

fn no_condition(desk: &Desk<'_>, rooms: &[OwnedRoomId]) -> String {
    let knock = match desk.look.join_rule() {
        JoinRule::KnockRestricted => " You can knock to ask for an invite.",
        _ => "",
    };
    let whom = match rooms {
        [] => "the invited".to_owned(),
        [room] => format!("the invited and the members of {room}"),
        rooms => format!("the invited and the members of {} other rooms", rooms.len()),
    };
    format!("This room can only be joined by {whom}, and you are not among them.{knock}")
}

fn nobody_vouches(needed: i64, facts: &Facts) -> Refusal {
    Refusal::new(
        RefusalKind::UnableToGrantJoin,
        format!(
            "You are in one of the rooms whose members may join, but no user of {} in this room has the power level to invite ({needed}), which it takes to let you in.",
            facts.server
        ),
    )
}
