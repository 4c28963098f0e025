//! `gap:[room, n]`: before line `n` something is missing, or was, and the numbers of what fills it.

use ruma::{OwnedEventId, RoomId};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError,
    value::{beginning_with, number_part, parsed, record, unfit},
};

/// Before a line of a room something is missing, or was missing when the line was written: what has been fetched since stands
/// between the lines and has been shown to no /sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The line that it is before.
    pub n: i64,
    /// The missing events that what we hold follows directly; none once the gap is closed.
    pub ends: Vec<OwnedEventId>,
    /// How many events fill it so far.
    pub filled: u32,
}

/// How many bits of a number say how far before its line something stands.
const DEPTH: u32 = 32;

impl Gap {
    /// The number of what fills the gap at a depth, counted from 0: the nearest to the line.
    ///
    /// One number has to say both, the line and the depth. What comes before line 1 counts down from 0; what comes before
    /// line 2 counts down from -2^32, and so on. Numbers of one gap are dense and rise towards its line.
    #[must_use]
    pub fn number(n: i64, depth: u32) -> i64 {
        -(((n - 1) << DEPTH) + i64::from(depth))
    }

    /// The line before which the holder of such a number stands, and how far before it.
    #[must_use]
    pub fn place(number: i64) -> (i64, u32) {
        let number = number.saturating_neg().max(0);
        ((number >> DEPTH) + 1, u32::try_from(number & ((1 << DEPTH) - 1)).unwrap_or(u32::MAX))
    }

    /// Whether nothing is missing any more.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.ends.is_empty()
    }
}

#[derive(SurrealValue)]
struct GapRow {
    id: RecordId,
    ends: Vec<String>,
    filled: i64,
}

pub(crate) fn row_of(room: &RoomId, gap: &Gap) -> (RecordId, Object) {
    let ends: Vec<String> = gap.ends.iter().map(ToString::to_string).collect();
    let id = record("gap", vec![room.as_str().into_value(), gap.n.into_value()]);
    (id, object! { ends: ends, filled: i64::from(gap.filled) })
}

impl TryFrom<GapRow> for Gap {
    type Error = StoreError;

    fn try_from(row: GapRow) -> Result<Self, StoreError> {
        let bad = unfit(&row.id);
        let ends = row.ends.iter().map(|id| parsed(id, &bad));
        Ok(Self {
            n: number_part(&row.id, 1)?,
            ends: ends.collect::<Result<_, _>>()?,
            filled: u32::try_from(row.filled).map_err(|error| bad(error.to_string()))?,
        })
    }
}

impl Database {
    /// The gaps of a room, closed ones included, in the order of their lines.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn gaps(&self, room: &RoomId) -> Result<Vec<Gap>, StoreError> {
        let range = beginning_with("gap", vec![room.as_str().into_value()]);
        let mut answer = self.ask("SELECT * FROM $range", object! { range: range }).await?;
        answer.take::<Vec<GapRow>>(0)?.into_iter().map(Gap::try_from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_where_it_stands() {
        for (n, depth) in [(1, 0), (1, 1), (1, 700), (2, 0), (2, 5), (40, 99), (1 << 30, 3)] {
            let number = Gap::number(n, depth);
            assert!(number <= 0);
            assert_eq!(Gap::place(number), (n, depth));
        }
        assert_eq!(Gap::number(1, 0), 0);
        assert_eq!(Gap::number(1, 7), -7);
        assert_eq!(Gap::place(i64::MIN).1, u32::MAX);
    }
}
