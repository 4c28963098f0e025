//! Random sequences of membership changes against a model of what must come of them.
//!
//! `MATRYX_MODEL_CASES` and `MATRYX_MODEL_SEED` (numbers) ask for more than the ordinary run does.

use std::{env, fmt};

use futures::future::join_all;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::support::{Answer, SharedServer, Sync, SyncAnswer, TestServer, TestUser, runtime};

static SERVER: SharedServer = SharedServer::new();

/// How many users act; the owner of the room only looks on.
const USERS: usize = 4;

/// What somebody's standing in the room is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Never,
    Left,
    Invited,
    Joined,
    Knocking,
    Banned,
}

use Standing::{Banned, Invited, Joined, Knocking, Left, Never};

impl Standing {
    fn word(self) -> Option<&'static str> {
        match self {
            Never => None,
            Left => Some("leave"),
            Invited => Some("invite"),
            Joined => Some("join"),
            Knocking => Some("knock"),
            Banned => Some("ban"),
        }
    }

    /// The section of an initial sync.
    fn section(self, include_leave: bool) -> Option<&'static str> {
        match self {
            Never => None,
            Left | Banned => include_leave.then_some("leave"),
            _ => self.word(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Join,
    Knock,
    Leave,
    Forget,
    Invite(usize),
    Kick(usize),
    Ban(usize),
    Unban(usize),
}

/// Somebody does something.
#[derive(Clone, Copy)]
struct Step {
    who: usize,
    verb: Verb,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.who, self.verb)
    }
}

/// A room to try it in.
#[derive(Clone, Debug)]
struct Setting {
    version: &'static str,
    rule: &'static str,
    invite_level: i64,
    levels: [i64; USERS],
}

/// What must come of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A new event.
    Changed,
    /// A success without one.
    Same,
    Refused(u16, &'static str),
}

const FORBIDDEN: Outcome = Outcome::Refused(403, "M_FORBIDDEN");

/// What is known of one user.
#[derive(Clone, Copy, Debug)]
struct Member {
    standing: Standing,
    /// Who made it so, as far as that decides whether the same again is news.
    by: Option<usize>,
    forgotten: bool,
    /// When it changed last, counted in events.
    at: usize,
}

/// The model: what everybody's standing is, and what the rules make of a step.
#[derive(Clone, Debug)]
struct Model {
    setting: Setting,
    members: [Member; USERS],
    events: usize,
}

impl Model {
    fn new(setting: Setting) -> Self {
        let nobody = Member { standing: Never, by: None, forgotten: false, at: 0 };
        Self { setting, members: [nobody; USERS], events: 0 }
    }

    fn standing(&self, user: usize) -> Standing {
        self.members[user].standing
    }

    /// What must happen, and to whom.
    fn outcome(&self, step: Step) -> Outcome {
        let Step { who, verb } = step;
        let own = self.standing(who);
        match verb {
            Verb::Join => match (own, self.setting.rule) {
                (Joined, _) => Outcome::Same,
                (Banned, _) => FORBIDDEN,
                (Invited, _) | (_, "public") => Outcome::Changed,
                _ => FORBIDDEN,
            },
            Verb::Knock => match (own, self.setting.rule) {
                (Knocking, "knock") => Outcome::Same,
                (Never | Left, "knock") => Outcome::Changed,
                _ => FORBIDDEN,
            },
            Verb::Leave => match own {
                Never => Outcome::Refused(404, "M_NOT_FOUND"),
                Left => Outcome::Same,
                Banned => FORBIDDEN,
                Invited | Joined | Knocking => Outcome::Changed,
            },
            Verb::Forget => match own {
                Never => Outcome::Refused(404, "M_NOT_FOUND"),
                Left | Banned => Outcome::Same,
                _ => Outcome::Refused(400, "M_UNKNOWN"),
            },
            _ if own != Joined => FORBIDDEN,
            Verb::Invite(whom) => match self.standing(whom) {
                Joined | Banned => FORBIDDEN,
                _ if self.level(who) < self.setting.invite_level => FORBIDDEN,
                now => self.written(who, whom, now == Invited),
            },
            // What one has done already is done.
            Verb::Kick(whom) if self.is_left_by(who, whom) => Outcome::Same,
            Verb::Kick(whom) => match self.standing(whom) {
                Never | Left | Banned => FORBIDDEN,
                _ if who == whom || !self.rules_over(who, whom) => FORBIDDEN,
                _ => Outcome::Changed,
            },
            Verb::Ban(whom) => match self.standing(whom) {
                _ if !self.rules_over(who, whom) => FORBIDDEN,
                now => self.written(who, whom, now == Banned),
            },
            Verb::Unban(whom) => match self.standing(whom) {
                _ if self.level(who) < 50 => FORBIDDEN,
                Banned if !self.rules_over(who, whom) => FORBIDDEN,
                Banned => Outcome::Changed,
                _ => Outcome::Refused(403, "M_BAD_STATE"),
            },
        }
    }

    /// The same by the same is no news.
    fn written(&self, who: usize, whom: usize, same: bool) -> Outcome {
        if same && self.members[whom].by == Some(who) { Outcome::Same } else { Outcome::Changed }
    }

    fn is_left_by(&self, who: usize, whom: usize) -> bool {
        self.standing(whom) == Left && self.members[whom].by == Some(who)
    }

    fn level(&self, user: usize) -> i64 {
        self.setting.levels[user]
    }

    fn rules_over(&self, who: usize, whom: usize) -> bool {
        self.level(who) >= 50 && self.level(whom) < self.level(who)
    }

    fn apply(&mut self, step: Step) {
        let Step { who, verb } = step;
        let (whom, standing) = match verb {
            Verb::Forget => {
                self.members[who].forgotten = true;
                return;
            }
            Verb::Join => (who, Joined),
            Verb::Knock => (who, Knocking),
            Verb::Leave => (who, Left),
            Verb::Invite(whom) => (whom, Invited),
            Verb::Kick(whom) | Verb::Unban(whom) => (whom, Left),
            Verb::Ban(whom) => (whom, Banned),
        };
        self.events += 1;
        let member = &mut self.members[whom];
        // Being forgotten ends with coming near again.
        let forgotten = member.forgotten && matches!(standing, Left | Banned);
        *member = Member { standing, by: Some(who), forgotten, at: self.events };
    }

    /// The section of an incremental sync from a time counted in events.
    fn section_since(&self, user: usize, then: usize) -> Option<&'static str> {
        let member = self.members[user];
        if member.at > then {
            member.standing.section(true)
        } else if member.standing == Joined && self.events > then {
            Some("join")
        } else {
            None
        }
    }
}

/// The real thing, beside the model.
struct Trial {
    model: Model,
    room: String,
    owner: TestUser,
    users: Vec<TestUser>,
    /// Where each user's sync has got to, and the number of events then.
    since: Vec<(String, usize)>,
    /// Where it was at the beginning.
    first: Vec<String>,
}

impl Trial {
    async fn begin(server: &TestServer, setting: Setting) -> Self {
        let owner = server.user("owner").await;
        let users = server.users(["u0", "u1", "u2", "u3"]).await.to_vec();
        let levels: serde_json::Map<String, Value> = users
            .iter()
            .zip(setting.levels)
            .filter(|(_, level)| *level != 0)
            .map(|(user, level)| (user.id.clone(), json!(level)))
            .collect();
        let mut levels = json!({ "users": levels, "invite": setting.invite_level });
        if setting.version != "12" {
            levels["users"][&owner.id] = json!(100);
        }
        let room = owner
            .new_room(json!({
                "room_version": setting.version,
                "power_level_content_override": levels,
                "initial_state": [
                    { "type": "m.room.join_rules", "content": { "join_rule": setting.rule } },
                ],
            }))
            .await;
        let first: Vec<String> = join_all(users.iter().map(|user| user.sync(Sync::initial())))
            .await
            .into_iter()
            .map(|answer| answer.next_batch)
            .collect();
        let since = first.iter().map(|token| (token.clone(), 0)).collect();
        Self { model: Model::new(setting), room, owner, users, since, first }
    }

    async fn act(&self, step: Step) -> Answer {
        let (who, room) = (&self.users[step.who], &self.room);
        match step.verb {
            Verb::Join => who.join(room).await,
            Verb::Knock => who.knock(room).await,
            Verb::Leave => who.leave(room).await,
            Verb::Forget => who.forget(room).await,
            Verb::Invite(whom) => who.invite(room, &self.users[whom]).await,
            Verb::Kick(whom) => who.kick(room, &self.users[whom]).await,
            Verb::Ban(whom) => who.ban(room, &self.users[whom]).await,
            Verb::Unban(whom) => who.unban(room, &self.users[whom]).await,
        }
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let outcome = self.model.outcome(step);
        let answer = self.act(step).await;
        let got = (answer.status, answer.body["errcode"].as_str());
        let expected = match outcome {
            Outcome::Changed | Outcome::Same => (200, None),
            Outcome::Refused(status, errcode) => (status, Some(errcode)),
        };
        let text = &answer.text;
        prop_assert_eq!(got, expected, "{:?} in {:?}: {}", step, self.model, text);
        if outcome == Outcome::Changed
            || matches!((outcome, step.verb), (Outcome::Same, Verb::Forget))
        {
            self.model.apply(step);
        }
        self.check_members().await?;
        let checks = (0..USERS).map(|user| self.check_user(user));
        let answers = join_all(checks).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let now = self.model.events;
        self.since = answers.into_iter().map(|answer| (answer.next_batch, now)).collect();
        Ok(())
    }

    /// What the owner sees of everybody: the room's state, and `/members`.
    async fn check_members(&self) -> Result<(), TestCaseError> {
        let members = self.owner.members(&self.room, &[]).await.ok();
        let state = self.owner.state(&self.room).await.ok();
        for (events, place) in [(&members["chunk"], "/members"), (&state, "/state")] {
            for (user, member) in self.users.iter().zip(self.model.members) {
                let event = events.as_array().and_then(|events| {
                    events.iter().find(|event| {
                        event["type"] == "m.room.member" && event["state_key"] == user.id.as_str()
                    })
                });
                let now = event.and_then(|event| event["content"]["membership"].as_str());
                prop_assert_eq!(now, member.standing.word(), "{:?} in {}", user, place);
            }
        }
        Ok(())
    }

    /// What a user sees: the stored membership, and sync from nothing, from the last step and from the beginning.
    async fn check_user(&self, index: usize) -> Result<SyncAnswer, TestCaseError> {
        let (user, member) = (&self.users[index], self.model.members[index]);
        let (token, then) = &self.since[index];
        let include = json!({ "room": { "include_leave": true } });
        let (initial, with_left, next, late, joined) = futures::join!(
            user.sync(Sync::initial()),
            user.sync(Sync::initial().filter(&include)),
            user.sync(Sync::since(token)),
            user.sync(Sync::since(&self.first[index])),
            user.joined_rooms(),
        );
        let room = &self.room;
        let model = &self.model;
        prop_assert_eq!(
            joined.contains(room),
            member.standing == Joined,
            "joined_rooms of {}",
            index
        );
        let expected = member.standing.section(false);
        prop_assert_eq!(
            initial.section(room),
            expected,
            "initial sync of {} in {:?}",
            index,
            model
        );
        let expected = if member.forgotten { None } else { member.standing.section(true) };
        let found = with_left.section(room);
        prop_assert_eq!(found, expected, "with include_leave, of {} in {:?}", index, model);
        let expected = model.section_since(index, *then);
        let found = next.section(room);
        prop_assert_eq!(
            found,
            expected,
            "incremental sync of {} in {:?}: {}",
            index,
            model,
            next.body
        );
        let expected = model.section_since(index, 0);
        let found = late.section(room);
        prop_assert_eq!(found, expected, "late sync of {} in {:?}: {}", index, model, late.body);
        if matches!(next.section(room), Some("join" | "leave")) && member.at > *then {
            let seen = next.room(room).membership(user);
            prop_assert_eq!(seen, member.standing.word(), "own event of {}: {}", index, next.body);
        }
        Ok(next)
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    let level = prop::sample::select(vec![0_i64, 50, 60, 100]);
    (
        prop::sample::select(vec!["11", "12"]),
        prop::sample::select(vec!["public", "invite", "knock"]),
        prop::sample::select(vec![0_i64, 50]),
        [level.clone(), level.clone(), level.clone(), level],
    )
        .prop_map(|(version, rule, invite_level, levels)| Setting {
            version,
            rule,
            invite_level,
            levels,
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let whom = 0..USERS;
    let verb = prop_oneof![
        4 => Just(Verb::Join),
        2 => Just(Verb::Knock),
        2 => Just(Verb::Leave),
        1 => Just(Verb::Forget),
        3 => whom.clone().prop_map(Verb::Invite),
        2 => whom.clone().prop_map(Verb::Kick),
        2 => whom.clone().prop_map(Verb::Ban),
        2 => whom.prop_map(Verb::Unban),
    ];
    let step = (0..USERS, verb).prop_map(|(who, verb)| Step { who, verb });
    prop::collection::vec(step, 8..16)
}

fn number(variable: &str, default: u32) -> u32 {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn random_memberships_are_as_the_model_says() {
    let config = Config {
        cases: number("MATRYX_MODEL_CASES", 10),
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number("MATRYX_MODEL_SEED", 1).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let server = SERVER.get();
    TestRunner::new_with_rng(config, rng)
        .run(&(settings(), steps()), |(setting, steps)| {
            runtime().block_on(async {
                let mut trial = Trial::begin(server, setting).await;
                // The owner lets the first user in, so that something can happen behind a closed door.
                trial.owner.invite(&trial.room, &trial.users[0]).await.ok();
                trial.users[0].join(&trial.room).await.ok();
                trial.model.apply(Step { who: 0, verb: Verb::Join });
                trial.model.events = 2;
                trial.model.members[0].at = 2;
                for step in steps {
                    trial.step(step).await?;
                }
                Ok(())
            })
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
