//! Rooms: their state, their power levels, the judging of events, the resolution of forks.

mod judge;
mod powers;
mod redaction;
mod resolve;
mod state;

pub use self::{
    judge::{Judgement, auth_keys, judge_by_auth_events, judge_by_state},
    powers::{Levels, Power, Powers},
    redaction::{may_apply, may_redact, may_redact_unseen},
    resolve::resolve,
    state::{Change, StateEntry, StateKey, StateMap, difference, of_kind},
};
