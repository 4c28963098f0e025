//! The shape of an answer. ruma's own type leaves out what is empty everywhere; some clients want an empty `state` and
//! `timeline` in a room that was left, and one asks for `state_after` by the name that it had before it was stable.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, OwnedUserId, events::AnySyncTimelineEvent, serde::Raw};
use serde::Serialize;
use serde_json::value::RawValue;

use super::StateForm;
use crate::sync::token::{Debt, LineToken, StreamToken};

/// An event, written out.
pub(super) type Event = Raw<AnySyncTimelineEvent>;

/// What a sync says.
#[derive(Debug, Serialize)]
pub struct Answer {
    next_batch: StreamToken,
    #[serde(skip_serializing_if = "Sections::is_empty")]
    pub(super) rooms: Sections,
}

/// Every room stands in one of these.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sections {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) join: BTreeMap<OwnedRoomId, JoinedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) invite: BTreeMap<OwnedRoomId, InvitedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) knock: BTreeMap<OwnedRoomId, KnockedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) leave: BTreeMap<OwnedRoomId, LeftRoom>,
}

#[derive(Debug, Serialize)]
pub(super) struct JoinedRoom {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<Summary>,
    #[serde(flatten)]
    pub(super) state: State,
    pub(super) timeline: Timeline,
    /// What the timeline leaves to the next answer.
    #[serde(skip)]
    pub(super) debt: Option<Debt>,
}

#[derive(Debug, Serialize)]
pub(super) struct LeftRoom {
    #[serde(flatten)]
    pub(super) state: State,
    pub(super) timeline: Timeline,
}

#[derive(Debug, Serialize)]
pub(super) struct InvitedRoom {
    pub(super) invite_state: Stripped,
}

#[derive(Debug, Serialize)]
pub(super) struct KnockedRoom {
    pub(super) knock_state: Stripped,
}

#[derive(Debug, Serialize)]
pub(super) struct Stripped {
    pub(super) events: Box<RawValue>,
}

/// State events, under the name that says up to when they are the state.
#[derive(Debug, Serialize)]
pub(super) enum State {
    #[serde(rename = "state")]
    Before(Events),
    #[serde(rename = "state_after")]
    After(Events),
    #[serde(rename = "org.matrix.msc4222.state_after")]
    AfterUnstable(Events),
}

#[derive(Debug, Serialize)]
pub(super) struct Events {
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Serialize)]
pub(super) struct Timeline {
    pub(super) events: Vec<Event>,
    pub(super) limited: bool,
    prev_batch: String,
}

/// Who is in a room, and whom to name it after.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub(super) heroes: Option<Vec<OwnedUserId>>,
    #[serde(rename = "m.joined_member_count")]
    pub(super) joined: u64,
    #[serde(rename = "m.invited_member_count")]
    pub(super) invited: u64,
}

impl Answer {
    /// Nothing new up to a position.
    pub(super) fn at(pos: u64) -> Self {
        Self { next_batch: StreamToken::at(pos), rooms: Sections::default() }
    }

    /// Leaves something to the next answer.
    pub(super) fn owe(&mut self, debt: Debt) {
        let debts = self.next_batch.debt.into_iter().chain([debt]);
        self.next_batch.debt = debts.reduce(Debt::and);
    }

    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl Sections {
    fn is_empty(&self) -> bool {
        let Self { join, invite, knock, leave } = self;
        join.is_empty() && invite.is_empty() && knock.is_empty() && leave.is_empty()
    }
}

impl State {
    /// These events, under the name that the client asked for.
    pub(super) fn new(form: StateForm, events: Vec<Event>) -> Self {
        let events = Events { events };
        match form {
            StateForm::Before => Self::Before(events),
            StateForm::After => Self::After(events),
            StateForm::AfterUnstable => Self::AfterUnstable(events),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let (Self::Before(events) | Self::After(events) | Self::AfterUnstable(events)) = self;
        events.events.is_empty()
    }
}

impl Timeline {
    /// These events, of which the oldest one follows line `start`.
    pub(super) fn new(events: Vec<Event>, limited: bool, start: i64) -> Self {
        Self { events, limited, prev_batch: LineToken(start).to_string() }
    }
}
