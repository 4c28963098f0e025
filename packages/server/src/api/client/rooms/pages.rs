//! The pages of a room's history: its lines, and between them what was fetched later from other servers.

use std::{cmp::Reverse, sync::Arc};

use matryx_repository::{Gap, Line, StoreError, StoredEvent};

use crate::{
    app::App,
    federation::inbox::{Backfilled, backfill},
    http::ApiError,
    room::{Reading, Room},
    sync::filter::EventFilter,
};

/// The most lines that are read for a page: where few of them are to be shown, the client asks again from where it ended.
const READ: i64 = 4000;

/// How many lines are read at a time.
const STRIDE: u32 = 100;

/// A place between two events of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Before which line.
    line: i64,
    /// How many of the events that fill the gap before that line stand in between.
    depth: u32,
}

/// What is asked for.
pub(super) struct Wish<'a> {
    pub(super) start: Cursor,
    pub(super) stop: Option<Cursor>,
    pub(super) limit: usize,
    pub(super) filter: EventFilter<'a>,
}

/// A page: what is on it, and where it ended if there may be more.
pub(super) struct Page {
    pub(super) events: Vec<Arc<StoredEvent>>,
    pub(super) end: Option<Cursor>,
}

impl Cursor {
    /// The place that a token's number stands for: behind the line or the filling event of that number.
    pub(super) fn at(number: i64) -> Self {
        if number >= 0 {
            return Self { line: number.saturating_add(1), depth: 0 };
        }
        let (line, depth) = Gap::place(number);
        Self { line, depth }
    }

    /// The number for a token.
    pub(super) fn number(self) -> i64 {
        if self.depth == 0 { self.line - 1 } else { Gap::number(self.line, self.depth) }
    }

    /// Before everything that is held of a room.
    pub(super) fn beginning(room: &Room) -> Self {
        Self { line: 1, depth: filled(room, 1) }
    }

    /// The earlier of two places.
    pub(super) fn min(self, other: Self) -> Self {
        if self.key() < other.key() { self } else { other }
    }

    fn key(self) -> (i64, Reverse<u32>) {
        (self.line, Reverse(self.depth))
    }
}

/// How many events fill the gap before a line.
fn filled(room: &Room, line: i64) -> u32 {
    room.look().gaps.get(&line).map_or(0, |gap| gap.filled)
}

/// From a place towards the beginning.
pub(super) async fn back(
    app: &App,
    reading: &mut Reading,
    wish: &Wish<'_>,
) -> Result<Page, ApiError> {
    let stop = wish.stop.unwrap_or(Cursor { line: 0, depth: 0 });
    let mut page = Page { events: Vec::new(), end: None };
    let mut at = wish.start;
    let mut read = 0;
    // What could not be had is passed over: a gap whose other side is held is no wall.
    let mut in_vain = None;
    while at.key() > stop.key() {
        let gap = reading.room.look().gaps.get(&at.line).cloned();
        let gap = gap.filter(|gap| at.depth < gap.filled || !gap.closed());
        let gap = gap.filter(|gap| at.depth < gap.filled || in_vain != Some(gap.n));
        if at.line <= 1 && gap.is_none() {
            break;
        }
        if page.events.len() == wish.limit || read >= READ {
            page.end = Some(at);
            break;
        }
        if let Some(gap) = gap.as_ref().filter(|gap| at.depth >= gap.filled) {
            match backfill(app, &reading.room, gap).await? {
                Backfilled::More => {}
                // Later it may be had: the client is told to ask again.
                Backfilled::Unreachable if !page.events.is_empty() || gap.n == 1 => {
                    page.end = Some(at);
                    break;
                }
                Backfilled::Unreachable | Backfilled::Nothing => in_vain = Some(gap.n),
            }
            continue;
        }
        let lines = lines_before(app, &reading.room, at, gap.as_ref()).await?;
        if lines.is_empty() {
            break;
        }
        let events: Vec<_> = lines.iter().map(|line| Arc::clone(&line.event)).collect();
        app.rooms.reach_back(&reading.room, &mut reading.sight, &events).await?;
        for line in lines.iter().rev() {
            if page.events.len() == wish.limit || at.key() <= stop.key() {
                break;
            }
            at = before(line);
            read += 1;
            page.take(line, reading, wish);
        }
    }
    Ok(page)
}

/// From a place towards now.
pub(super) async fn forth(
    app: &App,
    reading: &mut Reading,
    wish: &Wish<'_>,
) -> Result<Page, ApiError> {
    let last = Cursor::at(reading.until);
    let stop = wish.stop.map_or(last, |stop| stop.min(last));
    let mut page = Page { events: Vec::new(), end: None };
    let mut at = wish.start;
    let mut read = 0;
    while at.key() < stop.key() {
        if page.events.len() == wish.limit || read >= READ {
            page.end = Some(at);
            break;
        }
        let lines = lines_behind(app, reading, at).await?;
        if lines.is_empty() {
            break;
        }
        let events: Vec<_> = lines.iter().map(|line| Arc::clone(&line.event)).collect();
        app.rooms.reach_back(&reading.room, &mut reading.sight, &events).await?;
        for line in &lines {
            if page.events.len() == wish.limit || at.key() >= stop.key() {
                break;
            }
            at = behind(line, &reading.room);
            read += 1;
            page.take(line, reading, wish);
        }
    }
    Ok(page)
}

/// The lines right before a place, as far as no gap comes between them: they fill this one, or stand in the timeline.
async fn lines_before(
    app: &App,
    room: &Room,
    at: Cursor,
    gap: Option<&Gap>,
) -> Result<Vec<Arc<Line>>, StoreError> {
    if let Some(gap) = gap {
        let last = gap.filled.min(at.depth.saturating_add(STRIDE)) - 1;
        return app.rooms.lines(room, Gap::number(gap.n, last), Gap::number(gap.n, at.depth)).await;
    }
    let (look, last) = (room.look(), at.line - 1);
    let floor = look.gaps.range(..=last).next_back().map_or(1, |(n, _)| *n);
    let from = floor.max(last - i64::from(STRIDE) + 1).max(1);
    app.rooms.lines(room, from, last).await
}

/// The same behind a place, as far as they may be read.
async fn lines_behind(
    app: &App,
    reading: &Reading,
    at: Cursor,
) -> Result<Vec<Arc<Line>>, StoreError> {
    let room = &reading.room;
    if at.depth > 0 {
        let rest = at.depth.saturating_sub(STRIDE);
        let (from, to) = (Gap::number(at.line, at.depth - 1), Gap::number(at.line, rest));
        return app.rooms.lines(room, from, to).await;
    }
    let look = room.look();
    let next = look.gaps.range(at.line + 1..).next().map_or(i64::MAX, |(n, _)| *n - 1);
    let to = next.min(at.line + i64::from(STRIDE) - 1).min(reading.until);
    app.rooms.lines(room, at.line, to).await
}

/// The place before a line, or before what fills a gap.
fn before(line: &Line) -> Cursor {
    if line.n > 0 {
        return Cursor { line: line.n, depth: 0 };
    }
    let (n, depth) = Gap::place(line.n);
    Cursor { line: n, depth: depth + 1 }
}

/// The place behind a line, or behind what fills a gap: before all that fills the next one.
fn behind(line: &Line, room: &Room) -> Cursor {
    if line.n > 0 {
        return Cursor { line: line.n + 1, depth: filled(room, line.n + 1) };
    }
    let (n, depth) = Gap::place(line.n);
    Cursor { line: n, depth }
}

impl Page {
    fn take(&mut self, line: &Line, reading: &Reading, wish: &Wish<'_>) {
        if reading.sight.sees(line.n, &line.event) && wish.filter.event(&line.event.pdu) {
            self.events.push(Arc::clone(&line.event));
        }
    }
}
