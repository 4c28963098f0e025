//! `room:⟨id⟩`: where a room stands.

use ruma::{OwnedEventId, OwnedRoomId, RoomId, RoomVersionId};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError,
    value::{name_of, named, parsed, unfit},
};

/// Where a room stands.
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

impl TryFrom<HeadRow> for RoomHead {
    type Error = StoreError;

    fn try_from(row: HeadRow) -> Result<Self, StoreError> {
        let bad = unfit(&row.id);
        let tips = row.tips.iter().map(|tip| {
            Ok(Tip { event_id: parsed(&tip.event, &bad)?, depth: tip.depth.unsigned_abs() })
        });
        let tips = tips.collect::<Result<_, StoreError>>()?;
        Ok(Self {
            room_id: parsed(name_of(&row.id)?, &bad)?,
            version: parsed(&row.version, &bad)?,
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
                let room = parsed(name_of(&row.id)?, &unfit(&row.id))?;
                Ok((room, row.pos.unsigned_abs()))
            })
            .collect()
    }
}
