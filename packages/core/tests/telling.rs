//! What people are told by the membership table, cell by cell.

use matryx_core::{
    membership::{Action, Decision, JoinRule, Membership, Transition, decide},
    room::{Levels, Power},
};
use ruma::room_version_rules::AuthorizationRules;

use Membership::{Banned, Invited, Joined, Left};

#[test]
fn refusals_say_which_rule_and_which_level() {
    let told = |change: &dyn Fn(&mut Transition<'_>)| {
        let mut transition = Transition {
            action: Action::Kick,
            from: Joined,
            actor: Joined,
            actor_power: Power::Level(50),
            target_power: Power::Level(0),
            levels: Levels { invite: 10, kick: 60, ban: 70 },
            join_rule: JoinRule::Invite,
            authoriser: false,
            founding: false,
            foreign: false,
            same: false,
            rules: &AuthorizationRules::V12,
        };
        change(&mut transition);
        match decide(&transition) {
            Decision::Refuse(refusal) => refusal.sentence,
            other => format!("{other:?}"),
        }
    };
    let act = |action: Action, from: Membership| {
        told(&|t| (t.action, t.from, t.actor) = (action, from, from))
    };

    assert_eq!(told(&|_| ()), "To kick somebody, this room asks for power level 60; you have 50.");
    assert_eq!(
        told(&|t| (t.actor_power, t.target_power) = (Power::Level(60), Power::Level(60))),
        "You can only kick those with less power than you have: you have 60, they have 60."
    );
    assert_eq!(
        told(&|t| (t.actor_power, t.target_power) = (Power::Infinite, Power::Infinite)),
        "Nobody can kick a creator of this room, whatever their power; \
         you have unlimited power, as a creator of the room."
    );
    assert_eq!(
        told(&|t| (t.actor_power, t.target_power) = (Power::Infinite, Power::Level(100))),
        "Write"
    );
    assert_eq!(
        told(&|t| t.actor = Left),
        "You are not in this room. Only those who are in it can act on others."
    );
    assert_eq!(
        told(&|t| (t.actor, t.same) = (Banned, true)),
        "You are banned from this room. Only those who may ban can lift the ban."
    );
    assert_eq!(
        told(&|t| (t.action, t.from) = (Action::Unban, Banned)),
        "To unban somebody, this room asks for the power levels to ban (70) and to kick (60); you have 50."
    );
    assert_eq!(
        told(&|t| (t.action, t.actor_power) = (Action::Unban, Power::Infinite)),
        "They are not banned from this room: there is no ban to lift."
    );
    assert_eq!(
        told(&|t| (t.action, t.actor_power) = (Action::Invite, Power::Level(9))),
        "To invite somebody, this room asks for power level 10; you have 9."
    );
    assert_eq!(
        told(&|t| (t.action, t.from, t.foreign) = (Action::Invite, Left, true)),
        "This room does not federate: only users of its creator's server can be invited."
    );
    assert_eq!(
        act(Action::Join, Left),
        "This room can only be joined by the invited (join rule `invite`), and you are not."
    );
    assert_eq!(
        told(&|t| (t.action, t.from, t.join_rule) = (Action::Join, Left, JoinRule::Knock)),
        "This room can only be joined by the invited (join rule `knock`), and you are not. \
         You can knock to ask for an invite."
    );
    assert_eq!(
        told(&|t| (t.action, t.from, t.join_rule) = (Action::Join, Invited, JoinRule::Private)),
        "This room's join rule (`private`) lets nobody join in this room version, invited or not."
    );
    assert_eq!(
        told(&|t| (t.action, t.join_rule) = (Action::Join, JoinRule::Missing)),
        "This room has no join rules, so nobody may join it, invited or not. \
         A change of profile is written as a join."
    );
    assert_eq!(
        told(&|t| (t.action, t.from, t.rules) = (Action::Knock, Left, &AuthorizationRules::V6)),
        "This room's version does not know knocking."
    );
    assert_eq!(
        act(Action::Knock, Left),
        "This room does not take knocks: its join rule is `invite`, and it would have to be \
         `knock` or, since room version 10, `knock_restricted`."
    );
    assert_eq!(
        act(Action::Leave, Banned),
        "You are banned from this room. A ban is lifted by those who may ban, not by leaving."
    );
}

#[test]
fn repeats_change_nothing() {
    for action in Action::ALL {
        for from in Membership::ALL {
            let decision = decide(&Transition {
                action,
                from,
                actor: if action.is_own() { from } else { Joined },
                actor_power: Power::Level(0),
                target_power: Power::Infinite,
                levels: Levels { invite: 1, kick: 1, ban: 1 },
                join_rule: JoinRule::Private,
                authoriser: false,
                founding: false,
                foreign: false,
                same: true,
                rules: &AuthorizationRules::V12,
            });
            // Also for those who have lost the power since: what they did stands.
            let unchanged = decision == Decision::Unchanged;
            let repeats = from == action.result() && action != Action::Unban;
            assert_eq!(unchanged, repeats, "{action:?} {from:?}: {decision:?}");
        }
    }
}
