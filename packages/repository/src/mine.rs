//! `mine:[user, room]`: the memberships of local users, one record each, whatever their source.

use matryx_core::membership::Membership;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, UserId,
};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError,
    room::signed,
    value::{beginning_with, parsed, record, text_part, unfit},
};

/// Where a record comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The room says it: its member event stands at a line.
    Room,
    /// Nobody of this server is in the room. What the user is to it was learnt beside the room: an invite, a knock, and
    /// what became of them.
    OutOfBand {
        /// The version that the room is said to have.
        version: RoomVersionId,
        /// Servers that are said to be in the room, the likeliest first.
        via: Vec<OwnedServerName>,
    },
}

/// A local user's standing in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mine {
    /// Who.
    pub user: OwnedUserId,
    /// Where.
    pub room: OwnedRoomId,
    /// What they are there.
    pub membership: Membership,
    /// The member event that says so.
    pub event: OwnedEventId,
    /// Where that is known from.
    pub source: Source,
    /// The line of that event; out of band, the line of the last member event that the room itself has told, or 0.
    pub n: i64,
    /// The position at which it was committed; 0 for what is being committed.
    pub pos: u64,
    /// For an invite or a knock: the room's stripped state as it was then, a JSON array for clients.
    pub stripped: Option<String>,
    /// They asked to forget the room, and have not entered it again.
    pub forgotten: bool,
}

#[derive(SurrealValue)]
struct MineRow {
    id: RecordId,
    membership: String,
    event: String,
    version: Option<String>,
    via: Option<Vec<String>>,
    n: i64,
    pos: i64,
    stripped: Option<String>,
    forgotten: Option<bool>,
}

pub(crate) fn row_of(mine: &Mine, pos: u64) -> Object {
    let mut row = object! {
        membership: mine.membership.as_str(),
        event: mine.event.as_str(),
        n: mine.n,
        pos: signed(if mine.pos == 0 { pos } else { mine.pos }),
    };
    if let Source::OutOfBand { version, via } = &mine.source {
        row.insert("version".to_owned(), version.as_str().into_value());
        let via: Vec<String> = via.iter().map(ToString::to_string).collect();
        row.insert("via".to_owned(), via.into_value());
    }
    if let Some(stripped) = &mine.stripped {
        row.insert("stripped".to_owned(), stripped.as_str().into_value());
    }
    if mine.forgotten {
        row.insert("forgotten".to_owned(), true.into_value());
    }
    row
}

impl Mine {
    pub(crate) fn record(&self) -> RecordId {
        record("mine", vec![self.user.as_str().into_value(), self.room.as_str().into_value()])
    }
}

impl TryFrom<MineRow> for Mine {
    type Error = StoreError;

    fn try_from(row: MineRow) -> Result<Self, StoreError> {
        let bad = unfit(&row.id);
        let via = row.via.iter().flatten().map(|name| parsed(name, &bad));
        let source = match &row.version {
            None => Source::Room,
            Some(version) => Source::OutOfBand {
                version: parsed(version, &bad)?,
                via: via.collect::<Result<_, StoreError>>()?,
            },
        };
        Ok(Self {
            user: parsed(text_part(&row.id, 0)?, &bad)?,
            room: parsed(text_part(&row.id, 1)?, &bad)?,
            membership: row
                .membership
                .parse()
                .map_err(|_| bad(format!("unknown membership {}", row.membership)))?,
            event: parsed(&row.event, &bad)?,
            source,
            n: row.n,
            pos: row.pos.unsigned_abs(),
            stripped: row.stripped,
            forgotten: row.forgotten.unwrap_or_default(),
        })
    }
}

impl Database {
    /// All rooms that a local user has or had to do with.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rooms_of(&self, user: &UserId) -> Result<Vec<Mine>, StoreError> {
        let mut answer = self
            .ask(
                "SELECT * FROM $range",
                object! { range: beginning_with("mine", vec![user.as_str().into_value()]) },
            )
            .await?;
        answer.take::<Vec<MineRow>>(0)?.into_iter().map(Mine::try_from).collect()
    }

    /// What one local user is to one room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mine(&self, user: &UserId, room: &RoomId) -> Result<Option<Mine>, StoreError> {
        let id = record("mine", vec![user.as_str().into_value(), room.as_str().into_value()]);
        let mut answer = self.ask("SELECT * FROM ONLY $id", object! { id: id }).await?;
        answer.take::<Option<MineRow>>(0)?.map(Mine::try_from).transpose()
    }
}
