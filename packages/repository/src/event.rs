//! `event:⟨id⟩`: every event that is kept, whatever became of it, and `redaction:⟨target⟩`, those that came first.

use std::{collections::HashSet, sync::Arc};

use matryx_core::{event::Pdu, room::Judgement};
use ruma::{EventId, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId};
use surrealdb::types::{Object, RecordId, SurrealValue, Value, object};

use crate::{
    Database, StoreError,
    value::{event_named, named, parsed, unfit},
};

/// An event and what we know of it.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The event as it is served: redacted if it has been redacted.
    pub pdu: Arc<Pdu>,
    /// Where it stands in its room's timeline; `None` for what is known and not shown.
    pub n: Option<i64>,
    /// What was judged of it.
    pub fate: Judgement,
    /// The room's state before it.
    pub before: Before,
    /// The state event whose place it took.
    pub replaces: Option<OwnedEventId>,
    /// The redaction that was applied to it.
    pub redacted_by: Option<OwnedEventId>,
    /// The request of a local device that made it.
    pub sent: Option<Sent>,
}

impl StoredEvent {
    /// An event of another server that has been judged and has no line.
    #[must_use]
    pub fn received(pdu: &Arc<Pdu>, fate: Judgement, before: Before) -> Self {
        let pdu = match fate {
            Judgement::Rejected(_) if !pdu.rejected() => Arc::new(Pdu::clone(pdu).into_rejected()),
            _ => Arc::clone(pdu),
        };
        Self { pdu, n: None, fate, before, replaces: None, redacted_by: None, sent: None }
    }

    /// An event of a room that is not held here. What it rests on is not known, so that nobody has judged it: kept by itself
    /// and soft-failed, it allows nothing until it comes again.
    #[must_use]
    pub fn unjudged(pdu: &Arc<Pdu>) -> Self {
        let why = "it came without its room and has not been judged".to_owned();
        Self::received(pdu, Judgement::SoftFailed(why), Before::Unknown)
    }

    /// Whether it has been judged, be it by what it rests on alone.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.before != Before::Unknown || !matches!(self.fate, Judgement::SoftFailed(_))
    }

    /// Whether it came alone and has still to be judged in its place.
    #[must_use]
    pub fn awaits_place(&self) -> bool {
        self.before == Before::Unknown && !matches!(self.fate, Judgement::Rejected(_))
    }
}

/// Where the state before an event is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is the room's current state as of line `n`.
    Log(i64),
    /// It is no point of the log: [`Database::fork`] has it.
    Fork,
    /// It is not known: the event is an outlier, kept for what it says and not for where it stands. No event can be judged by
    /// following it until it comes again in its place.
    Unknown,
}

/// The request of a local device that made an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sent {
    /// Whose device.
    pub user: OwnedUserId,
    /// Which device.
    pub device: OwnedDeviceId,
    /// The transaction id that the client chose.
    pub transaction: OwnedTransactionId,
}

#[derive(SurrealValue)]
pub(crate) struct EventRow {
    pub(crate) id: RecordId,
    room: String,
    n: Option<i64>,
    json: String,
    fate: Option<String>,
    why: Option<String>,
    before: Option<i64>,
    forked: Option<bool>,
    outlier: Option<bool>,
    replaces: Option<String>,
    redacted_by: Option<String>,
    sent: Option<Vec<String>>,
}

const SOFT_FAILED: &str = "soft_failed";
const REJECTED: &str = "rejected";

/// Columns that say nothing (accepted, linear, never redacted) are left out: fewer bytes an event.
pub(crate) fn row_of(event: &StoredEvent) -> Object {
    let mut row = object! {
        room: event.pdu.room_id().as_str(),
        json: event.pdu.json(),
    };
    let mut put = |column: &str, value: Option<Value>| {
        if let Some(value) = value {
            row.insert(column.to_owned(), value);
        }
    };
    put("n", event.n.map(SurrealValue::into_value));
    let (fate, why) = match &event.fate {
        Judgement::Accepted => (None, None),
        Judgement::SoftFailed(why) => (Some(SOFT_FAILED), Some(why.as_str())),
        Judgement::Rejected(why) => (Some(REJECTED), Some(why.as_str())),
    };
    put("fate", fate.map(SurrealValue::into_value));
    put("why", why.map(SurrealValue::into_value));
    match event.before {
        Before::Log(at) if event.n.is_some_and(|n| at == n - 1) => {}
        Before::Log(at) => put("before", Some(at.into_value())),
        Before::Fork => put("forked", Some(true.into_value())),
        Before::Unknown => put("outlier", Some(true.into_value())),
    }
    put("replaces", event.replaces.as_ref().map(|id| id.as_str().into_value()));
    put("redacted_by", event.redacted_by.as_ref().map(|id| id.as_str().into_value()));
    put(
        "sent",
        event.sent.as_ref().map(|sent| {
            vec![sent.user.to_string(), sent.device.to_string(), sent.transaction.to_string()]
                .into_value()
        }),
    );
    row
}

impl TryFrom<EventRow> for StoredEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        let bad = unfit(&row.id);
        let fate = match (row.fate.as_deref(), row.why.unwrap_or_default()) {
            (None, _) => Judgement::Accepted,
            (Some(SOFT_FAILED), why) => Judgement::SoftFailed(why),
            (Some(REJECTED), why) => Judgement::Rejected(why),
            (Some(other), _) => return Err(bad(format!("unknown fate {other}"))),
        };
        let rejected = matches!(fate, Judgement::Rejected(_));
        let event_id = event_named(&row.id)?;
        let room_id = parsed::<OwnedRoomId>(&row.room, &bad)?;
        let pdu = Pdu::restore(event_id, room_id, &row.json, rejected)
            .map_err(|error| bad(error.to_string()))?;
        let before = match (row.forked, row.outlier, row.before, row.n) {
            (Some(true), ..) => Before::Fork,
            (_, Some(true), ..) => Before::Unknown,
            (_, _, Some(at), _) => Before::Log(at),
            (_, _, None, Some(n)) => Before::Log(n - 1),
            _ => return Err(bad("the state before it is not recorded".to_owned())),
        };
        let optional = |id: Option<String>| id.map(|id| parsed(&id, &bad)).transpose();
        Ok(Self {
            pdu: Arc::new(pdu),
            n: row.n,
            fate,
            before,
            replaces: optional(row.replaces)?,
            redacted_by: optional(row.redacted_by)?,
            sent: row.sent.map(|parts| sent(&parts, &bad)).transpose()?,
        })
    }
}

fn sent(parts: &[String], bad: &impl Fn(String) -> StoreError) -> Result<Sent, StoreError> {
    match parts {
        [user, device, transaction] => Ok(Sent {
            user: parsed(user, bad)?,
            device: device.as_str().into(),
            transaction: transaction.as_str().into(),
        }),
        _ => Err(bad("its sender's transaction has another shape".to_owned())),
    }
}

impl Database {
    /// One event.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn event(&self, id: &EventId) -> Result<Option<StoredEvent>, StoreError> {
        let mut answer =
            self.ask("SELECT * FROM ONLY $id", object! { id: named("event", id) }).await?;
        answer.take::<Option<EventRow>>(0)?.map(StoredEvent::try_from).transpose()
    }

    /// Those of these events that are kept, in no particular order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(
        &self,
        ids: impl IntoIterator<Item = &EventId> + Send,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let ids: Vec<RecordId> = ids.into_iter().map(|id| named("event", id)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut answer = self.ask("SELECT * FROM $ids", object! { ids: ids }).await?;
        answer.take::<Vec<EventRow>>(0)?.into_iter().map(StoredEvent::try_from).collect()
    }

    /// The redaction that came before its target.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn early_redaction(
        &self,
        target: &EventId,
    ) -> Result<Option<OwnedEventId>, StoreError> {
        let mut answer = self
            .ask("SELECT VALUE event FROM ONLY $id", object! { id: named("redaction", target) })
            .await?;
        let id: Option<String> = answer.take(0)?;
        let bad = |why: String| StoreError::inconsistent("redaction", target, why);
        id.map(|id| parsed(&id, &bad)).transpose()
    }

    /// Those of these events of which nothing is kept: neither they nor a redaction that came before them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn strangers(
        &self,
        ids: impl IntoIterator<Item = &EventId> + Send,
    ) -> Result<HashSet<OwnedEventId>, StoreError> {
        let mut strangers: HashSet<OwnedEventId> = ids.into_iter().map(ToOwned::to_owned).collect();
        let records = |table: &'static str| -> Vec<RecordId> {
            strangers.iter().map(|id| named(table, id)).collect()
        };
        let (events, redactions) = (records("event"), records("redaction"));
        let sql = "SELECT VALUE id FROM $events; SELECT VALUE id FROM $redactions";
        let mut answer = self.ask(sql, object! { events: events, redactions: redactions }).await?;
        for statement in 0..2 {
            for known in answer.take::<Vec<RecordId>>(statement)? {
                strangers.remove(&event_named(&known)?);
            }
        }
        Ok(strangers)
    }
}
