//! `errand:[room, user]`: what a room that we are not in has still to be told, or asked, for one of our users.

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
    RoomVersionId, UserId,
};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError,
    room::signed,
    time,
    value::{parsed, record, text_part, unfit},
};

/// Something to be done at other servers for a user's record out of band.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// The room.
    pub room: OwnedRoomId,
    /// Whose record it is about.
    pub user: OwnedUserId,
    /// What is to be done.
    pub task: Task,
    /// The event that the record stands on. Once it stands on another one, the errand has no object any more. Of a join that is
    /// taken back, the join.
    pub event: OwnedEventId,
    /// The version of the room.
    pub version: RoomVersionId,
    /// The servers to go to, the likeliest first.
    pub via: Vec<OwnedServerName>,
    /// When it came up.
    pub since: MilliSecondsSinceUnixEpoch,
    /// When to try next.
    pub next: MilliSecondsSinceUnixEpoch,
    /// How often it has been tried in vain.
    pub tries: u64,
}

/// What an errand is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// To tell the room that the user has declined its invite, or taken back their knock.
    Leave {
        /// The reason that they gave.
        reason: Option<String>,
    },
    /// To ask whether the user is still invited or knocking: somebody has said that they are not, whose word alone does
    /// not count.
    AskAgain,
    /// To take back a join that the room has let in, or may have, and that could not be taken in here.
    Undo,
}

#[derive(SurrealValue)]
struct ErrandRow {
    id: RecordId,
    task: String,
    reason: Option<String>,
    event: String,
    version: String,
    via: Vec<String>,
    since: i64,
    next: i64,
    tries: i64,
}

const LEAVE: &str = "leave";
const ASK_AGAIN: &str = "ask_again";
const UNDO: &str = "undo";

pub(crate) fn row_of(errand: &Errand) -> Object {
    let (task, reason) = match &errand.task {
        Task::Leave { reason } => (LEAVE, reason.as_deref()),
        Task::AskAgain => (ASK_AGAIN, None),
        Task::Undo => (UNDO, None),
    };
    let via: Vec<String> = errand.via.iter().map(ToString::to_string).collect();
    object! {
        task: task,
        reason: reason,
        event: errand.event.as_str(),
        version: errand.version.as_str(),
        via: via,
        since: time::to_row(errand.since),
        next: time::to_row(errand.next),
        tries: signed(errand.tries),
    }
}

fn id_of(room: &RoomId, user: &UserId) -> RecordId {
    record("errand", vec![room.as_str().into_value(), user.as_str().into_value()])
}

impl Errand {
    pub(crate) fn record(&self) -> RecordId {
        id_of(&self.room, &self.user)
    }
}

impl TryFrom<ErrandRow> for Errand {
    type Error = StoreError;

    fn try_from(row: ErrandRow) -> Result<Self, StoreError> {
        let bad = unfit(&row.id);
        let task = match row.task.as_str() {
            LEAVE => Task::Leave { reason: row.reason },
            ASK_AGAIN => Task::AskAgain,
            UNDO => Task::Undo,
            other => return Err(bad(format!("unknown task {other}"))),
        };
        let via = row.via.iter().map(|name| parsed(name, &bad));
        Ok(Self {
            room: parsed(text_part(&row.id, 0)?, &bad)?,
            user: parsed(text_part(&row.id, 1)?, &bad)?,
            task,
            event: parsed(&row.event, &bad)?,
            version: parsed(&row.version, &bad)?,
            via: via.collect::<Result<_, StoreError>>()?,
            since: time::from_row(row.since),
            next: time::from_row(row.next),
            tries: row.tries.unsigned_abs(),
        })
    }
}

impl Database {
    /// All errands that are not done.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn errands(&self) -> Result<Vec<Errand>, StoreError> {
        let mut answer = self.ask("SELECT * FROM errand", Object::new()).await?;
        answer.take::<Vec<ErrandRow>>(0)?.into_iter().map(Errand::try_from).collect()
    }

    /// Keeps an errand; it takes the place of an older one for the same user and room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_errand(&self, errand: &Errand) -> Result<(), StoreError> {
        let variables = object! { id: errand.record(), row: row_of(errand) };
        self.ask("UPSERT $id REPLACE $row RETURN NONE", variables).await.map(drop)
    }

    /// Puts an errand off, unless a newer one has taken its place.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_off_errand(&self, errand: &Errand) -> Result<(), StoreError> {
        let variables = object! {
            id: errand.record(),
            event: errand.event.as_str(),
            next: time::to_row(errand.next),
            tries: signed(errand.tries),
        };
        let sql = "UPDATE $id SET next = $next, tries = $tries WHERE event = $event RETURN NONE";
        self.ask(sql, variables).await.map(drop)
    }

    /// Ends an errand, unless a newer one has taken its place.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_errand(&self, errand: &Errand) -> Result<(), StoreError> {
        let variables = object! { id: errand.record(), event: errand.event.as_str() };
        self.ask("DELETE $id WHERE event = $event RETURN NONE", variables).await.map(drop)
    }
}
