//! A room in memory: its latest looks, its latest lines, and the queue of its lane.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use matryx_repository::{Line, StoredEvent};
use ruma::OwnedRoomId;

use super::{Look, lane::Job};

/// How many looks a room keeps: what is read as of a position must not have passed out of memory while it is read.
const LOOKS: usize = 128;

/// How many lines a room keeps: an incremental sync finds them here.
const LINES: usize = 128;

/// A room that is in memory.
#[derive(Debug)]
pub struct Room {
    /// Which.
    pub id: OwnedRoomId,
    recent: RwLock<Recent>,
    pub(super) queue: Mutex<Queue>,
}

/// The jobs that wait for a room's lane.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) jobs: VecDeque<Job>,
    /// Whether a task is working through them.
    pub(super) draining: bool,
}

#[derive(Debug)]
struct Recent {
    /// Oldest first, never empty.
    looks: VecDeque<Arc<Look>>,
    /// Oldest first, dense, ending with the newest look's line.
    lines: VecDeque<Arc<Line>>,
}

impl Room {
    pub(super) fn new(look: Look) -> Self {
        Self {
            id: look.room_id.clone(),
            recent: RwLock::new(Recent {
                looks: VecDeque::from([Arc::new(look)]),
                lines: VecDeque::new(),
            }),
            queue: Mutex::default(),
        }
    }

    /// The room as of the newest commit.
    ///
    /// # Panics
    /// Never: a room always has a look.
    #[must_use]
    pub fn look(&self) -> Arc<Look> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&recent.looks[recent.looks.len() - 1])
    }

    /// The room as of a position; `None` if that has passed out of memory, or the room began later.
    #[must_use]
    pub fn look_at(&self, pos: u64) -> Option<Arc<Look>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        recent.looks.iter().rev().find(|look| look.pos <= pos && look.n > 0).cloned()
    }

    /// The room as it was at line `n`, if that is still in memory.
    pub(super) fn look_at_line(&self, n: i64) -> Option<Arc<Look>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        recent.looks.iter().rev().find(|look| look.n == n).cloned()
    }

    /// The lines `from..=to`, oldest first, if all of them are in memory.
    #[must_use]
    pub fn lines(&self, from: i64, to: i64) -> Option<Vec<Arc<Line>>> {
        if from > to {
            return Some(Vec::new());
        }
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let first = recent.lines.front()?.n;
        let skip = usize::try_from(from - first).ok()?;
        let count = usize::try_from(to - from + 1).ok()?;
        let lines: Vec<_> = recent.lines.iter().skip(skip).take(count).cloned().collect();
        (lines.len() == count).then_some(lines)
    }

    /// Forgets what was in memory for what is in the store.
    pub(super) fn replace(&self, look: Look) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.looks = VecDeque::from([Arc::new(look)]);
        recent.lines.clear();
    }

    /// Shows what has been committed.
    pub(super) fn install(
        &self,
        look: Arc<Look>,
        lines: Vec<Arc<Line>>,
        changed: &[Arc<StoredEvent>],
    ) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.lines.extend(lines);
        for event in changed {
            if let Some(line) = recent
                .lines
                .iter_mut()
                .find(|line| line.event.pdu.event_id() == event.pdu.event_id())
            {
                *line = Arc::new(Line { event: Arc::clone(event), ..Line::clone(line) });
            }
        }
        while recent.lines.len() > LINES {
            recent.lines.pop_front();
        }
        // What was there before the first line is no look that anybody asks for.
        recent.looks.retain(|look| look.n > 0);
        recent.looks.push_back(look);
        while recent.looks.len() > LOOKS {
            recent.looks.pop_front();
        }
    }
}
