//! `/sync`: what has happened in a user's rooms since they asked last, and waiting for it.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>
//!
//! An answer is as of one position of the server's stream. The user's memberships are taken together with that position;
//! each room is looked at as of it; what has passed out of a room's memory meanwhile makes the whole answer begin
//! again with a newer position. A user's memberships and the rooms that have moved are known in memory: without
//! news nothing is read.

mod answer;
mod debt;
mod join;
mod leave;
mod state;
mod stripped;
mod summary;
#[cfg(test)]
mod tests;
mod timeline;

use std::{ops::Range, pin::pin, sync::Arc, time::Duration};

use matryx_core::{
    membership::Membership,
    room::{Change, StateMap},
};
use matryx_repository::{Mine, StoreError, StoredEvent};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedRoomId, OwnedUserId,
    api::client::filter::{EventFormat, FilterDefinition},
    room_version_rules::RoomVersionRules,
    serde::Raw,
};
use tokio_util::sync::CancellationToken;

pub use self::answer::Answer;
use self::{
    answer::{Event, InvitedRoom, KnockedRoom},
    stripped::stripped,
    timeline::{Tail, Told},
};
use super::{
    Waiter,
    filter::{EventFilter, wants_room},
    token::{Debt, StreamToken},
};
use crate::{
    clock::Clock,
    room::{Look, Room, Rooms, Sight, Standing, Standings, Viewer, add_up},
};

/// How many events of a room a client gets that does not say how many it wants.
const DEFAULT_LIMIT: usize = 10;

/// How many it gets at most.
const MOST: usize = 100;

/// What a client asks.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who asks.
    pub user: OwnedUserId,
    /// On which device.
    pub device: Option<OwnedDeviceId>,
    /// Where their last answer ended; `None` if they know nothing.
    pub since: Option<StreamToken>,
    /// How long to wait for news.
    pub timeout: Duration,
    /// Whether they want the whole state of their rooms, also where they know it.
    pub full_state: bool,
    /// What they want to hear of.
    pub filter: Arc<FilterDefinition>,
    /// Up to when the state sections tell the state.
    pub form: StateForm,
}

/// Up to when the state sections tell the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateForm {
    /// Up to the start of the timeline, whose events are to be applied to it: `state`.
    Before,
    /// Up to the end of the timeline: `state_after`.
    After,
    /// The same by the name that it had before it was stable: `org.matrix.msc4222.state_after`.
    AfterUnstable,
}

/// A question, as it is answered at a position.
struct View<'a> {
    rooms: &'a Rooms,
    question: &'a Question,
    /// Up to where the client knows everything.
    since: Option<u64>,
    /// What it was shown up to there that did not stand.
    debt: Option<Debt>,
    /// As of when the answer is.
    pos: u64,
    now: MilliSecondsSinceUnixEpoch,
}

/// Answers a question: at once if there is something to say or the client knows nothing, else when there is, or
/// after the timeout, or when `stop` is cancelled.
///
/// # Errors
/// When the database fails.
pub async fn sync(
    rooms: &Rooms,
    clock: &Clock,
    stop: &CancellationToken,
    question: &Question,
) -> Result<Answer, StoreError> {
    let stream = rooms.stream();
    // A token from the future is one from before a backup was restored: such a client begins anew.
    let mut since = question.since.filter(|since| since.pos <= stream.published());
    let mut timeout = pin!(clock.sleep(question.timeout));
    let mut waiter = None;
    loop {
        let (answer, standing) = answer(rooms, clock, question, since).await?;
        if !answer.is_empty()
            || since.is_none()
            || question.full_state
            || question.timeout.is_zero()
        {
            return Ok(answer);
        }
        // Nothing was said up to here, so nothing needs to be looked at again.
        since = Some(StreamToken::at(standing.pos));
        match &waiter {
            Some((known, waiter)) if same(known, &standing.rooms) => {
                let waiter: &Waiter<'_> = waiter;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(answer),
                    () = &mut timeout => return Ok(answer),
                    () = waiter.news() => {}
                }
            }
            _ => {
                // Registers first and then reads again, so that nothing falls between.
                drop(waiter.take());
                let joined = joined(&standing.rooms).map(|mine| mine.room.clone()).collect();
                let registered = stream.notifier().register(question.user.clone(), joined);
                waiter = Some((standing.rooms, registered));
            }
        }
    }
}

/// Whether these are the same memberships.
fn same(known: &Standings, now: &Standings) -> bool {
    known.ptr_eq(now) || known == now
}

fn joined(standings: &Standings) -> impl Iterator<Item = &Arc<Mine>> {
    standings.values().filter(|mine| mine.membership == Membership::Joined)
}

/// What is to be said now, and the memberships as of then.
async fn answer(
    rooms: &Rooms,
    clock: &Clock,
    question: &Question,
    since: Option<StreamToken>,
) -> Result<(Answer, Standing), StoreError> {
    // Keeps the rooms in memory while the answer is made, so that their looks stay.
    let mut held = Vec::new();
    loop {
        let standing = rooms.stream().standing(&question.user).await?;
        let (known, debt) = (since.map(|since| since.pos), since.and_then(|since| since.debt));
        let view =
            View { rooms, question, since: known, debt, pos: standing.pos, now: clock.now() };
        if let Some(looks) = view.looks(&standing.rooms, &mut held).await? {
            return Ok((view.answer(&standing.rooms, looks).await?, standing));
        }
    }
}

/// A room that the user is in, as of the answer's position.
type Looked<'a> = (Arc<Room>, Arc<Look>, &'a Mine);

impl View<'_> {
    /// Whether the client is told everything, whether or not it has changed.
    fn is_whole(&self) -> bool {
        self.since.is_none() || self.question.full_state
    }

    /// Whether the user's membership is news.
    fn is_new(&self, mine: &Mine) -> bool {
        self.since.is_none_or(|since| mine.pos > since)
    }

    /// From where on there may be something to say.
    fn begin(&self) -> Option<u64> {
        self.debt.map(|debt| debt.from).or(self.since)
    }

    fn wants(&self, room: &OwnedRoomId) -> bool {
        wants_room(&self.question.filter.room, room)
    }

    /// The rooms that the user is in and that there may be something to say of. `None` if one of them has gone on so far
    /// that it can't be seen as of the position any more.
    async fn looks<'s>(
        &self,
        standings: &'s Standings,
        held: &mut Vec<Arc<Room>>,
    ) -> Result<Option<Vec<Looked<'s>>>, StoreError> {
        let mut looks = Vec::new();
        for mine in self.moved(standings).await? {
            let Some(room) = self.rooms.room(&mine.room).await? else {
                tracing::warn!(room = %mine.room, user = %mine.user, "sync.unknown_room");
                continue;
            };
            held.push(Arc::clone(&room));
            let Some(look) = room.look_at(self.pos) else { return Ok(None) };
            if self.is_whole() || self.begin().is_some_and(|from| look.pos > from) {
                looks.push((room, look, mine));
            }
        }
        Ok(Some(looks))
    }

    /// Those of the user's rooms that have moved since the client asked last, or in which something may be owed to it.
    async fn moved<'s>(&self, standings: &'s Standings) -> Result<Vec<&'s Mine>, StoreError> {
        let wanted = || joined(standings).map(|mine| &**mine).filter(|mine| self.wants(&mine.room));
        let Some(from) = self.begin().filter(|_| !self.question.full_state) else {
            return Ok(wanted().collect());
        };
        if from == self.pos {
            return Ok(Vec::new());
        }
        let moved = self.rooms.stream().moved(wanted().map(|mine| &*mine.room), from).await?;
        Ok(moved.iter().filter_map(|(room, _)| standings.get(room)).map(|mine| &**mine).collect())
    }

    async fn answer(
        &self,
        standings: &Standings,
        looks: Vec<Looked<'_>>,
    ) -> Result<Answer, StoreError> {
        let mut answer = Answer::at(self.pos);
        for (room, look, mine) in looks {
            if let Some(joined) = self.joined(&room, &look, mine).await? {
                if let Some(debt) = joined.debt {
                    answer.owe(debt);
                }
                answer.rooms.join.insert(mine.room.clone(), joined);
            }
        }
        let others = standings.values().filter(|mine| mine.membership != Membership::Joined);
        for mine in others.filter(|mine| self.wants(&mine.room)) {
            let room = mine.room.clone();
            let news = self.is_new(mine);
            match mine.membership {
                Membership::Invited if news || self.is_whole() => {
                    let invite_state = stripped(mine)?;
                    answer.rooms.invite.insert(room, InvitedRoom { invite_state });
                }
                Membership::Knocking if news || self.is_whole() => {
                    let knock_state = stripped(mine)?;
                    answer.rooms.knock.insert(room, KnockedRoom { knock_state });
                }
                Membership::Left | Membership::Banned if self.tells_leaving(mine) => {
                    if let Some(left) = self.section_left(mine).await? {
                        answer.rooms.leave.insert(room, left);
                    }
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Whether a room that the user has left is shown: once, to who knew it otherwise; and to who asks for all that were
    /// left, unless they were forgotten.
    fn tells_leaving(&self, mine: &Mine) -> bool {
        if self.since.is_some() && self.is_new(mine) {
            return true;
        }
        self.is_whole() && self.question.filter.room.include_leave && !mine.forgotten
    }

    /// How many events a timeline may have.
    fn limit(&self) -> usize {
        EventFilter(&self.question.filter.room.timeline).limit(DEFAULT_LIMIT, MOST)
    }

    /// How far back from its end a timeline is looked for.
    fn reach(&self) -> i64 {
        let filter = EventFilter(&self.question.filter.room.timeline);
        timeline::reach(self.limit(), !filter.is_open())
    }

    /// The newest lines of a stretch that the user may see and wants to.
    async fn tail(
        &self,
        room: &Room,
        span: Range<i64>,
        limit: usize,
        sight: &Sight,
        told: Option<Told>,
    ) -> Result<Tail, StoreError> {
        let filter = EventFilter(&self.question.filter.room.timeline);
        if !filter.room(&room.id) {
            return Ok(Tail::none(span.end));
        }
        timeline::read(self.rooms, room, span, limit, self.reach(), told, |line| {
            filter.event(&line.event.pdu) && sight.sees(line.n, &line.event)
        })
        .await
    }

    /// What is different in a room's state at line `to` from what the client takes it for at line `known`. Where the timeline
    /// reaches back to that, its lines tell.
    async fn changes(
        &self,
        room: &Room,
        known: i64,
        to: i64,
        state: &StateMap,
        tail: &Tail,
    ) -> Result<Vec<Change>, StoreError> {
        let mut changes = if tail.start == known {
            let lines = tail.passed.iter().rev();
            add_up(lines.flat_map(|line| line.changes.iter().cloned()))
        } else {
            self.rooms.changes(room, known, to, state).await?
        };
        changes.extend(self.owed(room, known, state).await?);
        Ok(changes)
    }

    /// Writes events out as the client wants them.
    async fn write<'e>(
        &self,
        events: impl Iterator<Item = &'e StoredEvent> + Clone,
        rules: &RoomVersionRules,
        sight: Option<&Sight>,
    ) -> Result<Vec<Event>, StoreError> {
        if self.question.filter.event_format == EventFormat::Federation {
            return events
                .map(|event| {
                    let json = event.pdu.json().to_owned();
                    Raw::from_json_string(json).map_err(|error| {
                        StoreError::inconsistent("event", event.pdu.event_id(), error)
                    })
                })
                .collect();
        }
        let viewer = Viewer {
            user: &self.question.user,
            device: self.question.device.as_deref(),
            sight,
            now: self.now,
            with_room_id: false,
        };
        self.rooms.events().for_client(events, rules, viewer).await
    }
}
