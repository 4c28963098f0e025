//! The stem of every verb: load the facts, decide by the table, write.

use std::sync::Arc;

use matryx_core::{
    event::{Draft, Pdu},
    membership::{Action, Decision, Membership, Transition, decide},
    refusal::{Refusal, RefusalKind},
    room::{Powers, StateKey},
};
use matryx_repository::StoreError;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, UserId,
    events::TimelineEventType,
};
use serde::Deserialize;

use super::{content, invite, join, profile};
use crate::{
    app::App,
    room::{Desk, Intent, Proposal, SendError, Standings},
};

/// What one user of ours wants done to a membership: their own or another's.
pub(super) struct Deed {
    pub(super) verb: Verb,
    pub(super) actor: OwnedUserId,
    pub(super) target: OwnedUserId,
    /// The member event's content as far as the client gives it; [`content::cleaned`].
    pub(super) content: CanonicalJsonObject,
}

/// By which door a deed comes in.
#[derive(Clone, Copy)]
pub(super) enum Verb {
    /// The verb's own endpoint.
    Plain(Action),
    /// A member event put as state. Which verb that is depends on whose it is and on what stands there.
    Put(Membership),
}

/// What is not in the room and decides with it. Loaded before the intent runs.
pub(super) struct Facts {
    /// The name of this server.
    pub(super) server: OwnedServerName,
    /// The target's profile as member events carry it; empty where the deed does not show it.
    pub(super) profile: CanonicalJsonObject,
    /// For joins: where the one who joins is and was.
    pub(super) rooms: Standings,
}

/// Does what putting a member event as state means: one of the verbs, and nothing more.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub async fn put(
    app: &App,
    room: &RoomId,
    actor: &UserId,
    target: &UserId,
    membership: Membership,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    change(app, room, Verb::Put(membership), actor, target, content).await
}

/// Does a deed; returns the event that says so, which may have stood before.
pub(super) async fn change(
    app: &App,
    room: &RoomId,
    verb: Verb,
    actor: &UserId,
    target: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    let content = content::cleaned(content)?;
    let facts = Facts::load(app, verb.result(), target).await?;
    let deed = Deed { verb, actor: actor.to_owned(), target: target.to_owned(), content };
    let needs = vec![StateKey::member(target)];
    let intent = Intent::new(needs, move |desk| deed.propose(desk, &facts));
    if verb.result() == Membership::Invited && target.server_name() != app.server_name {
        return invite::elsewhere(app, room, target, intent).await;
    }
    let done = app.rooms.send(room, intent).await?;
    done.events.into_iter().next().ok_or(SendError::Panicked)
}

impl Verb {
    /// What the target is afterwards.
    fn result(self) -> Membership {
        match self {
            Self::Plain(action) => action.result(),
            Self::Put(membership) => membership,
        }
    }
}

impl Facts {
    /// Loads what making `target` this takes.
    pub(super) async fn load(
        app: &App,
        result: Membership,
        target: &UserId,
    ) -> Result<Self, StoreError> {
        let server = app.server_name.clone();
        let ours = target.server_name() == server;
        let profile = if ours && content::shows_profile(result) {
            profile::of(app, target).await?
        } else {
            CanonicalJsonObject::new()
        };
        let rooms = if ours && result == Membership::Joined {
            app.rooms.stream().standing(target).await?.rooms
        } else {
            Standings::new()
        };
        Ok(Self { server, profile, rooms })
    }
}

impl Deed {
    /// What the deed comes to in a room that looks like this.
    pub(super) fn propose(&self, desk: &Desk<'_>, facts: &Facts) -> Result<Proposal, Refusal> {
        let from = desk.look.membership(&self.target);
        let action = self.action(from)?;
        let standing = desk.member(&self.target);
        match (self.verb, from, standing) {
            // Who is in already has joined, whatever else the request says: a change of profile is another request.
            (Verb::Plain(Action::Join), Membership::Joined, Some(event)) => {
                return Ok(Proposal::Unchanged(event.event_id().clone()));
            }
            (_, _, None) if action == Action::Leave => return Err(never_there()),
            _ => {}
        }
        let content = content::of_member(action.result(), self.content.clone(), &facts.profile);
        let same = standing.is_some_and(|event| self.says_the_same(event, &content));
        match decide(&self.transition(desk, action, from, same)?) {
            Decision::Unchanged => standing
                .map(|event| Proposal::Unchanged(event.event_id().clone()))
                .ok_or_else(never_there),
            Decision::Write => Ok(self.say(content)),
            Decision::NeedsAuthoriser => {
                let by = join::authoriser(desk, facts)?;
                Ok(self.say(content::authorised(content, &by)))
            }
            Decision::Refuse(refusal) => Err(refusal),
        }
    }

    /// Which verb it is, where the target is this.
    fn action(&self, from: Membership) -> Result<Action, Refusal> {
        let own = self.actor == self.target;
        let membership = match self.verb {
            Verb::Plain(action) => return Ok(action),
            Verb::Put(membership) => membership,
        };
        match membership {
            Membership::Joined if own => Ok(Action::Join),
            Membership::Joined => Err(Refusal::forbidden(
                "Nobody can join a room for somebody else. Invite them instead.",
            )),
            Membership::Knocking if own => Ok(Action::Knock),
            Membership::Knocking => {
                Err(Refusal::forbidden("Nobody can knock on a room for somebody else."))
            }
            Membership::Left if own => Ok(Action::Leave),
            Membership::Left if from == Membership::Banned => Ok(Action::Unban),
            Membership::Left => Ok(Action::Kick),
            Membership::Invited => Ok(Action::Invite),
            Membership::Banned => Ok(Action::Ban),
        }
    }

    fn transition<'a>(
        &self,
        desk: &'a Desk<'_>,
        action: Action,
        from: Membership,
        same: bool,
    ) -> Result<Transition<'a>, Refusal> {
        let look = desk.look;
        let powers = powers(desk)?;
        Ok(Transition {
            action,
            from,
            actor: look.membership(&self.actor),
            actor_power: powers.of(&self.actor),
            target_power: powers.of(&self.target),
            levels: powers.levels(),
            join_rule: look.join_rule(),
            authoriser: false,
            founding: false,
            foreign: is_foreign(look.law.create.as_deref(), &self.target),
            same,
            rules: &look.rules.authorization,
        })
    }

    /// Whether an event is by the same sender with the same content. Who let somebody in is not the client's to say, so
    /// it makes no difference.
    fn says_the_same(&self, event: &Pdu, content: &CanonicalJsonObject) -> bool {
        *event.sender() == self.actor
            && event.content_as::<CanonicalJsonObject>().is_ok_and(|mut said| {
                said.remove(content::AUTHORISER);
                said == *content
            })
    }

    fn say(&self, content: CanonicalJsonObject) -> Proposal {
        Proposal::say(Draft {
            sender: self.actor.clone(),
            kind: TimelineEventType::RoomMember,
            state_key: Some(self.target.to_string()),
            content,
            redacts: None,
        })
    }
}

/// The room's levels. Every room has them; one whose create event cannot be read takes nothing more.
pub(super) fn powers<'a>(desk: &'a Desk<'_>) -> Result<&'a Arc<Powers>, Refusal> {
    desk.look.law.powers.as_ref().ok_or_else(|| {
        Refusal::new(RefusalKind::Unknown, "The power levels of this room cannot be read.")
    })
}

/// Whether the room is not for users of this one's server.
pub(super) fn is_foreign(create: Option<&Pdu>, user: &UserId) -> bool {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.federate")]
        federate: Option<bool>,
    }
    create.is_some_and(|create| {
        create.sender().server_name() != user.server_name()
            && create.content_as().is_ok_and(|content: Content| content.federate == Some(false))
    })
}

fn never_there() -> Refusal {
    Refusal::new(
        RefusalKind::NotFound,
        "You are not in this room, nor invited to it, nor knocking: there is nothing to leave.",
    )
}
