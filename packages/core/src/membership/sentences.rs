//! What somebody is told who may not.

use super::{JoinRule, Membership, Transition};
use crate::room::Power;

pub(super) const BANNED: &str =
    "You are banned from this room. Only those who may ban can lift the ban.";
pub(super) const FOREIGN: &str =
    "This room does not federate: it is only for users of its creator's server.";

/// The actor is not in the room, and learns nothing about it but that.
pub(super) fn outsider(t: &Transition<'_>) -> String {
    match t.actor {
        Membership::Banned => BANNED.to_owned(),
        Membership::Invited => {
            "You are invited to this room but not in it. Join it before you act on others.".to_owned()
        }
        Membership::Knocking => {
            "You have knocked on this room but are not in it. Only those who are in it can act on others.".to_owned()
        }
        Membership::Left | Membership::Joined => {
            "You are not in this room. Only those who are in it can act on others.".to_owned()
        }
    }
}

/// The actor lacks the level for the verb.
pub(super) fn level(verb: &str, needed: i64, t: &Transition<'_>) -> String {
    format!(
        "To {verb} somebody, this room asks for power level {needed}; you have {}.",
        t.actor_power
    )
}

/// The actor lacks one of the two levels that unbanning takes.
pub(super) fn unban_level(t: &Transition<'_>) -> String {
    format!(
        "To unban somebody, this room asks for the power levels to ban ({}) and to kick ({}); you have {}.",
        t.levels.ban, t.levels.kick, t.actor_power
    )
}

/// The actor has the level but the target is not below.
pub(super) fn rank(verb: &str, t: &Transition<'_>) -> String {
    match t.target_power {
        Power::Infinite => {
            format!(
                "Nobody can {verb} a creator of this room, whatever their power; you have {}.",
                t.actor_power
            )
        }
        Power::Level(theirs) => format!(
            "You can only {verb} those with less power than you have: you have {}, they have {theirs}.",
            t.actor_power
        ),
    }
}

/// The room is for the invited.
pub(super) fn not_invited(t: &Transition<'_>) -> String {
    let knocking = if t.join_rule == JoinRule::Knock && t.from == Membership::Left {
        " You can knock to ask for an invite."
    } else if t.from == Membership::Knocking {
        " You have knocked; nobody has answered yet."
    } else {
        ""
    };
    format!(
        "This room can only be joined by the invited (join rule {}), and you are not.{knocking}",
        word(t.join_rule)
    )
}

/// Nobody gets in.
pub(super) fn nobody_may_join(t: &Transition<'_>) -> String {
    match t.join_rule {
        JoinRule::Missing => {
            "This room has no join rules, so nobody may join it, invited or not.".to_owned()
        }
        rule => format!(
            "This room's join rule ({}) lets nobody join in this room version, invited or not.",
            word(rule)
        ),
    }
}

/// A profile cannot change where nobody may join.
pub(super) fn no_profile_change(t: &Transition<'_>) -> String {
    format!("{} A change of profile is written as a join.", nobody_may_join(t))
}

/// The join rule does not let people knock.
pub(super) fn no_knocking(t: &Transition<'_>) -> String {
    match t.join_rule {
        JoinRule::Public => "This room is public: join it instead of knocking.".to_owned(),
        JoinRule::Missing => "This room has no join rules, so nobody may knock on it.".to_owned(),
        rule => format!(
            "This room does not take knocks: its join rule is {}, and it would have to be `knock` or, since room version 10, `knock_restricted`.",
            word(rule)
        ),
    }
}

fn word(rule: JoinRule) -> &'static str {
    match rule {
        JoinRule::Public => "`public`",
        JoinRule::Invite => "`invite`",
        JoinRule::Knock => "`knock`",
        JoinRule::Restricted => "`restricted`",
        JoinRule::KnockRestricted => "`knock_restricted`",
        JoinRule::Private => "`private`",
        JoinRule::Unknown => "unknown",
        JoinRule::Missing => "missing",
    }
}
