//! The table: seven verbs by five states.
//!
//! What it writes, the law allows in every room version, and where it is stricter than the law it has a reason; the
//! tests of this crate prove both. <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use super::{
    Action, Decision, JoinRule, Membership, Transition,
    sentences::{self as say},
};
use crate::{
    refusal::{Refusal, RefusalKind},
    room::Power,
};

use Decision::{NeedsAuthoriser, Unchanged, Write};
use Membership::{Banned, Invited, Joined, Knocking, Left};

/// What a verb means where things stand.
///
/// The actor's own standing is looked at first, so that someone outside of the room learns no levels.
#[must_use]
pub fn decide(transition: &Transition<'_>) -> Decision {
    let t = transition;
    if !t.action.is_own() && t.actor != Joined {
        return no(say::outsider(t));
    }
    // To unban says that there is a ban; where there is none any more, it is no repeat but a mistake.
    if t.same && t.from == t.action.result() && t.action != Action::Unban {
        return Unchanged;
    }
    match t.action {
        Action::Join => join(t),
        Action::Knock => knock(t),
        Action::Leave => leave(t),
        Action::Invite => invite(t),
        Action::Kick => kick(t),
        Action::Ban => ban(t),
        Action::Unban => unban(t),
    }
}

fn join(t: &Transition<'_>) -> Decision {
    let way_in = WayIn::of(t);
    match t.from {
        // The creator enters before there is anything else: before join rules, and before bans.
        _ if t.founding => Write,
        Banned => no(say::BANNED),
        _ if t.foreign => no(say::FOREIGN),
        // A change of profile is a join too, and the law asks the join rule again.
        Joined | Invited if way_in != WayIn::None => Write,
        Left | Knocking if way_in == WayIn::Open => Write,
        Left | Knocking if way_in == WayIn::Conditions && t.authoriser => Write,
        Left | Knocking if way_in == WayIn::Conditions => NeedsAuthoriser,
        Left | Knocking if way_in == WayIn::Invitation => no(say::not_invited(t)),
        Joined => no(say::no_profile_change(t)),
        Left | Invited | Knocking => no(say::nobody_may_join(t)),
    }
}

fn knock(t: &Transition<'_>) -> Decision {
    match t.from {
        Banned => no(say::BANNED),
        Joined => no("You are in this room already: there is nothing to knock for."),
        Invited => no("You are invited to this room: join it instead of knocking."),
        _ if t.foreign => no(say::FOREIGN),
        _ if !t.rules.knocking => no("This room's version does not know knocking."),
        Left | Knocking if may_knock(t) => Write,
        Left | Knocking => no(say::no_knocking(t)),
    }
}

fn leave(t: &Transition<'_>) -> Decision {
    match t.from {
        Left => Unchanged,
        Banned => no(
            "You are banned from this room. A ban is lifted by those who may ban, not by leaving.",
        ),
        _ if t.foreign => no(say::FOREIGN),
        Knocking if !t.rules.knocking => no("This room's version does not know knocking."),
        Joined | Invited | Knocking => Write,
    }
}

fn invite(t: &Transition<'_>) -> Decision {
    match t.from {
        _ if t.actor_power < Power::Level(t.levels.invite) => {
            no(say::level("invite", t.levels.invite, t))
        }
        Joined => no("They are in this room already."),
        Banned => {
            no("They are banned from this room and must be unbanned before they can be invited.")
        }
        _ if t.foreign => {
            no("This room does not federate: only users of its creator's server can be invited.")
        }
        Left | Invited | Knocking => Write,
    }
}

fn kick(t: &Transition<'_>) -> Decision {
    match t.from {
        _ if t.actor_power < Power::Level(t.levels.kick) => {
            no(say::level("kick", t.levels.kick, t))
        }
        Left => no("They are not in this room: there is nobody to kick."),
        Banned => no("They are banned from this room: to lift the ban, unban them."),
        _ if t.actor_power <= t.target_power => no(say::rank("kick", t)),
        Joined | Invited | Knocking => Write,
    }
}

fn ban(t: &Transition<'_>) -> Decision {
    if t.actor_power < Power::Level(t.levels.ban) {
        no(say::level("ban", t.levels.ban, t))
    } else if t.actor_power <= t.target_power {
        no(say::rank("ban", t))
    } else {
        Write
    }
}

/// The law has no word for it: it is a leave by somebody else, which asks for the level to kick, of somebody banned,
/// which asks for the level to ban.
fn unban(t: &Transition<'_>) -> Decision {
    let needed = t.levels.ban.max(t.levels.kick);
    match t.from {
        _ if t.actor_power < Power::Level(needed) => no(say::unban_level(t)),
        Left | Invited | Joined | Knocking => Decision::Refuse(Refusal::new(
            RefusalKind::BadState,
            "They are not banned from this room: there is no ban to lift.",
        )),
        Banned if t.actor_power <= t.target_power => no(say::rank("unban", t)),
        Banned => Write,
    }
}

/// What a join rule asks of somebody who is not in the room, in the room's version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WayIn {
    /// Nothing.
    Open,
    /// An invite.
    Invitation,
    /// An invite, or that a condition holds.
    Conditions,
    /// There is none, not even for the invited, and no change of profile for those who are in.
    None,
}

impl WayIn {
    fn of(t: &Transition<'_>) -> Self {
        match t.join_rule {
            JoinRule::Public => Self::Open,
            JoinRule::Invite => Self::Invitation,
            JoinRule::Knock if t.rules.knocking => Self::Invitation,
            JoinRule::Restricted if t.rules.restricted_join_rule => Self::Conditions,
            JoinRule::KnockRestricted if t.rules.knock_restricted_join_rule => Self::Conditions,
            JoinRule::Knock
            | JoinRule::Restricted
            | JoinRule::KnockRestricted
            | JoinRule::Private
            | JoinRule::Unknown
            | JoinRule::Missing => Self::None,
        }
    }
}

fn may_knock(t: &Transition<'_>) -> bool {
    match t.join_rule {
        JoinRule::Knock => t.rules.knocking,
        JoinRule::KnockRestricted => t.rules.knock_restricted_join_rule,
        _ => false,
    }
}

fn no(sentence: impl Into<String>) -> Decision {
    Decision::Refuse(Refusal::forbidden(sentence))
}
