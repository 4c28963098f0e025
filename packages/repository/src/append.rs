//! The one place that writes rooms: many appends in one durable transaction.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use matryx_core::room::Change;
use ruma::{OwnedEventId, OwnedRoomId};
use surrealdb::types::{Object, RecordId, SurrealValue, Value, object};

use crate::{
    Alias, Database, Errand, Fork, Gap, Mine, Out, RoomHead, ServerSet, StoreError, StoredEvent,
    TransactionKey, alias, errand, event, fork, gap,
    line::change_row,
    mine, out,
    room::{self, signed},
    state::entry_row,
    value::{named, record},
};

/// Everything that one accepted intent changes.
#[derive(Debug, Clone)]
pub struct Append {
    /// The room that it is about.
    pub room: OwnedRoomId,
    /// Where the room stands afterwards; `None` for one that is not held here, of which only what our users are to it is
    /// known. Its `pos` is given by the committer.
    pub head: Option<RoomHead>,
    /// The position at which the room stood before; `None` for a new room.
    pub was: Option<u64>,
    /// The events that are new to the timeline, in order, with what they changed.
    pub lines: Vec<NewLine>,
    /// Events that are kept without a line (soft-failed, rejected), and kept events that changed (redacted).
    pub events: Vec<Arc<StoredEvent>>,
    /// The state before those events that stand where the room forked.
    pub forks: Vec<Fork>,
    /// Memberships of local users.
    pub mine: Vec<Mine>,
    /// Requests that are answered by this append, and with which event.
    pub transactions: Vec<(TransactionKey, String)>,
    /// Aliases of a room that is created with them.
    pub aliases: Vec<Alias>,
    /// Redactions whose target has not come yet: the target, and the redaction.
    pub early: Vec<(OwnedEventId, OwnedEventId)>,
    /// What of it goes to other servers.
    pub out: Vec<Out>,
    /// Sets of servers that are written down for the first time.
    pub sets: Vec<Arc<ServerSet>>,
    /// What a room that we are not in has still to be told.
    pub errands: Vec<Errand>,
    /// Gaps that have come about, or have been filled further.
    pub gaps: Vec<Gap>,
    /// What fills them: events that get a number before one of the room's lines, and change no current state.
    pub fills: Vec<Arc<StoredEvent>>,
}

impl Append {
    /// An append to a room that changes nothing yet.
    #[must_use]
    pub fn to(room: OwnedRoomId) -> Self {
        Self {
            room,
            head: None,
            was: None,
            lines: Vec::new(),
            events: Vec::new(),
            forks: Vec::new(),
            mine: Vec::new(),
            transactions: Vec::new(),
            aliases: Vec::new(),
            early: Vec::new(),
            out: Vec::new(),
            sets: Vec::new(),
            errands: Vec::new(),
            gaps: Vec::new(),
            fills: Vec::new(),
        }
    }
}

/// A new line of a room.
#[derive(Debug, Clone)]
pub struct NewLine {
    /// Where it stands.
    pub n: i64,
    /// The event.
    pub event: Arc<StoredEvent>,
    /// What became different in the room's current state.
    pub changes: Vec<Change>,
    /// The event was kept before, as an outlier.
    pub outlier: bool,
    /// Whether something that came before it is missing: the changes do not tell everything then.
    pub gap: bool,
}

/// How many rows take the place of older ones in statements of their own, which costs a third less than a loop does. A text
/// of thousands of statements would not.
const FEW: usize = 64;

/// How much a commit wrote, for the benchmark's report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Statements of the query.
    pub statements: u64,
    /// Rows written or deleted.
    pub rows: u64,
}

/// The rows of a batch. Later appends of the same room take over the rows of earlier ones.
#[derive(Default)]
struct Batch {
    /// Rows whose id can't be taken. That a room's line `n` is written once is what keeps two writers apart.
    new: BTreeMap<RecordId, Object>,
    /// Rows whose id another append of the batch has taken. The engine is to refuse them as it refuses what is stored.
    clashing: Vec<(RecordId, Object)>,
    /// Rows that may take the place of older ones.
    put: BTreeMap<RecordId, Object>,
    gone: BTreeSet<RecordId>,
}

impl Database {
    /// Writes a batch of appends, each with its position, all of them or none. Durable when it returns.
    ///
    /// Appends of one room follow one another in the order given.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if a line, a transaction id or an alias is taken; otherwise when the database fails. Nothing has
    /// been written then, unless the engine itself does not know.
    pub async fn commit(&self, appends: &[(u64, &Append)]) -> Result<Written, StoreError> {
        let mut batch = Batch::default();
        for (pos, append) in appends {
            batch.add(*pos, append);
        }
        let (sql, variables, written) = batch.into_query();
        self.ask(&sql, variables).await?;
        Ok(written)
    }

    /// Reserves the next `count` positions of the stream; returns the last position before them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reserve_positions(&self, count: u64) -> Result<u64, StoreError> {
        let sql = "BEGIN;
            LET $was = (SELECT VALUE reserved FROM ONLY stream:head) ?? 0;
            UPSERT stream:head SET reserved = $was + $count;
            RETURN $was;
            COMMIT";
        let mut answer = self.ask(sql, object! { count: signed(count) }).await?;
        // BEGIN, LET, UPSERT, RETURN: the fourth statement's result is the third of the response when BEGIN has none.
        let results = answer.num_statements();
        for statement in 0..results {
            if let Ok(Some(was)) = answer.take::<Option<i64>>(statement) {
                return Ok(was.unsigned_abs());
            }
        }
        Err(StoreError::inconsistent("stream", "head", "the reservation returned nothing"))
    }
}

impl Batch {
    fn add(&mut self, pos: u64, append: &Append) {
        let room = &append.room;
        if let Some(head) = &append.head {
            self.add_head(pos, append.was, head);
            for line in &append.lines {
                let (id, row) =
                    (named("event", line.event.pdu.event_id()), event::row_of(&line.event));
                if line.outlier {
                    self.replace(id, row);
                } else {
                    self.add_new(id, row);
                }
                self.add_line(room, head.epoch, pos, line);
            }
        }
        for event in &append.fills {
            let Some(n) = event.n else { continue };
            self.replace(named("event", event.pdu.event_id()), event::row_of(event));
            let place = vec![room.as_str().into_value(), n.into_value()];
            let id = named("event", event.pdu.event_id());
            self.add_new(record("line", place), object! { pos: signed(pos), event: id });
        }
        for event in &append.events {
            self.replace(named("event", event.pdu.event_id()), event::row_of(event));
        }
        for fork in &append.forks {
            self.replace(named("fork", &fork.event_id), fork::row_of(fork));
        }
        for mine in &append.mine {
            self.replace(mine.record(), mine::row_of(mine, pos));
        }
        for errand in &append.errands {
            self.replace(errand.record(), errand::row_of(errand));
        }
        for (key, answer) in &append.transactions {
            self.add_new(key.record(), object! { event: answer.as_str() });
        }
        for (target, redaction) in &append.early {
            self.replace(named("redaction", target), object! { event: redaction.as_str() });
        }
        for (id, row) in append.out.iter().map(|out| out::row_of(out, pos)) {
            self.add_new(id, row);
        }
        for (id, row) in append.sets.iter().map(|set| out::set_row(set)) {
            self.replace(id, row);
        }
        for gap in &append.gaps {
            let (id, row) = gap::row_of(room, gap);
            self.replace(id, row);
        }
        for alias in &append.aliases {
            for (id, row) in alias::rows_of(alias) {
                self.add_new(id, row);
            }
        }
    }

    fn add_head(&mut self, pos: u64, was: Option<u64>, head: &RoomHead) {
        let head = RoomHead { pos, ..head.clone() };
        let (id, row) = (named("room", &head.room_id), room::head_row(&head));
        if was.is_none() && !self.new.contains_key(&id) {
            self.add_new(id, row);
        } else {
            self.replace(id, row);
        }
    }

    fn add_line(&mut self, room: &OwnedRoomId, epoch: i64, pos: u64, line: &NewLine) {
        let mut row = object! {
            pos: signed(pos),
            event: named("event", line.event.pdu.event_id()),
        };
        if !line.changes.is_empty() {
            let changes: Vec<Object> = line.changes.iter().map(change_row).collect();
            row.insert("changes".to_owned(), changes.into_value());
        }
        let place = vec![room.as_str().into_value(), line.n.into_value()];
        if line.gap {
            row.insert("gap".to_owned(), true.into_value());
        }
        self.add_new(record("line", place), row);
        for change in &line.changes {
            let kind = change.key.kind.to_string().into_value();
            let key = change.key.key.to_string().into_value();
            let place = |parts: [Value; 3]| {
                let mut place = vec![room.as_str().into_value()];
                place.extend(parts);
                place
            };
            let version = place([kind.clone(), key.clone(), line.n.into_value()]);
            self.add_new(record("key", version), entry_row(change.new.as_ref()));
            let current = record("state", place([epoch.into_value(), kind, key]));
            match (&change.new, &change.old) {
                (Some(entry), None) => self.add_new(current, entry_row(Some(entry))),
                (Some(entry), Some(_)) => self.replace(current, entry_row(Some(entry))),
                (None, _) => self.remove(current),
            }
        }
    }

    fn add_new(&mut self, id: RecordId, row: Object) {
        if self.gone.remove(&id) {
            // It was there before the batch, whatever an earlier append of the batch did to it.
            self.put.insert(id, row);
            return;
        }
        match self.new.entry(id) {
            Entry::Vacant(place) => drop(place.insert(row)),
            Entry::Occupied(taken) => self.clashing.push((taken.key().clone(), row)),
        }
    }

    fn replace(&mut self, id: RecordId, row: Object) {
        self.gone.remove(&id);
        match self.new.get_mut(&id) {
            Some(new) => *new = row,
            None => drop(self.put.insert(id, row)),
        }
    }

    fn remove(&mut self, id: RecordId) {
        if self.new.remove(&id).is_none() {
            self.put.remove(&id);
            self.gone.insert(id);
        }
    }

    /// One query string: BEGIN, what is new in one INSERT into all tables, what takes the place of older rows, COMMIT.
    fn into_query(self) -> (String, Object, Written) {
        fn with_id((id, mut row): (RecordId, Object)) -> Object {
            row.insert("id".to_owned(), id.into_value());
            row
        }
        let mut sql = "BEGIN;".to_owned();
        let mut variables = Object::new();
        let mut written = Written::default();
        let mut statement = |text: &str, rows: usize, values: Vec<(String, Value)>| {
            if rows > 0 {
                sql.push_str(text);
                variables.extend(values);
                written.statements += 1;
                written.rows += rows as u64;
            }
        };
        let new: Vec<Object> = self.new.into_iter().chain(self.clashing).map(with_id).collect();
        let count = new.len();
        let new = vec![("new".to_owned(), new.into_value())];
        statement("INSERT $new RETURN NONE;", count, new);
        if self.put.len() <= FEW {
            for (number, (id, row)) in self.put.into_iter().enumerate() {
                let (id_name, name) = (format!("id{number}"), format!("put{number}"));
                let text = format!("UPSERT ${id_name} CONTENT ${name} RETURN NONE;");
                statement(&text, 1, vec![(id_name, id.into_value()), (name, row.into_value())]);
            }
        } else {
            let text = "FOR $row IN $put { UPSERT $row.id CONTENT $row RETURN NONE };";
            let put: Vec<Object> = self.put.into_iter().map(with_id).collect();
            statement(text, put.len(), vec![("put".to_owned(), put.into_value())]);
        }
        let gone: Vec<RecordId> = self.gone.into_iter().collect();
        let count = gone.len();
        statement("DELETE $gone RETURN NONE;", count, vec![("gone".to_owned(), gone.into_value())]);
        sql.push_str("COMMIT");
        (sql, variables, written)
    }
}
