//! The model: what everybody's standing in the room is, and what the rules make of a step.

use std::fmt;

/// How many users act; the owner of the room only looks on.
pub const USERS: usize = 4;

/// What somebody's standing in the room is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Never,
    Left,
    Invited,
    Joined,
    Knocking,
    Banned,
}

use Standing::{Banned, Invited, Joined, Knocking, Left, Never};

impl Standing {
    pub fn word(self) -> Option<&'static str> {
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
    pub fn section(self, include_leave: bool) -> Option<&'static str> {
        match self {
            Never => None,
            Left | Banned => include_leave.then_some("leave"),
            _ => self.word(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Verb {
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
pub struct Step {
    pub who: usize,
    pub verb: Verb,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.who, self.verb)
    }
}

/// A room to try it in.
#[derive(Clone, Debug)]
pub struct Setting {
    pub version: &'static str,
    pub rule: &'static str,
    pub invite_level: i64,
    pub levels: [i64; USERS],
}

/// What must come of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new event.
    Changed,
    /// A success without one.
    Same,
    Refused(u16, &'static str),
}

const FORBIDDEN: Outcome = Outcome::Refused(403, "M_FORBIDDEN");

/// What is known of one user.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub standing: Standing,
    /// Who made it so, as far as that decides whether the same again is news.
    pub by: Option<usize>,
    pub forgotten: bool,
    /// When it changed last, counted in events.
    pub at: usize,
}

/// What everybody's standing is.
#[derive(Clone, Debug)]
pub struct Model {
    pub setting: Setting,
    pub members: [Member; USERS],
    pub events: usize,
}

impl Model {
    pub fn new(setting: Setting) -> Self {
        let nobody = Member { standing: Never, by: None, forgotten: false, at: 0 };
        Self { setting, members: [nobody; USERS], events: 0 }
    }

    fn standing(&self, user: usize) -> Standing {
        self.members[user].standing
    }

    /// What must happen, and to whom.
    pub fn outcome(&self, step: Step) -> Outcome {
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

    pub fn apply(&mut self, step: Step) {
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
    pub fn section_since(&self, user: usize, then: usize) -> Option<&'static str> {
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
