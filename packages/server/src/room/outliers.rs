//! Events that are kept without their place in the room: what others name as that which allows them, and what stands in a state
//! that another server has told.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matryx_core::{event::Pdu, room::Judgement};
use matryx_repository::{Before, StoredEvent};
use ruma::{OwnedEventId, RoomId};

use super::{
    Rooms, SendError,
    judge::judge_alone,
    lane::{Ask, Outcome},
    work::{Rows, Work},
};

impl Rooms {
    /// Keeps events of a room without their place in it, judged by their own auth events alone. An event of which an auth
    /// event is neither held nor among them is not kept: it can come again.
    ///
    /// # Errors
    /// Why the server could not judge them.
    pub async fn learn(&self, room: &RoomId, pdus: Vec<Pdu>) -> Result<(), SendError> {
        if pdus.is_empty() {
            return Ok(());
        }
        let room = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        let pdus = pdus.into_iter().map(Arc::new).collect();
        match self.ask(&room, Ask::Learn(pdus)).await? {
            (Outcome::Learned, _) => Ok(()),
            _ => Err(SendError::Panicked),
        }
    }

    /// [`Self::learn`], in the lane.
    pub(super) async fn take_in(
        &self,
        pdus: &[Arc<Pdu>],
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<(), SendError> {
        let ids = pdus.iter().flat_map(|pdu| pdu.auth_events().iter().chain([pdu.event_id()]));
        let ids: HashSet<&OwnedEventId> = ids.collect();
        let mut found = self.find_all(work, ids.into_iter().map(|id| &**id)).await?;
        for pdu in allowing_first(pdus) {
            let complete = pdu.auth_events().iter().all(|id| found.contains_key(id));
            if pdu.room_id() != work.look.room_id || !complete || found.contains_key(pdu.event_id())
            {
                continue;
            }
            let fate = match judge_alone(pdu, &found, &work.look) {
                Ok(()) => Judgement::Accepted,
                Err(why) => Judgement::Rejected(why),
            };
            let event = Arc::new(StoredEvent::received(pdu, fate, Before::Unknown));
            work.fresh.insert(pdu.event_id().clone(), Arc::clone(&event));
            found.insert(pdu.event_id().clone(), Arc::clone(&event));
            rows.events.push(event);
            if let Some(redaction) = self.early_redaction(pdu.event_id(), work).await? {
                self.apply_redaction(&redaction, work, rows).await?;
            }
        }
        Ok(())
    }
}

/// Sorts events so that each comes after those that it names as what allows it.
fn allowing_first(pdus: &[Arc<Pdu>]) -> Vec<&Arc<Pdu>> {
    let by_id: HashMap<&OwnedEventId, &Arc<Pdu>> =
        pdus.iter().map(|pdu| (pdu.event_id(), pdu)).collect();
    let mut seen = HashSet::new();
    let mut sorted = Vec::with_capacity(pdus.len());
    // Ids are hashes of what they name: nothing rests on itself, however the events were made.
    let mut stack: Vec<(&Arc<Pdu>, bool)> = pdus.iter().map(|pdu| (pdu, false)).collect();
    while let Some((pdu, below_done)) = stack.pop() {
        if below_done {
            sorted.push(pdu);
        } else if seen.insert(pdu.event_id()) {
            stack.push((pdu, true));
            stack.extend(pdu.auth_events().iter().filter_map(|id| Some((*by_id.get(id)?, false))));
        }
    }
    sorted
}
