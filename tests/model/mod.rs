//! Random sequences of membership changes against a model of what must come of them.
//!
//! `MATRYX_MODEL_CASES` and `MATRYX_MODEL_SEED` (numbers) ask for more than the ordinary run does.

mod rules;

use std::env;

use futures::future::join_all;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use self::rules::{Model, Outcome, Setting, Standing::Joined, Step, USERS, Verb};
use crate::support::{Answer, SharedServer, Sync, SyncAnswer, TestServer, TestUser, runtime};

static SERVER: SharedServer = SharedServer::new();

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
        let members = self.owner.members(&self.room, &[]).await.granted();
        let state = self.owner.state(&self.room).await.granted();
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
                trial.owner.invite(&trial.room, &trial.users[0]).await.granted();
                trial.users[0].join(&trial.room).await.granted();
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
