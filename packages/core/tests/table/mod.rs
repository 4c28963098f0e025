//! The proof of the membership table: what it writes, the law allows; where it is stricter, a list says why.
//!
//! Exhaustive over verbs, the target's and the actor's membership, powers (below, equal, above, creators, rooms without
//! power levels), join rules (all, unknown and missing ones too) and the advertised room versions.

mod settings;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use matryx_core::{
    event::Pdu,
    membership::{Action, Decision, JoinRule, Membership, Transition, decide},
    room::{auth_keys, judge_by_auth_events, judge_by_state},
};
use ruma::{
    EventId, OwnedEventId, RoomVersionId, events::StateEventType,
    room_version_rules::RoomVersionRules,
};
use serde_json::json;

use self::settings::{Setting, join_rules, pdu, settings, state};
use crate::world::{VERSIONS, rules, user};
use Membership::{Banned, Invited, Joined, Knocking, Left};

/// Refusals of what the law would allow.
const STRICTER: [Stricter; 5] = [
    Stricter {
        name: "kick of somebody who is not in the room",
        reason: "the law lets somebody who left be made to leave, which changes nothing; whoever asks is told",
        applies: |case| case.action == Action::Kick && !case.alone && case.from == Left,
    },
    Stricter {
        name: "kick of the banned",
        reason: "to the law it lifts the ban, which nobody means by a kick",
        applies: |case| case.action == Action::Kick && !case.alone && case.from == Banned,
    },
    Stricter {
        name: "kick or unban of oneself",
        reason: "to the law it is leaving, which has a verb of its own",
        applies: |case| matches!(case.action, Action::Kick | Action::Unban) && case.alone,
    },
    Stricter {
        name: "unban of somebody who is not banned",
        reason: "to the law it is a kick, which nobody means by an unban",
        applies: |case| case.action == Action::Unban && !case.alone && case.from != Banned,
    },
    Stricter {
        name: "invite of a user of another server to a room that does not federate",
        reason: "the law looks at the inviter's server only; the invited could never join",
        applies: |case| case.action == Action::Invite && case.foreign,
    },
];

struct Stricter {
    name: &'static str,
    reason: &'static str,
    applies: fn(&Case) -> bool,
}

/// One cell of the table, and all that surrounds it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "like the transition that it is about")]
struct Case {
    action: Action,
    from: Membership,
    actor: Membership,
    /// The actor is the target.
    alone: bool,
    rule: JoinRule,
    founding: bool,
    authoriser: bool,
    foreign: bool,
    same: bool,
}

/// What stands under a user's key: nothing, or a membership.
const STANDINGS: [Option<Membership>; 6] =
    [None, Some(Left), Some(Invited), Some(Joined), Some(Knocking), Some(Banned)];

#[derive(Default)]
struct Tally {
    cases: u64,
    written: BTreeMap<(Action, Membership), u64>,
    stricter: [u64; STRICTER.len()],
}

#[test]
fn the_table_writes_only_what_the_law_allows() {
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            VERSIONS.iter().map(|version| scope.spawn(|| prove(version))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    for (version, tally) in VERSIONS.iter().zip(&tallies) {
        println!("version {version}: {} cases", tally.cases);
        assert!(tally.cases > 50_000, "the proof has lost its cases");
    }
    for (index, entry) in STRICTER.iter().enumerate() {
        let used: u64 = tallies.iter().map(|tally| tally.stricter[index]).sum();
        println!("{used} times stricter than the law: {}, because {}", entry.name, entry.reason);
        assert!(used > 0, "nothing is refused because of: {}", entry.name);
    }
    // Every cell that means something is written in the newest version.
    let written: Vec<_> = tallies[VERSIONS.len() - 1].written.keys().copied().collect();
    let expected = [
        (Action::Join, vec![Left, Invited, Joined, Knocking, Banned]),
        (Action::Invite, vec![Left, Invited, Knocking]),
        (Action::Knock, vec![Left, Knocking]),
        (Action::Leave, vec![Invited, Joined, Knocking]),
        (Action::Kick, vec![Invited, Joined, Knocking]),
        (Action::Ban, vec![Left, Invited, Joined, Knocking, Banned]),
        (Action::Unban, vec![Banned]),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .flat_map(|(action, froms)| froms.into_iter().map(move |from| (action, from)))
        .collect();
    assert_eq!(written, expected);
}

fn prove(version: &RoomVersionId) -> Tally {
    let rules = rules(version);
    let mut tally = Tally::default();
    let made = Made::default();
    for setting in settings(version) {
        for content in join_rules() {
            let join_rules =
                content.map(|content| state("rules", "m.room.join_rules", "", &content));
            for target in STANDINGS {
                for (action, actor) in verbs() {
                    let room = Room {
                        setting: &setting,
                        join_rules: join_rules.clone(),
                        target,
                        actor,
                        version,
                        rules: &rules,
                        made: &made,
                    };
                    room.prove(action, &mut tally);
                }
            }
        }
    }
    tally
}

/// The verbs with who may try them: oneself only, or also others of every standing.
fn verbs() -> impl Iterator<Item = (Action, Actor)> {
    Action::ALL.into_iter().flat_map(|action| {
        let others = STANDINGS.into_iter().filter(move |_| !action.is_own()).map(Actor::Other);
        std::iter::once(Actor::Target).chain(others).map(move |actor| (action, actor))
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Actor {
    /// The target acts.
    Target,
    /// Somebody else acts, who stands like this.
    Other(Option<Membership>),
}

struct Room<'a> {
    setting: &'a Setting,
    join_rules: Option<Arc<Pdu>>,
    target: Option<Membership>,
    actor: Actor,
    version: &'a RoomVersionId,
    rules: &'a RoomVersionRules,
    made: &'a Made,
}

/// Member events that were made before: parsing them is what takes the time. By all that distinguishes them, the auth
/// events by their ids.
type Made = RefCell<
    HashMap<
        (&'static str, &'static str, Option<Action>, &'static str, [bool; 2], Vec<OwnedEventId>),
        Arc<Pdu>,
    >,
>;

impl Room<'_> {
    fn prove(&self, action: Action, tally: &mut Tally) {
        let both: &[bool] = &[false, true];
        let only_join = if action == Action::Join { both } else { &[false] };
        for &founding in only_join {
            for &authoriser in only_join {
                let law = self.law(action, founding, authoriser);
                for &same in both {
                    let case = self.case(action, founding, authoriser, same);
                    let decision = decide(&self.transition(&case));
                    self.compare(&case, &decision, &law, tally);
                }
            }
        }
    }

    fn case(&self, action: Action, founding: bool, authoriser: bool, same: bool) -> Case {
        let from = self.target.unwrap_or(Left);
        Case {
            action,
            from,
            actor: match self.actor {
                Actor::Target => from,
                Actor::Other(standing) => standing.unwrap_or(Left),
            },
            alone: self.actor == Actor::Target,
            rule: JoinRule::read(self.join_rules.as_deref()),
            founding: founding && self.founder(),
            authoriser,
            foreign: self.setting.target == "@t:y",
            same,
        }
    }

    fn transition(&self, case: &Case) -> Transition<'_> {
        let powers = &self.setting.powers;
        Transition {
            action: case.action,
            from: case.from,
            actor: case.actor,
            actor_power: powers.of(&user(self.sender())),
            target_power: powers.of(&user(self.setting.target)),
            levels: powers.levels(),
            join_rule: case.rule,
            authoriser: case.authoriser,
            founding: case.founding,
            foreign: case.foreign,
            same: case.same,
            rules: &self.rules.authorization,
        }
    }

    /// Whether the target made the room.
    fn founder(&self) -> bool {
        self.setting.create.sender() == self.setting.target
    }

    fn sender(&self) -> &'static str {
        if self.actor == Actor::Target { self.setting.target } else { "@a:x" }
    }

    fn compare(
        &self,
        case: &Case,
        decision: &Decision,
        law: &Result<(), String>,
        tally: &mut Tally,
    ) {
        tally.cases += 1;
        let about = || format!("version {}: {case:?}: {decision:?} vs {law:?}", self.version);
        let listed: Vec<usize> =
            (0..STRICTER.len()).filter(|index| (STRICTER[*index].applies)(case)).collect();
        match decision {
            Decision::Write => {
                assert!(law.is_ok(), "the law forbids what the table writes: {}", about());
                assert!(listed.is_empty(), "listed as refused, but written: {}", about());
                *tally.written.entry((case.action, case.from)).or_default() += 1;
            }
            Decision::Unchanged => {
                let nothing_to_leave = case.action == Action::Leave && case.from == Left;
                assert!(case.same || nothing_to_leave, "nothing stands already: {}", about());
                assert_eq!(case.from, case.action.result(), "{}", about());
            }
            Decision::NeedsAuthoriser => {
                assert!(law.is_err(), "the law asks for no authoriser: {}", about());
                let with = self.law(case.action, false, true);
                assert!(with.is_ok(), "an authoriser does not help: {with:?}: {}", about());
            }
            Decision::Refuse(refusal) => {
                if law.is_ok() {
                    let [index] = listed[..] else {
                        panic!("stricter than the law without a reason: {}", about())
                    };
                    tally.stricter[index] += 1;
                }
                if !case.action.is_own() && case.actor != Joined {
                    let told = &refusal.sentence;
                    assert!(!told.contains(|c: char| c.is_ascii_digit()), "an outsider: {told}");
                }
            }
        }
    }

    /// What the law says: by the room's state, and by the auth events that the state gives.
    fn law(&self, action: Action, founding: bool, authoriser: bool) -> Result<(), String> {
        let event = |auth: &[Arc<Pdu>]| self.attempt(action, founding, authoriser, auth);
        let actor = match self.actor {
            Actor::Other(Some(standing)) => Some(self.member("a", "@a:x", standing)),
            Actor::Other(None) | Actor::Target => None,
        };
        let target = self.target.map(|standing| self.member("t", self.setting.target, standing));
        let vouching = self.member("c", "@c:x", Joined);
        let state = |kind: &StateEventType, key: &str| match (kind, key) {
            (StateEventType::RoomCreate, "") => Some(Arc::clone(&self.setting.create)),
            (StateEventType::RoomPowerLevels, "") => self.setting.levels.clone(),
            (StateEventType::RoomJoinRules, "") => self.join_rules.clone(),
            (StateEventType::RoomMember, "@a:x") => actor.clone(),
            (StateEventType::RoomMember, "@c:x") => Some(Arc::clone(&vouching)),
            (StateEventType::RoomMember, _) => target.clone(),
            _ => None,
        };

        let bare = event(&[]);
        let by_state = judge_by_state(&bare, self.rules, &state);
        let (kind, key) = (bare.kind(), bare.state_key());
        let keys = auth_keys(kind, bare.sender(), key, bare.content(), self.rules).unwrap();
        let auth: Vec<_> = keys.iter().filter_map(|key| state(&key.kind, &key.key)).collect();
        let fetch = |id: &EventId| {
            let create = [Arc::clone(&self.setting.create)];
            auth.iter().chain(&create).find(|event| *event.event_id() == id).cloned()
        };
        let by_auth_events = judge_by_auth_events(&event(&auth), self.rules, &fetch);
        assert_eq!(by_state, by_auth_events, "the auth events do not show what the state shows");
        by_state
    }

    /// The event that the verb would write.
    fn attempt(
        &self,
        action: Action,
        founding: bool,
        authoriser: bool,
        auth: &[Arc<Pdu>],
    ) -> Arc<Pdu> {
        let (sender, target) = (self.sender(), self.setting.target);
        let word = action.result().as_str();
        let ids = auth.iter().map(|event| event.event_id().clone()).collect();
        let key = (sender, target, Some(action), word, [founding, authoriser], ids);
        let make = || {
            let mut content = json!({"membership": word});
            if authoriser {
                content["join_authorised_via_users_server"] = json!("@c:x");
            }
            let prev = if founding { "create" } else { "prev" };
            pdu("new", "m.room.member", sender, target, &content, prev, auth)
        };
        Arc::clone(self.made.borrow_mut().entry(key).or_insert_with(make))
    }

    /// The event that made somebody what they are.
    fn member(&self, name: &'static str, who: &'static str, membership: Membership) -> Arc<Pdu> {
        let word = membership.as_str();
        let make = || state(name, "m.room.member", who, &json!({"membership": word}));
        let key = (name, who, None, word, [false; 2], Vec::new());
        Arc::clone(self.made.borrow_mut().entry(key).or_insert_with(make))
    }
}
