//! What waits, in memory: whose it is, when it is due, and what gives way where there is too much.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use matryx_repository::Waiting as Row;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName,
    UInt,
};

use super::{Tried, Way};
use crate::{
    app::App,
    clock::later,
    federation::{Backoff, inbox::MOST_PDUS},
};

/// How many events of one server wait in one room: as many as a transaction has. The newest lead to all others.
const OF_ONE: usize = MOST_PDUS;

/// How many events wait in one room.
const IN_ROOM: usize = 200;

/// How many events wait in all rooms.
const IN_ALL: usize = 10_000;

/// How long an event waits after an attempt.
const WAITS: Backoff = Backoff { first: Duration::from_secs(30), longest: Duration::from_hours(3) };

/// The same for tests, which bring servers back quickly.
const SHORT_WAITS: Backoff = Backoff { first: Duration::from_millis(100), ..WAITS };

/// When an event is given up. What follows it in the room still leads to it.
const GIVEN_UP: Duration = Duration::from_hours(2 * 24);

#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) rooms: BTreeMap<OwnedRoomId, BTreeMap<OwnedServerName, Vec<Entry>>>,
    pub(super) running: BTreeSet<Way>,
    pub(super) count: usize,
}

/// One event that waits.
#[derive(Debug)]
pub(super) struct Entry {
    row: Row,
    /// What it missed when it was tried last.
    pub(super) missing: BTreeSet<OwnedEventId>,
    /// When it is tried next.
    pub(super) next: MilliSecondsSinceUnixEpoch,
    tries: u32,
}

impl List {
    pub(super) fn insert(&mut self, row: Row, next: MilliSecondsSinceUnixEpoch) {
        let servers = self.rooms.entry(row.room.clone()).or_default();
        let entries = servers.entry(row.origin.clone()).or_default();
        if let Some(known) = entries.iter_mut().find(|entry| entry.row.hash == row.hash) {
            known.next = known.next.min(next);
            return;
        }
        entries.push(Entry { row, missing: BTreeSet::new(), next, tries: 0 });
        self.count += 1;
    }

    /// Takes one out where there are too many.
    pub(super) fn give_way(&mut self, room: &RoomId, origin: &ServerName) -> Option<Row> {
        let servers = self.rooms.get(room)?;
        let in_room: usize = servers.values().map(Vec::len).sum();
        let (room, origin) = if servers.get(origin).is_some_and(|own| own.len() > OF_ONE) {
            (room.to_owned(), origin.to_owned())
        } else if in_room > IN_ROOM {
            let (most, _) = servers.iter().max_by_key(|(_, entries)| entries.len())?;
            (room.to_owned(), most.clone())
        } else if self.count > IN_ALL {
            let all = self.rooms.iter().flat_map(|(room, servers)| {
                servers.iter().map(move |(origin, entries)| (room, origin, entries.len()))
            });
            let (room, origin, _) = all.max_by_key(|(.., count)| *count)?;
            (room.clone(), origin.clone())
        } else {
            return None;
        };
        let entries = self.rooms.get_mut(&room)?.get_mut(&origin)?;
        if entries.is_empty() {
            return None;
        }
        let gone = entries.remove(0).row;
        self.count -= 1;
        Some(gone)
    }

    /// Who waits where, and when the first of it is due.
    pub(super) fn ways(&self) -> Vec<(Way, MilliSecondsSinceUnixEpoch)> {
        let of_room = |(room, servers): (&OwnedRoomId, &BTreeMap<OwnedServerName, Vec<Entry>>)| {
            let next = |(origin, entries): (&OwnedServerName, &Vec<Entry>)| {
                let way = (room.clone(), origin.clone());
                let next = entries.iter().map(|entry| entry.next).min()?;
                (!self.running.contains(&way)).then_some((way, next))
            };
            servers.iter().filter_map(next).collect::<Vec<_>>()
        };
        self.rooms.iter().flat_map(of_room).collect()
    }

    pub(super) fn due(&self, (room, origin): &Way, now: MilliSecondsSinceUnixEpoch) -> Vec<Row> {
        let entries = self.rooms.get(room).and_then(|servers| servers.get(origin));
        let due = entries.into_iter().flatten().filter(|entry| entry.next <= now);
        due.map(|entry| entry.row.clone()).collect()
    }

    /// Makes the notes about a server due; false if there are none.
    pub(super) fn hasten_notes(
        &mut self,
        (room, origin): &Way,
        now: MilliSecondsSinceUnixEpoch,
    ) -> bool {
        let entries = self.rooms.get_mut(room).and_then(|servers| servers.get_mut(origin));
        let mut any = false;
        for entry in entries.into_iter().flatten().filter(|entry| entry.row.is_note()) {
            entry.next = entry.next.min(now);
            any = true;
        }
        any
    }

    fn entry(&mut self, row: &Row) -> Option<&mut Entry> {
        let entries = self.rooms.get_mut(&row.room)?.get_mut(&row.origin)?;
        entries.iter_mut().find(|entry| entry.row.hash == row.hash)
    }

    /// An event is being tried. What happens meanwhile makes it due again.
    pub(super) fn begun(&mut self, row: &Row) {
        if let Some(entry) = self.entry(row) {
            entry.next = MilliSecondsSinceUnixEpoch(UInt::MAX);
        }
    }

    /// What was begun and not tried to the end is put off.
    pub(super) fn let_go(&mut self, app: &App, (room, origin): &Way) {
        let entries = self.rooms.get_mut(room).and_then(|servers| servers.get_mut(origin));
        for entry in entries.into_iter().flatten() {
            if entry.next.0 == UInt::MAX {
                entry.put_off(app, Vec::new());
            }
        }
    }

    /// Takes out what waits no more and puts the rest off. What was not told of was not tried to the end.
    pub(super) fn tried(&mut self, app: &App, rows: Vec<Row>, tried: Vec<Tried>) -> Vec<Row> {
        let now = app.clock.now();
        let mut tried = tried.into_iter();
        let mut done = Vec::new();
        for row in rows {
            let missing = match tried.next() {
                Some(Tried::Done) => None,
                Some(Tried::Missing(missing)) => Some(missing),
                None => Some(Vec::new()),
            };
            let old = later(row.since, GIVEN_UP) <= now;
            match (missing, self.entry(&row)) {
                (Some(missing), Some(entry)) if !old => entry.put_off(app, missing),
                (missing, _) => {
                    if missing.is_some() {
                        tracing::info!(room = %row.room, origin = %row.origin, "inbox.given_up");
                    }
                    self.remove(&row);
                    done.push(row);
                }
            }
        }
        done
    }

    fn remove(&mut self, row: &Row) {
        let Some(servers) = self.rooms.get_mut(&row.room) else { return };
        if let Some(entries) = servers.get_mut(&row.origin) {
            let before = entries.len();
            entries.retain(|entry| entry.row.hash != row.hash);
            self.count -= before - entries.len();
            if entries.is_empty() {
                servers.remove(&row.origin);
            }
        }
        if servers.is_empty() {
            self.rooms.remove(&row.room);
        }
    }
}

impl Entry {
    fn put_off(&mut self, app: &App, missing: Vec<OwnedEventId>) {
        self.tries = self.tries.saturating_add(1);
        self.missing = missing.into_iter().collect();
        let short = app.config.testing.short_federation_backoff;
        let wait = if short { SHORT_WAITS } else { WAITS }.after(self.tries);
        let next = later(app.clock.now(), wait);
        // Unless something has made it due meanwhile.
        self.next = self.next.min(next);
    }
}
