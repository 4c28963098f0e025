//! What our users say in rooms: events and state, checked here so that a refusal says which level is needed and which is
//! held. The law has the last word.

use matryx_core::{
    event::{Draft, Pdu},
    membership::Membership,
    refusal::{Refusal, RefusalKind},
    room::{Power, Powers, StateKey},
};
use matryx_repository::TransactionKey;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedUserId, RoomId, UserId,
    events::TimelineEventType as Kind,
};

use super::{Desk, Intent, Proposal, Rooms, SendError, acl, canonical_alias, power_levels};

/// What somebody wants to say. Memberships and redactions have ways of their own.
#[derive(Clone, Debug)]
pub struct Saying {
    /// Who.
    pub sender: OwnedUserId,
    /// The event type.
    pub kind: Kind,
    /// The state key; none for what is no state.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
}

impl Rooms {
    /// Says something in a room. State that stands already, by the same sender, is not said again.
    ///
    /// # Errors
    /// The rule that forbids it, or why the server could not.
    pub async fn say(
        &self,
        room: &RoomId,
        saying: Saying,
        transaction: Option<TransactionKey>,
    ) -> Result<OwnedEventId, SendError> {
        saying.check(room)?;
        if saying.kind == Kind::RoomServerAcl && saying.state_key.as_deref() == Some("") {
            acl::check_own(&saying.content, self.server_name())?;
        }
        let aliases = match saying.kind {
            Kind::RoomCanonicalAlias => {
                canonical_alias::where_they_lead(self.database(), &saying.content).await?
            }
            _ => Vec::new(),
        };
        let needs = saying.key().into_iter().collect();
        let intent = Intent::new(needs, move |desk| {
            let standing = saying.key().and_then(|key| desk.event(&key).cloned());
            let standing = standing.as_deref();
            saying.may(desk)?;
            canonical_alias::check(&aliases, standing, &desk.look.room_id)?;
            match standing {
                Some(event) if saying.is_said_by(event) => {
                    Ok(Proposal::Unchanged(event.event_id().clone()))
                }
                _ => Ok(Proposal::say(saying.draft())),
            }
        });
        let done = self.send(room, intent.once(transaction)).await?;
        done.events.into_iter().next().ok_or(SendError::Panicked)
    }
}

impl Saying {
    /// What is wrong with it in any room.
    fn check(&self, room: &RoomId) -> Result<(), Refusal> {
        let bad = |sentence: &str| Err(Refusal::new(RefusalKind::InvalidParam, sentence));
        match (&self.kind, &self.state_key) {
            (Kind::RoomCreate, _) => {
                bad("`m.room.create` is said once, when the room is created, and by nobody else.")
            }
            (Kind::RoomMember, _) => {
                bad("`m.room.member` is state whose key is the user that it is about.")
            }
            (Kind::RoomRedaction, _) => {
                bad("`m.room.redaction` is no state, and needs the event that it redacts.")
            }
            (Kind::RoomTombstone, Some(_))
                if self.content.get("replacement_room").and_then(|value| value.as_str())
                    == Some(room.as_str()) =>
            {
                bad("A room cannot be replaced by itself.")
            }
            _ => Ok(()),
        }
    }

    /// The key of the state that it is.
    fn key(&self) -> Option<StateKey> {
        let key = self.state_key.as_deref()?;
        Some(StateKey::new(self.kind.to_string().into(), key))
    }

    /// Whether its sender may say it.
    pub(super) fn may(&self, desk: &Desk<'_>) -> Result<(), Refusal> {
        let powers = may_speak(desk, &self.sender)?;
        may_send(powers, &self.sender, &self.kind, self.state_key.is_some())?;
        match &self.state_key {
            Some(key) if key.starts_with('@') && *key != *self.sender => {
                return Err(Refusal::forbidden(
                    "State whose key is a user id is that user's to set, and you are another.",
                ));
            }
            _ => {}
        }
        if self.kind == Kind::RoomPowerLevels && self.state_key.as_deref() == Some("") {
            let is_creator = |user: &UserId| powers.of(user) == Power::Infinite;
            power_levels::check_form(&self.content, &desk.look.rules, is_creator)?;
            let old = desk.look.law.power_levels.as_ref().and_then(|event| event.content_as().ok());
            if let Some(old) = old {
                let held = powers.of(&self.sender);
                power_levels::check_change(&old, &self.content, &self.sender, held)?;
            }
        }
        Ok(())
    }

    fn is_said_by(&self, event: &Pdu) -> bool {
        *event.sender() == self.sender
            && event
                .content_as::<CanonicalJsonObject>()
                .is_ok_and(|content| content == self.content)
    }

    /// It, ready to be sealed.
    pub(super) fn draft(&self) -> Draft {
        Draft {
            sender: self.sender.clone(),
            kind: self.kind.clone(),
            state_key: self.state_key.clone(),
            content: self.content.clone(),
            redacts: None,
        }
    }
}

/// Only those who are in a room say something there; who is not learns nothing else about it. Gives the room's levels.
pub(super) fn may_speak<'a>(desk: &'a Desk<'_>, sender: &UserId) -> Result<&'a Powers, Refusal> {
    let sentence = match desk.look.membership(sender) {
        Membership::Joined => {
            return desk.look.law.powers.as_deref().ok_or_else(|| {
                let sentence = "The power levels of this room cannot be read.";
                Refusal::new(RefusalKind::Unknown, sentence)
            });
        }
        Membership::Invited => "You are invited to this room but not in it: join it first.",
        Membership::Knocking => "You have knocked on this room but are not in it.",
        Membership::Banned => "You are banned from this room.",
        Membership::Left => "You are not in this room.",
    };
    Err(Refusal::forbidden(sentence))
}

/// Whether somebody has the level for this type of event.
pub(super) fn may_send(
    powers: &Powers,
    sender: &UserId,
    kind: &Kind,
    is_state: bool,
) -> Result<(), Refusal> {
    // The one type that asks for another level than its own.
    let needed = match kind {
        Kind::RoomThirdPartyInvite => powers.invite(),
        _ => powers.to_send(kind, is_state),
    };
    let held = powers.of(sender);
    if held >= Power::Level(needed) {
        return Ok(());
    }
    let what = if is_state { "set" } else { "send" };
    Err(Refusal::forbidden(format!(
        "To {what} `{kind}`, this room asks for power level {needed}; you have {held}."
    )))
}
