//! A room's head, its current state, its timeline and the versions of its state.

use std::{collections::HashMap, sync::Arc};

use matryx_core::room::{Change, StateEntry, StateKey, StateMap};
use ruma::{OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, events::StateEventType};
use surrealdb::types::{Object, RecordId, SurrealValue, Value, object};

use crate::{
    Database, StoreError, StoredEvent,
    event::{EventRow, entry},
    value::{beginning_with, between, name_of, named, number_part, text_part},
};

/// `room:⟨id⟩`: where a room stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomHead {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// The number of its newest line.
    pub n: i64,
    /// The position at which that was committed.
    pub pos: u64,
    /// Under which epoch its current state is kept: a large import goes in under a new one.
    pub epoch: i64,
    /// The events that no event of ours follows yet.
    pub tips: Vec<Tip>,
}

/// A forward extremity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// The event.
    pub event_id: OwnedEventId,
    /// Its depth.
    pub depth: u64,
}

/// `line:[room, n]`: one entry of a room's timeline.
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

/// A version of one state key.
#[derive(Debug, Clone)]
pub struct Version {
    /// The line at which it began.
    pub n: i64,
    /// What stood there from then on; `None` if the key went away.
    pub entry: Option<StateEntry>,
}

pub(crate) fn head_row(head: &RoomHead) -> Object {
    let tips: Vec<Object> = head
        .tips
        .iter()
        .map(|tip| object! { event: tip.event_id.to_string(), depth: signed(tip.depth) })
        .collect();
    object! {
        version: head.version.as_str(),
        n: head.n,
        pos: signed(head.pos),
        epoch: head.epoch,
        tips: tips,
    }
}

/// Positions and depths stay below 2^63: a depth is at most 2^53 - 1 by the specification's canonical JSON.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
struct HeadRow {
    id: RecordId,
    version: String,
    n: i64,
    pos: i64,
    epoch: i64,
    tips: Vec<TipRow>,
}

#[derive(SurrealValue)]
struct TipRow {
    event: String,
    depth: i64,
}

#[derive(SurrealValue)]
struct StateRow {
    id: RecordId,
    event: Option<String>,
    membership: Option<String>,
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

impl TryFrom<HeadRow> for RoomHead {
    type Error = StoreError;

    fn try_from(row: HeadRow) -> Result<Self, StoreError> {
        let bad =
            |why: String| StoreError::inconsistent("room", format_args!("{:?}", row.id.key), why);
        let tips = row
            .tips
            .iter()
            .map(|tip| {
                let event_id =
                    tip.event.as_str().try_into().map_err(|_| bad(format!("tip {}", tip.event)))?;
                Ok(Tip { event_id, depth: tip.depth.unsigned_abs() })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Self {
            room_id: name_of(&row.id)?.try_into().map_err(|_| bad("room id".to_owned()))?,
            version: row
                .version
                .as_str()
                .try_into()
                .map_err(|_| bad(format!("version {}", row.version)))?,
            n: row.n,
            pos: row.pos.unsigned_abs(),
            epoch: row.epoch,
            tips,
        })
    }
}

impl Database {
    /// A room's head; `None` for a room that is not held.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn head(&self, room: &RoomId) -> Result<Option<RoomHead>, StoreError> {
        let mut answer =
            self.ask("SELECT * FROM ONLY $id", object! { id: named("room", room) }).await?;
        answer.take::<Option<HeadRow>>(0)?.map(RoomHead::try_from).transpose()
    }

    /// The positions of the newest lines of these rooms.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn positions(
        &self,
        rooms: impl IntoIterator<Item = &RoomId> + Send,
    ) -> Result<Vec<(OwnedRoomId, u64)>, StoreError> {
        #[derive(SurrealValue)]
        struct Row {
            id: RecordId,
            pos: i64,
        }
        let ids: Vec<RecordId> = rooms.into_iter().map(|room| named("room", room)).collect();
        let mut answer = self.ask("SELECT id, pos FROM $ids", object! { ids: ids }).await?;
        let rows: Vec<Row> = answer.take(0)?;
        rows.into_iter()
            .map(|row| {
                let room = name_of(&row.id)?.try_into().map_err(|_| {
                    StoreError::inconsistent("room", format_args!("{:?}", row.id.key), "room id")
                })?;
                Ok((room, row.pos.unsigned_abs()))
            })
            .collect()
    }

    /// A room's current state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state(&self, room: &RoomId, epoch: i64) -> Result<StateMap, StoreError> {
        let range = beginning_with("state", vec![room.as_str().into_value(), epoch.into_value()]);
        let mut answer =
            self.ask("SELECT id, event, membership FROM $range", object! { range: range }).await?;
        let rows: Vec<StateRow> = answer.take(0)?;
        rows.into_iter()
            .filter_map(|row| {
                let found = || {
                    let key = StateKey::new(text_part(&row.id, 2)?.into(), text_part(&row.id, 3)?);
                    let entry = entry("state", row.event.clone(), row.membership.as_deref())?;
                    Ok::<_, StoreError>(entry.map(|entry| (key, entry)))
                };
                found().transpose()
            })
            .collect()
    }

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
                let event = events.remove(name_of(&row.event)?).ok_or_else(|| {
                    StoreError::inconsistent(
                        "line",
                        format_args!("[{room}, {n}]"),
                        "its event is not kept",
                    )
                })?;
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
        let id = crate::value::record("line", vec![room.as_str().into_value(), n.into_value()]);
        let mut answer = self.ask("SELECT VALUE pos FROM ONLY $id", object! { id: id }).await?;
        Ok(answer.take::<Option<i64>>(0)?.map(i64::unsigned_abs))
    }

    /// All versions of one state key, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn versions(
        &self,
        room: &RoomId,
        key: &StateKey,
    ) -> Result<Vec<Version>, StoreError> {
        let parts = vec![
            room.as_str().into_value(),
            key.kind.to_string().into_value(),
            key.key.to_string().into_value(),
        ];
        let rows = self.version_rows(parts).await?;
        rows.into_iter()
            .map(|row| {
                let n = number_part(&row.id, 3)?;
                Ok(Version { n, entry: entry("key", row.event, row.membership.as_deref())? })
            })
            .collect()
    }

    /// All versions of all keys of a type, those of a key one after another and oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn versions_of_kind(
        &self,
        room: &RoomId,
        kind: &StateEventType,
    ) -> Result<Vec<(StateKey, Version)>, StoreError> {
        let parts = vec![room.as_str().into_value(), kind.to_string().into_value()];
        let rows = self.version_rows(parts).await?;
        rows.into_iter()
            .map(|row| {
                let key = StateKey::new(kind.clone(), text_part(&row.id, 2)?);
                let n = number_part(&row.id, 3)?;
                let entry = entry("key", row.event, row.membership.as_deref())?;
                Ok((key, Version { n, entry }))
            })
            .collect()
    }

    /// The room's current state as it was at line `n`; only one type's part of it if `kind` is given.
    ///
    /// Reads every version that the keys ever had: what is asked rarely (by those who left, by `/members?at`) pays, not
    /// what is written often.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_at(
        &self,
        room: &RoomId,
        n: i64,
        kind: Option<&StateEventType>,
    ) -> Result<StateMap, StoreError> {
        let mut parts = vec![room.as_str().into_value()];
        parts.extend(kind.map(|kind| kind.to_string().into_value()));
        let mut state = StateMap::new();
        // The rows come in the order of their ids: the versions of a key one after another, oldest first.
        for row in self.version_rows(parts).await? {
            if number_part(&row.id, 3)? > n {
                continue;
            }
            let key = StateKey::new(text_part(&row.id, 1)?.into(), text_part(&row.id, 2)?);
            match entry("key", row.event, row.membership.as_deref())? {
                Some(entry) => state.insert(key, entry),
                None => state.remove(&key),
            };
        }
        Ok(state)
    }

    async fn version_rows(&self, parts: Vec<Value>) -> Result<Vec<StateRow>, StoreError> {
        let mut answer = self
            .ask(
                "SELECT id, event, membership FROM $range",
                object! { range: beginning_with("key", parts) },
            )
            .await?;
        Ok(answer.take(0)?)
    }
}
