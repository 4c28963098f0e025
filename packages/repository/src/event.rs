//! `event:⟨id⟩`: every event that is kept, whatever became of it, and `fork:⟨id⟩`, the state before those that stand where
//! their room forked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use matryx_core::{
    event::Pdu,
    membership::Membership,
    room::{Judgement, StateEntry, StateKey},
};
use ruma::{EventId, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError,
    value::{self, name_of, named},
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

/// The state before an event, as the difference to a point of the room's log.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The event.
    pub event_id: OwnedEventId,
    /// The point of the log; that of the other row, where it adds to one.
    pub base: i64,
    /// What is different there: `None` for a key that is absent. One entry a key.
    pub delta: Vec<(StateKey, Option<StateEntry>)>,
    /// The event to whose row this one adds; that one adds to none.
    pub like: Option<OwnedEventId>,
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
    let mut put = |column: &str, value: Option<surrealdb::types::Value>| {
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
        let id = name_of(&row.id)?.to_owned();
        let bad = |why: String| StoreError::inconsistent("event", &id, why);
        let fate = match (row.fate.as_deref(), row.why.unwrap_or_default()) {
            (None, _) => Judgement::Accepted,
            (Some(SOFT_FAILED), why) => Judgement::SoftFailed(why),
            (Some(REJECTED), why) => Judgement::Rejected(why),
            (Some(other), _) => return Err(bad(format!("unknown fate {other}"))),
        };
        let rejected = matches!(fate, Judgement::Rejected(_));
        let event_id = parsed::<OwnedEventId>(&id, &bad)?;
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

fn parsed<T: for<'a> TryFrom<&'a str, Error: std::fmt::Display>>(
    text: &str,
    bad: &impl Fn(String) -> StoreError,
) -> Result<T, StoreError> {
    T::try_from(text).map_err(|error| bad(format!("{text}: {error}")))
}

pub(crate) fn fork_row(fork: &Fork) -> Object {
    let delta: Vec<Object> = fork
        .delta
        .iter()
        .map(|(key, entry)| {
            object! {
                kind: key.kind.to_string(),
                key: key.key.to_string(),
                event: entry.as_ref().map(|entry| entry.event_id.to_string()),
                membership: entry
                    .as_ref()
                    .and_then(|entry| entry.membership)
                    .map(Membership::as_str),
            }
        })
        .collect();
    let mut row = object! { base: fork.base, delta: delta };
    if let Some(like) = &fork.like {
        row.insert("like".to_owned(), like.as_str().into_value());
    }
    row
}

#[derive(SurrealValue)]
struct ForkRow {
    id: RecordId,
    base: i64,
    delta: Vec<DeltaRow>,
    like: Option<String>,
}

#[derive(SurrealValue)]
struct DeltaRow {
    kind: String,
    key: String,
    event: Option<String>,
    membership: Option<String>,
}

impl TryFrom<ForkRow> for Fork {
    type Error = StoreError;

    fn try_from(row: ForkRow) -> Result<Self, StoreError> {
        let delta = row
            .delta
            .into_iter()
            .map(|row| {
                let entry = entry("fork", row.event, row.membership.as_deref())?;
                Ok((StateKey::new(row.kind.into(), row.key), entry))
            })
            .collect::<Result<_, StoreError>>()?;
        let like = row
            .like
            .as_deref()
            .map(|like| parsed(like, &|why| StoreError::inconsistent("fork", like, why)));
        let event_id = event_named(&row.id)?;
        Ok(Self { event_id, base: row.base, delta, like: like.transpose()? })
    }
}

impl Fork {
    /// The same, told without the row that it adds to.
    fn over(self, like: Self) -> Self {
        if self.delta.is_empty() {
            return Self { event_id: self.event_id, ..like };
        }
        let mut delta: BTreeMap<_, _> = like.delta.into_iter().collect();
        delta.extend(self.delta);
        Self { event_id: self.event_id, delta: delta.into_iter().collect(), ..like }
    }
}

/// The event that a row is named after.
fn event_named(id: &RecordId) -> Result<OwnedEventId, StoreError> {
    let name = name_of(id)?;
    let bad = |why| StoreError::inconsistent("fork", name, why);
    parsed(name, &bad)
}

/// A state entry from its two columns.
pub(crate) fn entry(
    table: &'static str,
    event: Option<String>,
    membership: Option<&str>,
) -> Result<Option<StateEntry>, StoreError> {
    let Some(event) = event else { return Ok(None) };
    let bad = |why: String| StoreError::inconsistent(table, &event, why);
    let event_id = parsed(&event, &bad)?;
    let membership = membership
        .map(|word| word.parse::<Membership>().map_err(|_| bad(format!("membership {word}"))))
        .transpose()?;
    Ok(Some(StateEntry { event_id, membership }))
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

    /// The state before an event whose [`Before`] is [`Before::Fork`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fork(&self, id: &EventId) -> Result<Option<Fork>, StoreError> {
        Ok(self.forks([id]).await?.pop())
    }

    /// The states before these events, as far as their [`Before`] is [`Before::Fork`], in no particular order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forks(
        &self,
        ids: impl IntoIterator<Item = &EventId> + Send,
    ) -> Result<Vec<Fork>, StoreError> {
        let ids: Vec<RecordId> = ids.into_iter().map(|id| named("fork", id)).collect();
        let rows = self.fork_rows(ids).await?;
        let likes: BTreeSet<&String> = rows.iter().filter_map(|row| row.like.as_ref()).collect();
        let likes = likes.into_iter().map(|id| named("fork", id)).collect();
        let likes: HashMap<String, Fork> = self
            .fork_rows(likes)
            .await?
            .into_iter()
            .map(|row| Ok((name_of(&row.id)?.to_owned(), Fork::try_from(row)?)))
            .collect::<Result<_, StoreError>>()?;
        rows.into_iter()
            .map(|row| {
                let like = row.like.as_ref().and_then(|like| likes.get(like)).cloned();
                let own = Fork::try_from(row)?;
                Ok(match like {
                    Some(like) => own.over(like),
                    None => Fork { like: None, ..own },
                })
            })
            .collect()
    }

    /// What the row of an event whose [`Before`] is [`Before::Fork`] says by itself.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fork_row(&self, id: &EventId) -> Result<Option<Fork>, StoreError> {
        let row = self.fork_rows(vec![named("fork", id)]).await?.pop();
        row.map(Fork::try_from).transpose()
    }

    async fn fork_rows(&self, ids: Vec<RecordId>) -> Result<Vec<ForkRow>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut answer = self.ask("SELECT * FROM $ids", object! { ids: ids }).await?;
        Ok(answer.take(0)?)
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

    /// The event that a device's earlier request with this transaction id made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn transaction(&self, key: &TransactionKey) -> Result<Option<String>, StoreError> {
        let mut answer =
            self.ask("SELECT VALUE event FROM ONLY $id", object! { id: key.record() }).await?;
        Ok(answer.take(0)?)
    }
}

/// What makes a client's request the same as an earlier one: device, endpoint with its path, transaction id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransactionKey {
    /// Who and which device, and the client's transaction id.
    pub sent: Sent,
    /// The endpoint with its path, such as `send/!room/m.room.message`.
    pub endpoint: String,
}

impl TransactionKey {
    pub(crate) fn record(&self) -> RecordId {
        value::record(
            "txn",
            vec![
                self.sent.user.as_str().into_value(),
                self.sent.device.as_str().into_value(),
                self.endpoint.as_str().into_value(),
                self.sent.transaction.as_str().into_value(),
            ],
        )
    }
}
