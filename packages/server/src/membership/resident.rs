//! What users of other servers do to their own membership of a room that we are in: the same table decides as for our own
//! users, for the template that their server asks for and again for the event that it hands in.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use matryx_core::{
    event::Draft,
    membership::{Action, Decision, JoinRule, Membership, Transition, decide},
    refusal::{Refusal, RefusalKind},
    room::{Power, Powers, StateKey},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedUserId, ServerName, UserId,
    events::TimelineEventType,
};

use super::{change::is_foreign, content, join::conditions};
use crate::{
    app::App,
    room::{Look, Room, SendError},
};

/// Whether a user is in one of the rooms whose members may join, as far as this server sees.
enum Allowed {
    Yes,
    No(Vec<OwnedRoomId>),
    /// We are not in these.
    Unseen(Vec<OwnedRoomId>),
}

/// What one needs for what they want.
enum Way {
    Free,
    /// The rule is restricted, and a condition of it holds: somebody who may invite has to vouch.
    Vouched,
}

/// The template of a user's own membership event: of joining, knocking or leaving.
///
/// # Errors
/// The rule that forbids it, or that the database fails.
pub async fn template(
    app: &App,
    room: &Room,
    action: Action,
    user: &UserId,
) -> Result<CanonicalJsonObject, SendError> {
    let allowed = allowed(app, &room.look(), action, user).await?;
    let needs = [StateKey::member(user)];
    let template = app.rooms.template(room, &needs, |desk| {
        let mut said = CanonicalJsonObject::new();
        let word = CanonicalJsonValue::String(action.result().as_str().to_owned());
        said.insert("membership".to_owned(), word);
        if let Way::Vouched = way(desk.look, action, user, &allowed)? {
            said = content::authorised(said, &voucher(desk.look, &app.server_name)?);
        }
        Ok(Draft {
            sender: user.to_owned(),
            kind: TimelineEventType::RoomMember,
            state_key: Some(user.to_string()),
            content: said,
            redacts: None,
        })
    });
    template.await
}

/// Whether an event that was handed in may stand by how the room is, before the law is asked: for the conditions of
/// restricted rooms, which the law leaves to whoever vouches, and for sentences that say more.
///
/// # Errors
/// The rule that forbids it, or that the database fails.
pub async fn check(
    app: &App,
    look: &Look,
    action: Action,
    user: &UserId,
    vouching: Option<&UserId>,
) -> Result<(), SendError> {
    let allowed = if vouching.is_some_and(|vouching| vouching.server_name() != app.server_name) {
        // Another server says so, and signs for it.
        Allowed::Yes
    } else {
        allowed(app, look, action, user).await?
    };
    match (way(look, action, user, &allowed)?, vouching) {
        (Way::Vouched, None) => {
            let sentence = "To be let in by a condition of the join rule, the event must name who vouches (join_authorised_via_users_server).";
            Err(Refusal::forbidden(sentence).into())
        }
        _ => Ok(()),
    }
}

/// What the table says.
fn way(look: &Look, action: Action, user: &UserId, allowed: &Allowed) -> Result<Way, Refusal> {
    let from = look.membership(user);
    let powers = powers(look)?;
    let decision = decide(&Transition {
        action,
        from,
        actor: from,
        actor_power: powers.of(user),
        target_power: powers.of(user),
        levels: powers.levels(),
        join_rule: look.join_rule(),
        authoriser: false,
        founding: false,
        foreign: is_foreign(look.law.create.as_deref(), user),
        same: false,
        rules: &look.rules.authorization,
    });
    match decision {
        Decision::Write => Ok(Way::Free),
        Decision::Unchanged => Err(Refusal::forbidden(
            "You are not in this room, nor invited to it, nor knocking: there is nothing to leave.",
        )),
        Decision::NeedsAuthoriser => match allowed {
            Allowed::Yes => Ok(Way::Vouched),
            Allowed::No(rooms) => Err(Refusal::forbidden(no_condition(look, rooms))),
            Allowed::Unseen(rooms) => Err(Refusal::new(
                RefusalKind::UnableToAuthoriseJoin,
                format!(
                    "Members of {} may join, and this server cannot see who that is: ask another one that is in the room.",
                    named(rooms)
                ),
            )),
        },
        Decision::Refuse(refusal) => Err(refusal),
    }
}

/// Looks into the rooms whose members may join, if that decides anything.
async fn allowed(
    app: &App,
    look: &Look,
    action: Action,
    user: &UserId,
) -> Result<Allowed, SendError> {
    let restricted = matches!(look.join_rule(), JoinRule::Restricted | JoinRule::KnockRestricted);
    let outside = matches!(look.membership(user), Membership::Left | Membership::Knocking);
    if action != Action::Join || !restricted || !outside {
        return Ok(Allowed::Yes);
    }
    let rooms = look.law.join_rules.as_deref().map(conditions).unwrap_or_default();
    let mut unseen = Vec::new();
    for id in &rooms {
        let held = app.rooms.room(id).await?.map(|room| room.look());
        match held.filter(|look| look.servers.contains_key(&app.server_name)) {
            Some(look) if look.membership(user) == Membership::Joined => return Ok(Allowed::Yes),
            Some(_) => {}
            None => unseen.push(id.clone()),
        }
    }
    Ok(if unseen.is_empty() { Allowed::No(rooms) } else { Allowed::Unseen(unseen) })
}

/// A user of ours who is in the room and may invite: by the power levels, or as one of the creators.
fn voucher(look: &Look, server: &ServerName) -> Result<OwnedUserId, Refusal> {
    let powers = powers(look)?;
    let needed = Power::Level(powers.invite());
    let mut ours = look.users(Membership::Joined).filter(|user| user.server_name() == server);
    ours.find(|user| powers.of(user) >= needed).ok_or_else(|| {
        Refusal::new(
            RefusalKind::UnableToGrantJoin,
            format!(
                "You may join, but no user of {server} in this room has the power level to invite ({}), which it takes to let you in: ask another server that is in the room.",
                powers.invite()
            ),
        )
    })
}

fn powers(look: &Look) -> Result<&Powers, Refusal> {
    look.law.powers.as_deref().ok_or_else(|| {
        Refusal::new(RefusalKind::Unknown, "The power levels of this room cannot be read.")
    })
}

fn no_condition(look: &Look, rooms: &[OwnedRoomId]) -> String {
    let knock = match look.join_rule() {
        JoinRule::KnockRestricted => " You can knock to ask for an invite.",
        _ => "",
    };
    let whom = match rooms {
        [] => "the invited".to_owned(),
        rooms => format!("the invited and the members of {}", named(rooms)),
    };
    format!("This room can only be joined by {whom}, and you are not among them.{knock}")
}

fn named(rooms: &[OwnedRoomId]) -> String {
    match rooms {
        [room] => room.to_string(),
        rooms => format!("{} other rooms", rooms.len()),
    }
}

/// Who vouches for a join, as its content says.
#[must_use]
pub fn vouching(event: &CanonicalJsonObject) -> Option<OwnedUserId> {
    let content = event.get("content")?.as_object()?;
    UserId::parse(content.get(content::AUTHORISER)?.as_str()?).ok()
}
