//! What fills a gap: events from before a line of ours, fetched later. They get numbers of their own before that line, change no
//! current state, and are shown to nobody's /sync.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matryx_core::{
    event::Pdu,
    room::{Judgement, StateMap, difference},
};
use matryx_repository::{Before, Fork, Gap, StoreError, StoredEvent};
use ruma::{OwnedEventId, RoomId};

use super::{
    Rooms, SendError,
    judge::judge_alone,
    lane::{Ask, Outcome},
    place::{after, place},
    work::{Rows, Work},
};

/// Events that come before a line of a room.
#[derive(Debug)]
pub struct Filling {
    /// Before which line.
    pub n: i64,
    /// How far the gap was filled when they were asked for. If it has been filled further since, nothing happens.
    pub filled: u32,
    /// The events, each after those that it follows. Their auth events are held, or they are passed over.
    pub events: Vec<Arc<Pdu>>,
    /// The state before those of them that follow what is neither held nor among them.
    pub before: HashMap<OwnedEventId, StateMap>,
}

/// A chunk of a gap while it is judged.
#[derive(Default)]
struct Chunk {
    /// The state after each event so far.
    after: HashMap<OwnedEventId, StateMap>,
    /// What gets a number, oldest first.
    placed: Vec<StoredEvent>,
    forks: Vec<Fork>,
    /// The last fork that was written out, with its state.
    last: Option<(OwnedEventId, StateMap)>,
}

impl Rooms {
    /// Fills a gap further. Returns how many events have come to stand in it.
    ///
    /// # Errors
    /// Why the server could not judge them.
    pub async fn fill(&self, room: &RoomId, filling: Filling) -> Result<u32, SendError> {
        let room = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        match self.ask(&room, Ask::Fill(filling)).await? {
            (Outcome::Filled(count), _) => Ok(count),
            _ => Err(SendError::Panicked),
        }
    }

    /// [`Self::fill`], in the lane.
    pub(super) async fn take_fills(
        &self,
        filling: &Filling,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<u32, SendError> {
        let Some(gap) = work.look.gaps.get(&filling.n).cloned() else { return Ok(0) };
        if gap.filled != filling.filled {
            return Ok(0);
        }
        let mut chunk = Chunk::default();
        let mut follows: HashSet<OwnedEventId> = gap.ends.iter().cloned().collect();
        for pdu in &filling.events {
            if self.take_fill(pdu, filling, &mut chunk, work).await? {
                follows.extend(pdu.prev_events().iter().cloned());
            }
        }
        let count = u32::try_from(chunk.placed.len()).unwrap_or(u32::MAX);
        for (event, depth) in chunk.placed.into_iter().rev().zip(gap.filled..) {
            let event = Arc::new(StoredEvent { n: Some(Gap::number(gap.n, depth)), ..event });
            work.fresh.insert(event.pdu.event_id().clone(), Arc::clone(&event));
            rows.fills.push(event);
        }
        rows.forks.append(&mut chunk.forks);
        let ends = self.not_in_place(follows, work).await?;
        let filled = gap.filled.saturating_add(count);
        let changed = Gap { n: gap.n, ends, filled };
        if changed != gap {
            work.look.gaps.insert(gap.n, changed.clone());
            rows.gaps.push(changed);
        }
        // What has been redacted before it came.
        let fills = rows.fills.clone();
        for event in &fills {
            self.apply_redaction(&event.pdu, work, rows).await?;
            if let Some(redaction) = self.early_redaction(event.pdu.event_id(), work).await? {
                self.apply_redaction(&redaction, work, rows).await?;
            }
        }
        Ok(count)
    }

    /// Records that something is missing before the event which has just got its line: what it follows is not held, or not in
    /// its place.
    pub(super) async fn mark_gap(
        &self,
        pdu: &Pdu,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<(), StoreError> {
        let follows = pdu.prev_events().iter().cloned().collect();
        let gap = Gap { n: work.look.n, ends: self.not_in_place(follows, work).await?, filled: 0 };
        work.look.gaps.insert(gap.n, gap.clone());
        rows.gaps.push(gap);
        if let Some(line) = rows.lines.last_mut() {
            line.gap = true;
        }
        Ok(())
    }

    /// Those of these events that are not held, or not in their place.
    async fn not_in_place(
        &self,
        ids: HashSet<OwnedEventId>,
        work: &Work,
    ) -> Result<Vec<OwnedEventId>, StoreError> {
        let held = self.find_all(work, ids.iter().map(|id| &**id)).await?;
        let missing =
            |id: &OwnedEventId| held.get(id).is_none_or(|event| event.before == Before::Unknown);
        let mut missing: Vec<OwnedEventId> = ids.into_iter().filter(missing).collect();
        missing.sort();
        Ok(missing)
    }

    /// Judges one event of a chunk; whether it is known where it stands, so that what it follows is asked for next.
    async fn take_fill(
        &self,
        pdu: &Arc<Pdu>,
        filling: &Filling,
        chunk: &mut Chunk,
        work: &mut Work,
    ) -> Result<bool, SendError> {
        let known = self.find(work, pdu.event_id()).await?;
        if known.as_ref().is_some_and(|known| known.before != Before::Unknown) {
            return Ok(false);
        }
        let pdu = known.as_ref().map_or(pdu, |known| &known.pdu);
        let found = self.find_all(work, pdu.auth_events().iter().map(|id| &**id)).await?;
        if !pdu.auth_events().iter().all(|id| found.contains_key(id)) {
            return Ok(false);
        }
        let Some(state) = self.state_before_fill(pdu, filling, chunk, work).await? else {
            return Ok(false);
        };
        let verdict = match judge_alone(pdu, &found, &work.look) {
            Ok(()) => self.judge_before(pdu, &state, work).await?,
            Err(why) => Err(why),
        };
        if let Err(why) = verdict {
            // The state is what another server tells: by that alone nothing is rejected for good. What it follows can be had
            // all the same, and it changes nothing of what follows it.
            tracing::debug!(%why, event = %pdu.event_id(), room = %work.look.room_id, "room.not_filled");
            chunk.after.insert(pdu.event_id().clone(), state);
            return Ok(true);
        }
        let before = chunk.place(pdu, &state, work);
        let mut event = StoredEvent::received(pdu, Judgement::Accepted, before);
        event.redacted_by = known.as_ref().and_then(|known| known.redacted_by.clone());
        event.replaces =
            pdu.key().and_then(|key| state.get(&key)).map(|entry| entry.event_id.clone());
        chunk.after.insert(pdu.event_id().clone(), after(&state, Some(&event)));
        work.fresh.insert(pdu.event_id().clone(), Arc::new(event.clone()));
        chunk.placed.push(event);
        Ok(true)
    }

    /// The state before an event of a chunk; `None` if it follows something of which nothing is known.
    async fn state_before_fill(
        &self,
        pdu: &Pdu,
        filling: &Filling,
        chunk: &Chunk,
        work: &Work,
    ) -> Result<Option<StateMap>, SendError> {
        if let Some(state) = filling.before.get(pdu.event_id()) {
            return Ok(Some(state.clone()));
        }
        let mut forks = Vec::with_capacity(pdu.prev_events().len());
        for id in pdu.prev_events() {
            let known = match chunk.after.get(id) {
                Some(state) => Some(state.clone()),
                None => self.known_after(id, work).await?,
            };
            let Some(state) = known else { return Ok(None) };
            forks.push(state);
        }
        if forks.is_empty() {
            return Ok(Some(StateMap::new()));
        }
        Ok(Some(self.resolved(forks, work).await?))
    }
}

impl Chunk {
    /// How the state before an event is kept. Events in a row that do not change it share what is written.
    fn place(&mut self, pdu: &Pdu, state: &StateMap, work: &Work) -> Before {
        if let Some((like, last)) = &self.last
            && difference(last, state).is_empty()
        {
            self.forks.push(Fork {
                event_id: pdu.event_id().clone(),
                base: work.look.n,
                delta: Vec::new(),
                like: Some(like.clone()),
            });
            return Before::Fork;
        }
        let (before, fork) = place(pdu, &work.look, state);
        if let Some(fork) = fork {
            self.forks.push(fork);
            self.last = Some((pdu.event_id().clone(), state.clone()));
        }
        before
    }
}
