//! State that a room had before one of us joined it, and that could not be verified then: it comes in later.
//!
//! Others have had it all the time, and need not be told. What brings it here is an event that ties the room's tips together:
//! no client is shown it, and it goes to no server.

use std::sync::Arc;

use matryx_core::room::{StateMap, difference};
use ruma::RoomId;

use super::{
    Desk, Rooms, SendError,
    lane::{Ask, Outcome, judge},
    place::place,
    stripped, tips,
    work::{Rows, Work},
};

impl Rooms {
    /// Brings entries into a room's state where it has none: nothing that has happened since is touched. All that stands in
    /// them is held.
    ///
    /// # Errors
    /// When none of our users may say anything there, or why the server could not.
    pub async fn amend(&self, room: &RoomId, state: StateMap) -> Result<(), SendError> {
        if state.is_empty() {
            return Ok(());
        }
        let room = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        self.ask(&room, Ask::Amend(state)).await.map(drop)
    }

    /// [`Self::amend`], in the lane.
    pub(super) async fn amend_in(
        &self,
        state: &StateMap,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<Outcome, SendError> {
        let whole = completed(&work.look.state, state);
        let changes = difference(&work.look.state, &whole);
        if changes.is_empty() {
            return Ok(Outcome::Said(Vec::new()));
        }
        let ids = changes.iter().filter_map(|change| Some(&*change.new.as_ref()?.event_id));
        let arrivals = self.find_all(work, ids).await?;
        for event in arrivals.values() {
            self.fetch(work, &stripped::needed(&work.look, &event.pdu)).await?;
        }
        let desk = Desk { look: &work.look, events: &work.events };
        let draft = tips::knot(&desk, self.server_name())?;
        let pdu = Arc::new(self.seal(draft, work).await?);
        judge(&pdu, work)?;
        let (before, fork) = place(&pdu, &work.look, &whole);
        rows.forks.extend(fork.clone());
        work.forks.extend(fork.map(|fork| (pdu.event_id().clone(), fork)));
        work.before.insert(pdu.event_id().clone(), whole);
        let event = pdu.event_id().clone();
        let mut judged = work.linear(pdu, None);
        for tip in &mut judged.tips {
            tip.state = completed(&tip.state, state);
        }
        judged.before = before;
        judged.changes = changes;
        judged.arrivals = arrivals.into_values().map(|event| event.pdu.clone()).collect();
        work.settle(judged, self.server_name(), rows);
        Ok(Outcome::Said(vec![event]))
    }
}

/// A state with what it lacks of another.
fn completed(state: &StateMap, other: &StateMap) -> StateMap {
    let mut whole = state.clone();
    for (key, entry) in other {
        if !whole.contains_key(key) {
            whole.insert(key.clone(), entry.clone());
        }
    }
    whole
}
