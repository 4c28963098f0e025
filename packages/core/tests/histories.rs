//! Generated histories: rooms that fork and meet again, resolved and compared with the whole algorithm.

use std::collections::{HashMap, HashSet};

use matryx_core::room::{StateMap, judge_by_auth_events, resolve};
use proptest::{prelude::*, test_runner::RngSeed};
use ruma::{
    EventId, OwnedEventId, RoomVersionId,
    events::StateEventType,
    state_res::{self, utils::event_id_set::EventIdSet},
};
use serde_json::{Value, json};

use crate::world::{Branch, VERSIONS, World, draft};

const USERS: [&str; 5] = ["@ada:x", "@bob:x", "@cat:y", "@dan:y", "@eve:z"];

/// Something that somebody tries to do; the law may forbid it.
#[derive(Clone, Debug)]
struct Step {
    verb: Verb,
    actor: usize,
    target: usize,
    /// Small, so that events of different branches often have the same time.
    time: u32,
}

#[derive(Clone, Debug)]
enum Verb {
    Join,
    Leave,
    Invite,
    Kick,
    Ban,
    Level(i64),
    Rule(&'static str),
    Topic,
    Name,
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        4 => Just(Verb::Join),
        1 => Just(Verb::Leave),
        1 => Just(Verb::Invite),
        1 => Just(Verb::Kick),
        2 => Just(Verb::Ban),
        3 => prop_oneof![Just(0), Just(50), Just(60), Just(100)].prop_map(Verb::Level),
        2 => prop_oneof![Just("public"), Just("invite"), Just("knock")].prop_map(Verb::Rule),
        2 => Just(Verb::Topic),
        1 => Just(Verb::Name),
    ]
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    // Those with power act more often than those without.
    let actor = prop_oneof![3 => Just(0_usize), 3 => Just(1), 4 => 0..USERS.len()];
    let step = (verb(), actor, 0..USERS.len(), 0..6_u32)
        .prop_map(|(verb, actor, target, time)| Step { verb, actor, target, time });
    prop::collection::vec(step, 0..most)
}

/// A trunk, and then rounds in which the room forks into branches and meets again.
#[derive(Clone, Debug)]
struct History {
    version: RoomVersionId,
    trunk: Vec<Step>,
    rounds: Vec<Vec<Vec<Step>>>,
}

fn history() -> impl Strategy<Value = History> {
    let round = prop::collection::vec(steps(8), 2..4);
    (0..VERSIONS.len(), steps(12), prop::collection::vec(round, 1..4)).prop_map(
        |(version, trunk, rounds)| History { version: VERSIONS[version].clone(), trunk, rounds },
    )
}

impl World {
    fn attempt(&mut self, branch: &mut Branch, step: &Step) {
        let (actor, target) = (USERS[step.actor], USERS[step.target]);
        let member = |target: &str, word: &str| {
            draft(actor, "m.room.member", Some(target), json!({"membership": word}))
        };
        let draft = match &step.verb {
            Verb::Join => member(actor, "join"),
            Verb::Leave => member(actor, "leave"),
            Verb::Invite => member(target, "invite"),
            Verb::Kick => member(target, "leave"),
            Verb::Ban => member(target, "ban"),
            Verb::Level(level) => {
                let levels = self.look_up(&branch.state, &StateEventType::RoomPowerLevels, "");
                let mut content: Value = levels.unwrap().content_as().unwrap();
                content["users"][target] = json!(level);
                draft(actor, "m.room.power_levels", Some(""), content)
            }
            Verb::Rule(rule) => {
                draft(actor, "m.room.join_rules", Some(""), json!({"join_rule": rule}))
            }
            Verb::Topic => draft(actor, "m.room.topic", Some(""), json!({"topic": step.time})),
            Verb::Name => draft(actor, "m.room.name", Some(""), json!({"name": target})),
        };
        let _ = self.say(branch, draft, 2_000_000 + step.time);
    }

    /// The whole algorithm, as it is written, without anything left out.
    fn resolve_in_full(
        &self,
        forks: &[StateMap],
    ) -> HashMap<(StateEventType, String), OwnedEventId> {
        let chain_of = |id: &OwnedEventId| {
            let (mut chain, mut stack) = (HashSet::new(), vec![id.clone()]);
            while let Some(id) = stack.pop() {
                if chain.insert(id.clone()) {
                    stack.extend(self.events[&id].auth_events().iter().cloned());
                }
            }
            chain
        };
        let maps: Vec<state_res::StateMap<OwnedEventId>> = forks
            .iter()
            .map(|fork| {
                fork.iter()
                    .map(|(key, entry)| {
                        ((key.kind.clone(), key.key.to_string()), entry.event_id.clone())
                    })
                    .collect()
            })
            .collect();
        let chains: Vec<EventIdSet<OwnedEventId>> =
            maps.iter().map(|map| map.values().flat_map(chain_of).collect()).collect();
        let subgraph = |conflicted: &state_res::StateMap<Vec<OwnedEventId>>| {
            let conflicted: HashSet<_> = conflicted.values().flatten().cloned().collect();
            let below: HashSet<_> = conflicted.iter().flat_map(chain_of).collect();
            let reaches = |id: &OwnedEventId| !chain_of(id).is_disjoint(&conflicted);
            Some(below.into_iter().filter(reaches).collect())
        };
        let algorithm = self.rules.state_res.v2_rules().unwrap();
        let fetch = |id: &EventId| self.fetch(id);
        state_res::resolve(&self.rules.authorization, algorithm, &maps, chains, fetch, subgraph)
            .unwrap()
    }

    fn resolved(&self, forks: &[StateMap]) -> StateMap {
        resolve(&self.rules, forks, &|id| self.fetch(id)).unwrap()
    }

    /// Resolves these forks, and checks all that must be true of the outcome.
    pub(crate) fn check(&self, forks: &[StateMap]) {
        let resolved = self.resolved(forks);
        let ids: HashMap<_, _> = resolved
            .iter()
            .map(|(key, entry)| ((key.kind.clone(), key.key.to_string()), entry.event_id.clone()))
            .collect();
        assert_eq!(ids, self.resolve_in_full(forks), "what was left out mattered");

        // The order of the forks, and one that comes twice, change nothing.
        let mut turned = forks.to_vec();
        for _ in 0..forks.len() {
            turned.rotate_left(1);
            assert_eq!(self.resolved(&turned), resolved);
        }
        turned.reverse();
        turned.push(forks[0].clone());
        assert_eq!(self.resolved(&turned), resolved);
        // Those who agree have nothing to resolve.
        assert_eq!(self.resolved(&forks[..1]), forks[0]);
        assert_eq!(self.resolved(&[resolved.clone(), resolved.clone()]), resolved);

        for (key, entry) in &resolved {
            let event = self.fetch(&entry.event_id).unwrap();
            assert_eq!(event.key().as_ref(), Some(key));
            assert_eq!(event.membership(), entry.membership);
            judge_by_auth_events(&event, &self.rules, &|id| self.fetch(id)).unwrap();
        }
        // What all agree on stands.
        for (key, entry) in &forks[0] {
            if forks.iter().all(|fork| fork.get(key) == Some(entry)) {
                assert_eq!(resolved.get(key), Some(entry));
            }
        }
    }
}

/// The same histories every time; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` ask for others and for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let rng_seed = match default.rng_seed {
        RngSeed::Random => RngSeed::Fixed(12),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 150 };
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn forks_meet_in_one_lawful_state(history in history()) {
        let (mut world, mut room) = World::public(&history.version, USERS[0]);
        for step in &history.trunk {
            world.attempt(&mut room, step);
        }
        for round in &history.rounds {
            let mut branches = vec![room.clone(); round.len()];
            for (branch, steps) in branches.iter_mut().zip(round) {
                for step in steps {
                    world.attempt(branch, step);
                }
            }
            let forks: Vec<_> = branches.iter().map(|branch| branch.state.clone()).collect();
            world.check(&forks);
            let branches: Vec<_> = branches.iter().collect();
            room = world.merged(&branches);
        }
    }
}
