//! The one place that writes rooms: many appends in one durable transaction.

use std::{collections::BTreeMap, sync::Arc};

use matryx_core::room::{Change, StateEntry};
use ruma::{OwnedEventId, OwnedRoomId};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Alias, Database, Fork, Mine, RoomHead, StoreError, StoredEvent, TransactionKey, alias,
    error::STALE,
    event, mine,
    room::{self, signed},
    value::{named, record},
};

/// Everything that one accepted intent changes.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where the room stands afterwards. Its `pos` is given by the committer.
    pub head: RoomHead,
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
}

/// How much a commit wrote, for the benchmark's report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Statements of the query.
    pub statements: u64,
    /// Rows written or deleted.
    pub rows: u64,
}

/// The rows of a batch, table by table. Later appends of the same room take over the rows of earlier ones.
#[derive(Default)]
struct Batch {
    was: BTreeMap<OwnedRoomId, u64>,
    rooms: BTreeMap<OwnedRoomId, Object>,
    events: BTreeMap<String, Object>,
    lines: Vec<Object>,
    keys: Vec<Object>,
    state: BTreeMap<RecordId, Option<Object>>,
    forks: Vec<Object>,
    mine: BTreeMap<(String, String), Object>,
    transactions: Vec<Object>,
    aliases: [Vec<Object>; 2],
    early: Vec<Object>,
}

impl Database {
    /// Writes a batch of appends, each with its position, all of them or none. Durable when it returns.
    ///
    /// Appends of one room follow one another in the order given.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if a room does not stand where its append says; otherwise when the database fails.
    /// Nothing has been written then, unless the engine itself does not know.
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
        Err(StoreError::Inconsistent {
            table: "stream",
            row: "head".to_owned(),
            why: "the reservation returned nothing".to_owned(),
        })
    }
}

impl Batch {
    fn add(&mut self, pos: u64, append: &Append) {
        let room = &append.head.room_id;
        if let Some(was) = append.was
            && !self.rooms.contains_key(room)
        {
            self.was.insert(room.clone(), was);
        }
        let head = RoomHead { pos, ..append.head.clone() };
        self.rooms.insert(room.clone(), room::head_row(&head));
        for line in &append.lines {
            self.add_event(&line.event);
            self.add_line(room, append.head.epoch, pos, line);
        }
        for event in &append.events {
            self.add_event(event);
        }
        self.forks.extend(append.forks.iter().map(event::fork_row));
        for mine in &append.mine {
            let key = (mine.user.to_string(), mine.room.to_string());
            self.mine.insert(key, mine::row_of(mine, pos));
        }
        for (key, answer) in &append.transactions {
            self.transactions.push(object! { id: key.record(), event: answer.as_str() });
        }
        for (target, redaction) in &append.early {
            let row = object! { id: named("redaction", target), event: redaction.as_str() };
            self.early.push(row);
        }
        for alias in &append.aliases {
            let [forth, back] = alias::rows_of(alias);
            self.aliases[0].push(forth);
            self.aliases[1].push(back);
        }
    }

    fn add_event(&mut self, event: &StoredEvent) {
        self.events.insert(event.pdu.event_id().to_string(), event::row_of(event));
    }

    fn add_line(&mut self, room: &OwnedRoomId, epoch: i64, pos: u64, line: &NewLine) {
        let mut row = object! {
            id: record("line", vec![room.as_str().into_value(), line.n.into_value()]),
            pos: signed(pos),
            event: named("event", line.event.pdu.event_id()),
        };
        if !line.changes.is_empty() {
            let changes: Vec<Object> = line.changes.iter().map(room::change_row).collect();
            row.insert("changes".to_owned(), changes.into_value());
        }
        self.lines.push(row);
        for change in &line.changes {
            let kind = change.key.kind.to_string();
            let parts = |last: Option<i64>, second: Option<i64>| {
                let mut parts = vec![room.as_str().into_value()];
                parts.extend(second.map(SurrealValue::into_value));
                parts.push(kind.as_str().into_value());
                parts.push(change.key.key.to_string().into_value());
                parts.extend(last.map(SurrealValue::into_value));
                parts
            };
            let version = record("key", parts(Some(line.n), None));
            self.keys.push(entry_row(version, change.new.as_ref()));
            let current = record("state", parts(None, Some(epoch)));
            let row = change.new.as_ref().map(|entry| entry_row(current.clone(), Some(entry)));
            self.state.insert(current, row);
        }
    }

    /// One query string: BEGIN, the condition, an INSERT a table that has rows, COMMIT.
    fn into_query(self) -> (String, Object, Written) {
        let mut query = Query::default();
        if !self.was.is_empty() {
            let (ids, was): (Vec<RecordId>, Vec<i64>) =
                self.was.iter().map(|(room, was)| (named("room", room), signed(*was))).unzip();
            query.variables.insert("was_ids".to_owned(), ids.into_value());
            query.variables.insert("was".to_owned(), was.into_value());
            query.statement(&format!(
                "IF (SELECT VALUE pos FROM $was_ids) != $was {{ THROW '{STALE}' }}"
            ));
        }
        let gone: Vec<RecordId> =
            self.state.iter().filter(|(_, row)| row.is_none()).map(|(id, _)| id.clone()).collect();
        query.put("event", self.events.into_values().collect(), &event::EVENT_COLUMNS);
        query.put("line", self.lines, &[]);
        query.put("key", self.keys, &[]);
        query.put("state", self.state.into_values().flatten().collect(), &["event", "membership"]);
        query.put("fork", self.forks, &["base", "delta"]);
        query.put("mine", self.mine.into_values().collect(), &mine::MINE_COLUMNS);
        query.put("txn", self.transactions, &[]);
        let [forth, back] = self.aliases;
        query.put("redaction", self.early, &["event"]);
        query.put("alias", forth, &[]);
        query.put("room_alias", back, &[]);
        query.put(
            "room",
            self.rooms.into_values().collect(),
            &["version", "n", "pos", "epoch", "tips"],
        );
        if !gone.is_empty() {
            query.written.rows += gone.len() as u64;
            query.variables.insert("gone".to_owned(), gone.into_value());
            query.statement("DELETE $gone RETURN NONE");
        }
        (format!("BEGIN;{}COMMIT", query.sql), query.variables, query.written)
    }
}

fn entry_row(id: RecordId, entry: Option<&StateEntry>) -> Object {
    let mut row = object! { id: id };
    if let Some(entry) = entry {
        row.insert("event".to_owned(), entry.event_id.as_str().into_value());
        if let Some(membership) = entry.membership {
            row.insert("membership".to_owned(), membership.as_str().into_value());
        }
    }
    row
}

#[derive(Default)]
struct Query {
    sql: String,
    variables: Object,
    written: Written,
}

impl Query {
    fn statement(&mut self, statement: &str) {
        self.sql.push_str(statement);
        self.sql.push(';');
        self.written.statements += 1;
    }

    /// A multi-row INSERT; `columns` are those that replace what an older row of the same id has.
    fn put(&mut self, table: &str, rows: Vec<Object>, columns: &[&str]) {
        if rows.is_empty() {
            return;
        }
        self.written.rows += rows.len() as u64;
        let columns: Vec<String> =
            columns.iter().map(|column| format!("{column} = $input.{column}")).collect();
        let replace = match columns.as_slice() {
            [] => String::new(),
            columns => format!(" ON DUPLICATE KEY UPDATE {}", columns.join(", ")),
        };
        self.variables.insert(table.to_owned(), rows.into_value());
        self.statement(&format!("INSERT INTO {table} ${table}{replace} RETURN NONE"));
    }
}
