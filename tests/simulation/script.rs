//! What is done in a world, step by step: made from a seed, written down, read again.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use super::net::Fault;

/// How many users each server has.
pub const USERS: usize = 2;

/// A user: the server, and which of its users.
pub type Who = (usize, usize);

/// Who makes the room, stands above everybody, and stays.
pub const FOUNDER: Who = (0, 0);

/// A world and what happens in it. It is printed as JSON and can be run again from that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Script {
    pub seed: u64,
    pub servers: usize,
    pub version: String,
    pub rule: String,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Step {
    /// Somebody does something.
    Do(Who, Deed),
    /// Somebody's client asks what is new.
    Look(Who),
    /// Two servers don't reach each other any more.
    Cut(usize, usize),
    /// They do again.
    Mend(usize, usize),
    /// What happens to the next requests from one server to another.
    Fault(usize, usize, Fault, usize),
    /// What is held back arrives.
    Release,
    /// A server ends without warning.
    Kill(usize),
    /// A server ends so many steps later, in the middle of what it does then.
    Crash(usize, u64),
    /// It starts again.
    Start(usize),
    /// So many seconds pass.
    Wait(u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Deed {
    Join,
    Knock,
    Leave,
    Invite(Who),
    Kick(Who),
    Ban(Who),
    Unban(Who),
    Say,
    /// Sets somebody's level.
    Level(Who, i64),
    /// Sets the join rule.
    Rule(String),
    /// Denies a server by ACL.
    Deny(usize),
    /// Allows all servers.
    Allow,
    /// Changes their display name.
    Name,
}

impl Script {
    /// The script that a seed stands for.
    pub fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let servers = dice.random_range(2..=5);
        let pick = |dice: &mut StdRng, from: &[&str]| {
            (*from.choose(dice).expect("something to choose from")).to_owned()
        };
        let version = pick(&mut dice, &["12", "12", "11", "10", "7"]);
        let rule = pick(&mut dice, &["public", "public", "invite", "knock"]);
        let count = dice.random_range(10..50);
        // Most of the servers come in at first: a room of one is no story.
        let mut steps = Vec::new();
        for server in 1..servers {
            let who = (server, 0);
            if rule != "public" {
                steps.push(Step::Do(FOUNDER, Deed::Invite(who)));
            }
            steps.push(Step::Do(who, Deed::Join));
        }
        // Chance alone rarely makes people quarrel, or a server die over what others have not heard of yet.
        match seed % 4 {
            0 if servers > 2 => {
                steps.extend((0..3).flat_map(|_| Step::quarrel(&mut dice, servers)));
            }
            1 => steps.extend((0..4).flat_map(|_| Step::relapse(&mut dice, servers))),
            _ => steps.extend((0..count).flat_map(|_| Step::random(&mut dice, servers))),
        }
        Self { seed, servers, version, rule, steps }
    }
}

impl Step {
    /// A moderator, whom the founder turns against, does something to somebody before hearing of it. Whoever hears of that
    /// first has to take it back.
    fn quarrel(dice: &mut StdRng, servers: usize) -> Vec<Self> {
        let moderator = (dice.random_range(1..servers), dice.random_range(0..USERS));
        let whose = 1 + (moderator.0 - 1 + dice.random_range(1..servers - 1)) % (servers - 1);
        let whom = (whose, dice.random_range(0..USERS));
        let mut pick = |deeds: [Deed; 3]| deeds.choose(dice).expect("a deed").clone();
        let done = pick([Deed::Kick(whom), Deed::Ban(whom), Deed::Rule("invite".to_owned())]);
        let against = [Deed::Ban(moderator), Deed::Kick(moderator), Deed::Level(moderator, 0)];
        let against = pick(against);
        vec![
            Self::Do(FOUNDER, Deed::Invite(whom)),
            Self::Do(whom, Deed::Join),
            Self::Do(FOUNDER, Deed::Invite(moderator)),
            Self::Do(moderator, Deed::Join),
            Self::Do(FOUNDER, Deed::Level(moderator, 50)),
            Self::Cut(FOUNDER.0, moderator.0),
            Self::Do(moderator, done),
            Self::Look(whom),
            Self::Do(FOUNDER, against),
            Self::Look(whom),
            Self::Mend(FOUNDER.0, moderator.0),
            Self::Wait(dice.random_range(1..100)),
        ]
    }

    /// A server dies before another one, which it does not reach, has heard of what was said.
    fn relapse(dice: &mut StdRng, servers: usize) -> Vec<Self> {
        let who = (dice.random_range(0..servers), dice.random_range(0..USERS));
        let other = (who.0 + dice.random_range(1..servers)) % servers;
        let mut steps = vec![
            Self::Do(FOUNDER, Deed::Invite(who)),
            Self::Cut(who.0, other),
            Self::crash(dice, who.0),
            Self::Do(who, Deed::Join),
            Self::Start(who.0),
            Self::Do(who, Deed::Say),
            Self::crash(dice, who.0),
            Self::Do(who, Deed::random(dice, servers, who)),
            Self::Do((other, 0), Deed::Say),
            Self::Mend(who.0, other),
            Self::Start(who.0),
        ];
        steps.extend((0..3).flat_map(|_| Self::random(dice, servers)));
        steps
    }

    /// A server dies soon, most likely over the next thing.
    fn crash(dice: &mut StdRng, server: usize) -> Self {
        let most = *[20, 100, 400].choose(dice).expect("a number");
        Self::Crash(server, dice.random_range(1..most))
    }

    /// Something; a server that dies is started again soon.
    fn random(dice: &mut StdRng, servers: usize) -> Vec<Self> {
        match dice.random_range(0..100) {
            0..4 => {
                let server = dice.random_range(0..servers);
                let who = (server, dice.random_range(0..USERS));
                let crash = Self::crash(dice, server);
                let deed = Self::Do(who, Deed::random(dice, servers, who));
                vec![crash, deed, Self::one(dice, servers), Self::Start(server)]
            }
            _ => vec![Self::one(dice, servers)],
        }
    }

    fn one(dice: &mut StdRng, servers: usize) -> Self {
        let two = |dice: &mut StdRng| {
            let a = dice.random_range(0..servers);
            (a, (a + dice.random_range(1..servers)) % servers)
        };
        match dice.random_range(0..100) {
            0..12 => Self::Look((dice.random_range(0..servers), dice.random_range(0..USERS))),
            12..70 => {
                let who = (dice.random_range(0..servers), dice.random_range(0..USERS));
                Self::Do(who, Deed::random(dice, servers, who))
            }
            70..75 => {
                let (a, b) = two(dice);
                Self::Cut(a, b)
            }
            75..82 => {
                let (a, b) = two(dice);
                Self::Mend(a, b)
            }
            82..90 => {
                let (a, b) = two(dice);
                let faults = [Fault::Lose, Fault::LoseAnswer, Fault::Double, Fault::Hold];
                let fault = *faults.choose(dice).expect("a fault");
                Self::Fault(a, b, fault, dice.random_range(1..4))
            }
            90..94 => Self::Release,
            94..96 => Self::Kill(dice.random_range(0..servers)),
            96..98 => Self::Start(dice.random_range(0..servers)),
            _ => Self::Wait(dice.random_range(1..100)),
        }
    }
}

impl Deed {
    fn random(dice: &mut StdRng, servers: usize, by: Who) -> Self {
        let whom = (dice.random_range(0..servers), dice.random_range(0..USERS));
        match dice.random_range(0..100) {
            0..18 => Self::Join,
            18..24 => Self::Knock,
            24..32 if by != FOUNDER => Self::Leave,
            32..46 => Self::Invite(whom),
            46..54 => Self::Kick(whom),
            54..60 => Self::Ban(whom),
            60..66 => Self::Unban(whom),
            66..72 => Self::Level(whom, *[0, 50, 100].choose(dice).expect("a level")),
            72..76 => {
                let rules = ["public", "invite", "knock"];
                Self::Rule((*rules.choose(dice).expect("a rule")).to_owned())
            }
            76..78 if servers > 2 => Self::Deny(dice.random_range(1..servers)),
            78..80 => Self::Allow,
            80..84 => Self::Name,
            _ => Self::Say,
        }
    }
}
