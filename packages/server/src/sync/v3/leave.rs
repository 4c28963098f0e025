//! The section of rooms that the user has left, or was put out of.

use std::sync::Arc;

use matryx_core::{
    membership::Membership,
    room::{Change, StateEntry, StateKey, StateMap},
};
use matryx_repository::{Line, Mine, Source, StoreError};
use ruma::room_version_rules::RoomVersionRules;

use super::{
    StateForm, View,
    answer::{LeftRoom, State, Timeline},
    state::{Stretch, before},
    timeline::{Tail, Told},
};
use crate::{
    room::{Room, Sight},
    sync::{filter::EventFilter, token::line_up_to},
};

/// What a user has been through in a room that they are no longer in.
struct Past {
    sight: Sight,
    /// The line with which they ceased to be in it, if the client does not know that yet or wants everything again.
    parted: Option<i64>,
    /// The line up to which the client knows it as a room that they are in.
    known: Option<i64>,
    /// Whether they were in it from there to `parted`.
    stayed: bool,
    /// The key of their membership.
    own: StateKey,
    /// The lines after that which are about them: invited anew and refused, banned.
    later: Vec<i64>,
}

impl View<'_> {
    /// A room that the user is no longer in, or is no longer invited to.
    pub(super) async fn section_left(&self, mine: &Mine) -> Result<Option<LeftRoom>, StoreError> {
        let held = self.rooms.room(&mine.room).await?;
        match (&mine.source, held) {
            (Source::Room, Some(room)) => self.left(&room, mine).await.map(Some),
            (Source::Room, None) => Ok(None),
            (Source::OutOfBand { version, .. }, held) => {
                let Some(rules) = version.rules() else { return Ok(None) };
                self.turned_away(held.as_deref(), mine, &rules).await
            }
        }
    }

    /// A room that the user was invited to or knocked on, and is not any more, while nobody of this server was in it: the
    /// event that says so. If they were in it before, and the client does not know yet that they have left, that too.
    async fn turned_away(
        &self,
        held: Option<&Room>,
        mine: &Mine,
        rules: &RoomVersionRules,
    ) -> Result<Option<LeftRoom>, StoreError> {
        let Some(event) = self.rooms.events().get(&mine.event).await? else { return Ok(None) };
        let filter = EventFilter(&self.question.filter.room.timeline);
        let shown = self.limit() > 0 && filter.room(&mine.room) && filter.event(&event.pdu);
        let written = self.write(std::iter::once(&*event), rules, None).await?;
        if let Some(room) = held.filter(|_| mine.n > 0)
            && self.past(room, mine).await?.parted.is_some()
        {
            let mut left = self.left(room, mine).await?;
            left.timeline.events.extend(written.into_iter().filter(|_| shown));
            return Ok(Some(left));
        }
        let (events, state) = if shown { (written, Vec::new()) } else { (Vec::new(), written) };
        let state = State::new(self.question.form, state);
        Ok(Some(LeftRoom { state, timeline: Timeline::new(events, false, mine.n) }))
    }

    /// A room that the user is no longer in, up to the event that says so and no further.
    pub(super) async fn left(&self, room: &Room, mine: &Mine) -> Result<LeftRoom, StoreError> {
        let past = self.past(room, mine).await?;
        let (later, cut) = self.later(room, &past).await?;
        let own = past.own.clone();
        let mut tail = match past.parted {
            Some(end) => {
                let limit = self.limit() - later.len();
                let hidden = (cut && later.is_empty()).then(|| own.clone());
                let applied = self.question.form == StateForm::Before;
                let told = applied.then(|| Told::later(hidden));
                self.tail(room, past.known.unwrap_or(0)..end, limit, &past.sight, told).await?
            }
            None => Tail::none(later.first().map_or(mine.n, |line| line.n - 1)),
        };
        let mut end = match past.parted {
            Some(n) => self.rooms.state_at(&room.id, n).await?,
            None => StateMap::new(),
        };
        let begin = before(&end, &tail);
        let mut changes = match (past.parted, past.known) {
            (Some(n), Some(known)) => Some(self.changes(room, known, n, &end, &tail).await?),
            _ => None,
        };
        let whole = !past.stayed || self.question.full_state;
        if past.parted != Some(mine.n) {
            // What became of them later stands on top of what the room was when they left it.
            let entry =
                StateEntry { event_id: mine.event.clone(), membership: Some(mine.membership) };
            end.insert(own.clone(), entry.clone());
            if let Some(changes) = &mut changes {
                let old = begin.get(&own).cloned();
                changes.push(Change { key: own, new: Some(entry), old });
            }
        }
        tail.shown.extend(later);
        let rules = Arc::clone(&room.look().rules);
        let stretch = Stretch::new(&end, begin, &tail.shown, changes, whole);
        let state = self.state(&stretch, &rules, &room.id, &[]).await?;
        let shown = tail.shown.iter().map(|line| &*line.event);
        let events = self.write(shown, &rules, Some(&past.sight)).await?;
        // A client that did not know the room, or not as one that they are in, sees the end of its timeline.
        let unknown = self.since.is_some() && past.parted.is_some() && past.known.is_none();
        let timeline = Timeline::new(events, tail.limited || cut || unknown, tail.start);
        Ok(LeftRoom { state, timeline })
    }

    async fn past(&self, room: &Room, mine: &Mine) -> Result<Past, StoreError> {
        let sight = self.rooms.sight(room, &mine.user).await?;
        let since = match self.since {
            Some(since) => line_up_to(self.rooms, room, since).await?,
            None => 0,
        };
        let path: Vec<(i64, Membership)> = sight.memberships(mine.n).collect();
        let parted = path
            .windows(2)
            .rev()
            .find(|pair| pair[0].1 == Membership::Joined && pair[1].1 != Membership::Joined)
            .map(|pair| pair[1].0)
            .filter(|n| *n > since || self.question.full_state);
        let was_in = self.since.is_some() && sight.membership_at(since) == Membership::Joined;
        let known = parted.filter(|n| was_in || *n <= since).map(|n| since.min(n));
        let stayed = parted.is_some_and(|n| sight.joined_throughout(since, n - 1));
        let after = parted.unwrap_or(since).max(since);
        let later = path.into_iter().map(|(n, _)| n).filter(|n| *n > after).collect();
        let own = StateKey::member(&mine.user);
        Ok(Past { sight, parted, known, stayed, own, later })
    }

    /// What happened to the user after they had ceased to be in the room, oldest first: as much of it as the timeline
    /// takes. And whether that is not all. If the newest is not wanted, none of the others is shown: they stand no more.
    async fn later(&self, room: &Room, past: &Past) -> Result<(Vec<Arc<Line>>, bool), StoreError> {
        let filter = EventFilter(&self.question.filter.room.timeline);
        let mut lines = Vec::new();
        let mut cut = false;
        for n in past.later.iter().rev() {
            let line = self.rooms.lines(room, *n, *n).await?.pop();
            // Where the event does not say what they became, the state tells.
            let wants = |line: &Line| {
                let pdu = &line.event.pdu;
                let says = |change: &Change| {
                    change.key == past.own
                        && change.new.as_ref().is_some_and(|new| new.membership == pdu.membership())
                };
                filter.room(&room.id)
                    && filter.event(pdu)
                    && pdu.key().as_ref() == Some(&past.own)
                    && line.changes.iter().any(says)
            };
            let line = line.filter(|line| wants(line));
            match line {
                Some(line) if lines.len() < self.limit() => lines.push(line),
                None if !lines.is_empty() => {}
                _ => {
                    cut = true;
                    break;
                }
            }
        }
        lines.reverse();
        Ok((lines, cut))
    }
}
