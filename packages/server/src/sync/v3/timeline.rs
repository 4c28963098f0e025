//! The newest lines of a stretch that a client is to see.

use std::{collections::HashSet, ops::Range, sync::Arc};

use matryx_core::room::StateKey;
use matryx_repository::{Line, StoreError};

use crate::room::{Room, Rooms};

/// How many lines are looked at for a filter that passes over many, before the timeline is cut.
pub(super) const PATIENCE: i64 = 500;

/// How many lines are read at a time once the first ones were not enough.
const STEP: i64 = 100;

/// The newest lines of a stretch.
#[derive(Debug)]
pub(super) struct Tail {
    /// What is shown, oldest first.
    pub(super) shown: Vec<Arc<Line>>,
    /// Everything that was looked at, newest first: all lines behind `start`.
    pub(super) passed: Vec<Arc<Line>>,
    /// The line behind which the timeline begins.
    pub(super) start: i64,
    /// Whether something before that would be shown too.
    pub(super) limited: bool,
}

/// How far back [`read`] may look from the newest line.
pub(super) fn reach(limit: usize, selective: bool) -> i64 {
    let needed = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    if selective { needed.max(PATIENCE) } else { needed }
}

/// Reads the lines behind `span.start` up to `span.end`, the newest first, until `limit` of them fit and one more is
/// known, or `reach` lines have been looked at. With `told` the timeline begins behind whatever does not stand.
pub(super) async fn read(
    rooms: &Rooms,
    room: &Room,
    span: Range<i64>,
    limit: usize,
    reach: i64,
    mut told: Option<Told>,
    fits: impl Fn(&Line) -> bool,
) -> Result<Tail, StoreError> {
    let mut tail = Tail { shown: Vec::new(), passed: Vec::new(), start: span.end, limited: false };
    let floor = span.start.max(span.end.saturating_sub(reach));
    let mut step = i64::try_from(limit).unwrap_or(STEP).saturating_add(1);
    while tail.start > floor {
        let from = floor.max(tail.start - step);
        for line in rooms.lines(room, from + 1, tail.start).await?.into_iter().rev() {
            let fits = fits(&line);
            let stands = told.as_mut().is_none_or(|told| told.takes(&line, fits));
            if fits {
                if tail.shown.len() == limit || !stands {
                    tail.limited = true;
                    tail.start = line.n;
                    tail.shown.reverse();
                    return Ok(tail);
                }
                tail.shown.push(Arc::clone(&line));
            }
            let gap = line.gap.then_some(line.n - 1);
            tail.passed.push(line);
            if let Some(start) = gap {
                // What is missing there has to be had before anything older is shown.
                tail.limited = true;
                tail.start = start;
                tail.shown.reverse();
                return Ok(tail);
            }
        }
        tail.start = from;
        step = STEP;
    }
    tail.limited = floor > span.start;
    tail.shown.reverse();
    Ok(tail)
}

/// Who tells a client, from a room's end backwards, what stands at each key that has changed: the timeline, or something
/// that is not in it. For a client that makes the room's state of the timeline and that no later answer sets right, because
/// the room has been left: an event that stands no more must not come after what tells that.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The newest change is an event of the timeline: whatever comes before it does not matter.
    here: HashSet<StateKey>,
    /// The newest change is hidden from the client, or came about by resolution.
    elsewhere: HashSet<StateKey>,
}

impl Told {
    /// What stands at these keys is told by something that comes after the lines.
    pub(super) fn later(keys: impl IntoIterator<Item = StateKey>) -> Self {
        Self { elsewhere: keys.into_iter().collect(), ..Self::default() }
    }

    /// Takes in the next line backwards, which is shown or not; whether it may be.
    fn takes(&mut self, line: &Line, shown: bool) -> bool {
        let own = line.event.pdu.key().filter(|_| shown);
        let id = line.event.pdu.event_id();
        for change in &line.changes {
            let by_itself = change.new.as_ref().is_some_and(|new| new.event_id == *id);
            let key = &change.key;
            if self.here.contains(key) || self.elsewhere.contains(key) {
                continue;
            }
            let set = if shown && by_itself { &mut self.here } else { &mut self.elsewhere };
            set.insert(key.clone());
        }
        own.is_none_or(|key| self.here.contains(&key))
    }
}

impl Tail {
    /// A timeline of a room whose events the client does not want.
    pub(super) fn none(end: i64) -> Self {
        Self { shown: Vec::new(), passed: Vec::new(), start: end, limited: false }
    }
}
