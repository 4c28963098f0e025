//! `line:[room, n]`: a room's timeline, and the log of its current state.

use std::{collections::HashMap, sync::Arc};

use matryx_core::room::{Change, StateEntry, StateKey};
use ruma::RoomId;
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError, StoredEvent,
    event::EventRow,
    state::entry,
    value::{between, name_of, number_part, record, unfit},
};

/// One entry of a room's timeline.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it stands in the room; dense.
    pub n: i64,
    /// Where it stands in the server's stream.
    pub pos: u64,
    /// The event.
    pub event: Arc<StoredEvent>,
    /// What became different in the room's current state: usually the event's own key, more where a fork resolved.
    pub changes: Vec<Change>,
    /// Whether something that came before it is missing: the line before it is older than what it follows, and the changes
    /// do not lead from there to here.
    pub gap: bool,
}

pub(crate) fn change_row(change: &Change) -> Object {
    let mut row = object! { t: change.key.kind.to_string(), k: change.key.key.to_string() };
    let mut put = |columns: [&str; 2], entry: Option<&StateEntry>| {
        let Some(entry) = entry else { return };
        row.insert(columns[0].to_owned(), entry.event_id.as_str().into_value());
        if let Some(membership) = entry.membership {
            row.insert(columns[1].to_owned(), membership.as_str().into_value());
        }
    };
    put(["e", "m"], change.new.as_ref());
    put(["o", "p"], change.old.as_ref());
    row
}

#[derive(SurrealValue)]
struct LineRow {
    id: RecordId,
    pos: i64,
    event: RecordId,
    changes: Option<Vec<ChangeRow>>,
    gap: Option<bool>,
}

/// t, k: type and key; e, m: the new event and its membership; o, p: the old event and its membership.
#[derive(SurrealValue)]
struct ChangeRow {
    t: String,
    k: String,
    e: Option<String>,
    m: Option<String>,
    o: Option<String>,
    p: Option<String>,
}

impl TryFrom<ChangeRow> for Change {
    type Error = StoreError;

    fn try_from(row: ChangeRow) -> Result<Self, StoreError> {
        Ok(Self {
            key: StateKey::new(row.t.into(), row.k),
            new: entry("line", row.e, row.m.as_deref())?,
            old: entry("line", row.o, row.p.as_deref())?,
        })
    }
}

impl Database {
    /// A stretch of a room's timeline, oldest first. The range is exact: `to - from + 1` rows are read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lines(&self, room: &RoomId, from: i64, to: i64) -> Result<Vec<Line>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        let at = |n: i64| vec![room.as_str().into_value(), n.into_value()];
        let mut answer = self
            .ask(
                "SELECT id, pos, event, changes, gap FROM $range;
                 SELECT * FROM (SELECT VALUE event FROM $range)",
                object! { range: between("line", at(from), at(to)) },
            )
            .await?;
        let rows: Vec<LineRow> = answer.take(0)?;
        let events: Vec<EventRow> = answer.take(1)?;
        let mut events: HashMap<String, EventRow> = events
            .into_iter()
            .map(|row| Ok((name_of(&row.id)?.to_owned(), row)))
            .collect::<Result<_, StoreError>>()?;
        rows.into_iter()
            .map(|row| {
                let n = number_part(&row.id, 1)?;
                let event = events
                    .remove(name_of(&row.event)?)
                    .ok_or_else(|| unfit(&row.id)("its event is not kept".to_owned()))?;
                Ok(Line {
                    n,
                    pos: row.pos.unsigned_abs(),
                    event: Arc::new(event.try_into()?),
                    changes: row
                        .changes
                        .unwrap_or_default()
                        .into_iter()
                        .map(Change::try_from)
                        .collect::<Result<_, _>>()?,
                    gap: row.gap.unwrap_or_default(),
                })
            })
            .collect()
    }

    /// What became different in a room's current state over a stretch of its timeline, line by line, oldest first. The
    /// range is exact, and no event is read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn changes(
        &self,
        room: &RoomId,
        from: i64,
        to: i64,
    ) -> Result<Vec<Change>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        let at = |n: i64| vec![room.as_str().into_value(), n.into_value()];
        let mut answer = self
            .ask(
                "SELECT VALUE changes FROM $range",
                object! { range: between("line", at(from), at(to)) },
            )
            .await?;
        let rows: Vec<Option<Vec<ChangeRow>>> = answer.take(0)?;
        rows.into_iter().flatten().flatten().map(Change::try_from).collect()
    }

    /// The position of one line.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn line_position(&self, room: &RoomId, n: i64) -> Result<Option<u64>, StoreError> {
        let id = record("line", vec![room.as_str().into_value(), n.into_value()]);
        let mut answer = self.ask("SELECT VALUE pos FROM ONLY $id", object! { id: id }).await?;
        Ok(answer.take::<Option<i64>>(0)?.map(i64::unsigned_abs))
    }
}
