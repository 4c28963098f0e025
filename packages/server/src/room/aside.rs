//! What a local user is to a room, changed beside the room's own events: invites and knocks of rooms that nobody here is in,
//! what became of them, and what users forget. It goes through the room's lane, so that nothing happens in between.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use matryx_core::{event::Pdu, refusal::Refusal};
use matryx_repository::{Errand, Mine, StoredEvent};
use ruma::{OwnedEventId, OwnedUserId};

use super::{
    Look, Rooms, SendError,
    work::{Rows, Work},
};

/// A change of a local user's record. As with an intent, it can't wait for anything and may run more than once.
pub struct Aside {
    /// Whose record.
    pub user: OwnedUserId,
    /// What to do, given what is known. Nothing changes if it gives nothing.
    pub decide: Turn,
}

/// A decision: it may run more than once, so it takes nothing away.
pub(super) type Turn = Box<dyn Fn(Known<'_>) -> Result<Option<Record>, Refusal> + Send + Sync>;

/// What an [`Aside`] may look at.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The room, if it is held here. If no user of ours is in it, others may have moved on without us.
    pub look: Option<&'a Look>,
    /// The user's record as it stands.
    pub mine: Option<&'a Mine>,
}

/// What an [`Aside`] comes to: all of it, in one append.
pub struct Record {
    /// The user's record.
    pub mine: Mine,
    /// The event that it stands on, kept as an outlier if it is not kept already.
    pub event: Option<Arc<Pdu>>,
    /// What other servers have still to be told.
    pub errand: Option<Errand>,
}

impl Aside {
    /// A change of this user's record.
    pub fn new(
        user: OwnedUserId,
        decide: impl Fn(Known<'_>) -> Result<Option<Record>, Refusal> + Send + Sync + 'static,
    ) -> Self {
        Self { user, decide: Box::new(decide) }
    }
}

impl Rooms {
    /// Runs an aside. Gives the event that the record stands on afterwards.
    pub(super) async fn set_aside(
        &self,
        aside: &Aside,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<Vec<OwnedEventId>, SendError> {
        let standing = match work.mine.get(&aside.user) {
            Some(mine) => Some(Arc::clone(mine)),
            None => {
                self.stream().standing(&aside.user).await?.rooms.get(&work.look.room_id).cloned()
            }
        };
        let known =
            Known { look: Some(&work.look).filter(|look| look.n > 0), mine: standing.as_deref() };
        let record = catch_unwind(AssertUnwindSafe(|| (aside.decide)(known)))
            .map_err(|_| SendError::Panicked)??;
        let Some(Record { mine, event, errand }) = record else {
            return Ok(standing.iter().map(|mine| mine.event.clone()).collect());
        };
        let events = vec![mine.event.clone()];
        if let Some(pdu) = event
            && self.find(work, pdu.event_id()).await?.is_none()
        {
            let event = Arc::new(StoredEvent::unjudged(&pdu));
            work.fresh.insert(event.pdu.event_id().clone(), Arc::clone(&event));
            rows.events.push(event);
        }
        rows.errands.extend(errand);
        work.write(mine, rows);
        Ok(events)
    }
}
