//! The section of rooms that the user is in.

use matryx_core::membership::Membership;
use matryx_repository::{Mine, StoreError};

use super::{
    View,
    answer::{JoinedRoom, Timeline},
    state::{Stretch, before},
};
use crate::{
    room::{Look, Room, Sight},
    sync::token::line_up_to,
};

/// How far a client knows a room that its user is in.
struct Known {
    /// The line up to which it knows it; none, if the user was not in the room then.
    line: Option<i64>,
    /// Whether the user has been in it ever since. Who has left and come back is told all of the state again.
    stayed: bool,
    /// What the user sees of the room from that line on.
    sight: Sight,
}

impl View<'_> {
    /// A room that the user is in; `None` if there is nothing to say of it.
    pub(super) async fn joined(
        &self,
        room: &Room,
        look: &Look,
        mine: &Mine,
    ) -> Result<Option<JoinedRoom>, StoreError> {
        let Known { line: known, stayed, sight } = self.known(room, look, mine).await?;
        let span = known.unwrap_or(0)..look.n;
        let tail = self.tail(room, span, self.limit(), &sight, None).await?;
        let begin = before(&look.state, &tail);
        let changes = match known {
            Some(known) => Some(self.changes(room, known, look.n, &look.state, &tail).await?),
            None => None,
        };
        let whole = !stayed || self.question.full_state;
        let stretch = Stretch::new(&look.state, begin, &tail.shown, changes, whole);
        let summary = if stretch.members_changed() || stretch.name_changed() {
            Some(self.summary(look).await?)
        } else {
            None
        };
        let heroes = summary.as_ref().and_then(|summary| summary.heroes.as_deref());
        let state = self.state(&stretch, &look.rules, &room.id, heroes.unwrap_or_default()).await?;
        let shown = tail.shown.iter().map(|line| &*line.event);
        let events = self.write(shown, &look.rules, Some(&sight)).await?;
        // Who comes in sees the end of a timeline that they do not know.
        let limited = tail.limited || (known.is_none() && self.since.is_some());
        let nothing = events.is_empty() && !limited && state.is_empty() && summary.is_none();
        if nothing && !self.is_whole() {
            return Ok(None);
        }
        let timeline = Timeline::new(events, limited, tail.start);
        let debt = self.owing(look, &tail.shown);
        Ok(Some(JoinedRoom { summary, state, timeline, debt }))
    }

    async fn known(&self, room: &Room, look: &Look, mine: &Mine) -> Result<Known, StoreError> {
        let joined = || Sight::joined_since(mine.user.clone(), mine.n);
        let Some(since) = self.since else {
            // Most timelines end long after the user's joining: nothing needs to be read to know that they see it.
            let sight = if look.n - self.reach() >= mine.n {
                joined()
            } else {
                self.rooms.sight(room, &mine.user).await?
            };
            return Ok(Known { line: None, stayed: false, sight });
        };
        let line = line_up_to(self.rooms, room, since).await?;
        if mine.pos <= since {
            return Ok(Known { line: Some(line), stayed: true, sight: joined() });
        }
        let sight = self.rooms.sight(room, &mine.user).await?;
        let known = sight.membership_at(line) == Membership::Joined;
        let stayed = sight.joined_throughout(line, look.n);
        // Line 0 is what a room was when it came here: nobody has been told of it.
        Ok(Known { line: (known && line > 0).then_some(line), stayed, sight })
    }
}
