//! Memberships: the five states, the seven verbs and the table that joins them.

mod sentences;
mod table;

use std::{fmt, str::FromStr};

use ruma::{
    room::JoinRuleKind, room_version_rules::AuthorizationRules,
    state_res::events::RoomJoinRulesEvent,
};

pub use self::table::decide;
use crate::{
    event::Pdu,
    refusal::Refusal,
    room::{Levels, Power},
};

/// What somebody is to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Membership {
    /// Not in it: left, kicked, unbanned or never there.
    Left,
    /// Invited.
    Invited,
    /// In it.
    Joined,
    /// Has asked to be invited.
    Knocking,
    /// Banned.
    Banned,
}

/// What somebody wants to do about a membership. A verb, because four of them write `leave`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Enter the room, or change one's profile in it.
    Join,
    /// Invite somebody, or accept a knock.
    Invite,
    /// Ask to be invited.
    Knock,
    /// Leave, reject an invite or take back a knock.
    Leave,
    /// Remove somebody, revoke an invite or deny a knock.
    Kick,
    /// Ban somebody.
    Ban,
    /// Lift a ban.
    Unban,
}

/// Who may enter a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JoinRule {
    /// Everybody.
    Public,
    /// The invited.
    Invite,
    /// The invited; others may ask.
    Knock,
    /// The invited, and those who are in certain other rooms.
    Restricted,
    /// Like `Restricted`; others may ask.
    KnockRestricted,
    /// Reserved by the specification: nobody.
    Private,
    /// A word that the law does not know: nobody.
    Unknown,
    /// The room has no join rules: nobody.
    Missing,
}

/// A verb with all that decides about it.
///
/// The *actor* does it, the *target* is the one whose membership it is; for join, knock and leave they are the same
/// user, and `actor` equals `from`.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts about one event")]
pub struct Transition<'a> {
    /// The verb.
    pub action: Action,
    /// What the target is now.
    pub from: Membership,
    /// What the actor is now.
    pub actor: Membership,
    /// The actor's power.
    pub actor_power: Power,
    /// The target's power.
    pub target_power: Power,
    /// The levels that the room asks for.
    pub levels: Levels,
    /// The room's join rule.
    pub join_rule: JoinRule,
    /// For a join by a restricted rule: the content names a joined user who may invite.
    pub authoriser: bool,
    /// The join that follows the create event and nothing else, by the room's creator.
    pub founding: bool,
    /// The room does not federate (`m.federate: false`) and the target is of another server than its creator.
    pub foreign: bool,
    /// The event that stands is by the same sender with the same content.
    pub same: bool,
    /// The rules of the room's version.
    pub rules: &'a AuthorizationRules,
}

/// What the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write the member event.
    Write,
    /// Nothing changes: the event that stands is the answer.
    Unchanged,
    /// The join is allowed if it names a user of ours who is in the room and may invite, and one of the rule's
    /// conditions holds.
    NeedsAuthoriser,
    /// No.
    Refuse(Refusal),
}

impl Membership {
    /// All five.
    pub const ALL: [Self; 5] =
        [Self::Left, Self::Invited, Self::Joined, Self::Knocking, Self::Banned];

    /// The word that events use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "leave",
            Self::Invited => "invite",
            Self::Joined => "join",
            Self::Knocking => "knock",
            Self::Banned => "ban",
        }
    }
}

impl Action {
    /// All seven.
    pub const ALL: [Self; 7] =
        [Self::Join, Self::Invite, Self::Knock, Self::Leave, Self::Kick, Self::Ban, Self::Unban];

    /// What the target is afterwards.
    #[must_use]
    pub fn result(self) -> Membership {
        match self {
            Self::Join => Membership::Joined,
            Self::Invite => Membership::Invited,
            Self::Knock => Membership::Knocking,
            Self::Leave | Self::Kick | Self::Unban => Membership::Left,
            Self::Ban => Membership::Banned,
        }
    }

    /// Whether one does this to oneself.
    #[must_use]
    pub fn is_own(self) -> bool {
        matches!(self, Self::Join | Self::Knock | Self::Leave)
    }
}

impl JoinRule {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Public,
        Self::Invite,
        Self::Knock,
        Self::Restricted,
        Self::KnockRestricted,
        Self::Private,
        Self::Unknown,
        Self::Missing,
    ];

    /// The rule that a room's `m.room.join_rules` sets. What the law cannot read is [`JoinRule::Unknown`].
    #[must_use]
    pub fn read(event: Option<&Pdu>) -> Self {
        let Some(event) = event else { return Self::Missing };
        match RoomJoinRulesEvent::new(event).join_rule() {
            Ok(JoinRuleKind::Public) => Self::Public,
            Ok(JoinRuleKind::Invite) => Self::Invite,
            Ok(JoinRuleKind::Knock) => Self::Knock,
            Ok(JoinRuleKind::Restricted) => Self::Restricted,
            Ok(JoinRuleKind::KnockRestricted) => Self::KnockRestricted,
            Ok(JoinRuleKind::Private) => Self::Private,
            Ok(_) | Err(_) => Self::Unknown,
        }
    }
}

/// A word that is no membership.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no membership; `invite`, `join`, `knock`, `leave` and `ban` are")]
pub struct UnknownMembership(pub String);

impl FromStr for Membership {
    type Err = UnknownMembership;

    fn from_str(word: &str) -> Result<Self, UnknownMembership> {
        Self::ALL
            .into_iter()
            .find(|membership| membership.as_str() == word)
            .ok_or_else(|| UnknownMembership(word.to_owned()))
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_are_the_words_of_events() {
        for membership in Membership::ALL {
            assert_eq!(membership.as_str().parse(), Ok(membership));
            assert_eq!(membership.to_string(), membership.as_str());
        }
        let error = "Join".parse::<Membership>().unwrap_err();
        assert_eq!(error, UnknownMembership("Join".to_owned()));
        assert!(error.to_string().contains("`knock`"));
    }

    #[test]
    fn a_verb_knows_what_it_makes_of_its_target() {
        let results: Vec<_> = Action::ALL.into_iter().map(Action::result).collect();
        let words: Vec<_> = results.into_iter().map(Membership::as_str).collect();
        assert_eq!(words, ["join", "invite", "knock", "leave", "leave", "ban", "leave"]);
        let own: Vec<_> = Action::ALL.into_iter().filter(|action| action.is_own()).collect();
        assert_eq!(own, [Action::Join, Action::Knock, Action::Leave]);
    }
}
