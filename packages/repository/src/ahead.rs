//! What goes in ahead of the append that makes it current: the events and the state of a room that we join, written in
//! chunks, so that nothing large enters the committer. Nobody reads it before the room's head names its epoch, and all of it
//! can be written again.
//!
//! `ahead:[room, join, …]` says that an import is under way, and which events came with it. Where it is never finished, that
//! leads to what it has left.

use std::{collections::HashSet, ops::Bound, sync::Arc};

use matryx_core::room::{StateEntry, StateKey};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, ServerName, UserId};
use surrealdb::types::{Object, RecordId, SurrealValue, Value, object};

use crate::{
    Database, RoomHead, StoreError, StoredEvent,
    event::row_of,
    state::entry_row,
    value::{beginning_with, name_of, named, number_part, parsed, range, record, text_part, unfit},
};

/// How many rows are written by one statement: the engine serves others in between.
const CHUNK: usize = 500;

/// How often a chunk is begun anew because somebody else has written one of its events meanwhile.
const ATTEMPTS: usize = 10;

/// What an import that is not finished has written, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// The room.
    pub room: OwnedRoomId,
    /// The join that is to make it current.
    pub join: OwnedEventId,
    /// Events that were not kept before, and rest on nothing but the import.
    pub events: Vec<OwnedEventId>,
}

#[derive(SurrealValue)]
struct AheadRow {
    id: RecordId,
    events: Vec<String>,
}

impl TryFrom<AheadRow> for Ahead {
    type Error = StoreError;

    fn try_from(row: AheadRow) -> Result<Self, StoreError> {
        let bad = unfit(&row.id);
        let events = row.events.iter().map(|id| parsed(id, &bad));
        Ok(Self {
            room: parsed(text_part(&row.id, 0)?, &bad)?,
            join: parsed(text_part(&row.id, 1)?, &bad)?,
            events: events.collect::<Result<_, _>>()?,
        })
    }
}

impl Database {
    /// Says that an import begins, before anything of it is written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_import(&self, room: &RoomId, join: &EventId) -> Result<(), StoreError> {
        let variables = object! { id: part(room, join, ""), row: list([].into_iter()) };
        self.ask("UPSERT $id REPLACE $row RETURN NONE", variables).await.map(drop)
    }

    /// Keeps those of these events that are not kept yet, for an import that has begun. What is kept stays as it is. Member
    /// events of users of ours may come to stand for more than the import, and stay whatever becomes of it.
    ///
    /// # Errors
    /// When the database fails; a part of the events may have been written then.
    pub async fn learn(
        &self,
        room: &RoomId,
        join: &EventId,
        events: &[Arc<StoredEvent>],
        ours: &ServerName,
    ) -> Result<(), StoreError> {
        for chunk in events.chunks(CHUNK) {
            let mut attempts = 1;
            while let Err(error) = self.learn_some(room, join, chunk, ours).await {
                if attempts == ATTEMPTS
                    || !matches!(error, StoreError::Exists | StoreError::Conflict)
                {
                    return Err(error);
                }
                attempts += 1;
            }
        }
        Ok(())
    }

    async fn learn_some(
        &self,
        room: &RoomId,
        join: &EventId,
        events: &[Arc<StoredEvent>],
        ours: &ServerName,
    ) -> Result<(), StoreError> {
        let id = |event: &StoredEvent| named("event", event.pdu.event_id());
        let ids: Vec<RecordId> = events.iter().map(|event| id(event)).collect();
        let mut answer = self.ask("SELECT VALUE id FROM $ids", object! { ids: ids }).await?;
        let known: Vec<RecordId> = answer.take(0)?;
        let known = known.iter().map(name_of).collect::<Result<HashSet<&str>, _>>()?;
        let new = || events.iter().filter(|e| !known.contains(e.pdu.event_id().as_str()));
        let mut rows: Vec<_> = new().map(|event| (id(event), row_of(event))).collect();
        let ours = |event: &StoredEvent| {
            let user = event.pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
            user.is_some_and(|user| user.server_name() == ours)
        };
        let listed = || new().filter(|event| !ours(event)).map(|event| event.pdu.event_id());
        if let Some(first) = listed().next() {
            rows.push((part(room, join, first.as_str()), list(listed().map(|id| id.as_str()))));
        }
        self.insert(rows).await
    }

    /// The imports that are not finished, of one room or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn imports(&self, room: Option<&RoomId>) -> Result<Vec<Ahead>, StoreError> {
        let mut answer = match room {
            Some(room) => {
                let range = beginning_with("ahead", vec![room.as_str().into_value()]);
                self.ask("SELECT * FROM $range", object! { range: range }).await?
            }
            None => self.ask("SELECT * FROM ahead", Object::new()).await?,
        };
        answer.take::<Vec<AheadRow>>(0)?.into_iter().map(Ahead::try_from).collect()
    }

    /// Ends the imports of a room: what they wrote is current, or gone.
    ///
    /// # Errors
    /// When the database fails; it can be done again.
    pub async fn end_imports(&self, room: &RoomId) -> Result<(), StoreError> {
        self.remove(beginning_with("ahead", vec![room.as_str().into_value()]), |_| true).await
    }

    /// Removes those of these events that have no place in their room.
    ///
    /// # Errors
    /// When the database fails; it can be done again.
    pub async fn forget_outliers(&self, events: &[OwnedEventId]) -> Result<(), StoreError> {
        for chunk in events.chunks(CHUNK) {
            let ids: Vec<RecordId> = chunk.iter().map(|id| named("event", id)).collect();
            let sql = "DELETE $ids WHERE outlier = true RETURN NONE";
            self.change(sql, object! { ids: ids }).await?;
        }
        Ok(())
    }

    /// Writes entries of a room's state under an epoch that has none of them yet.
    ///
    /// # Errors
    /// When the database fails; a part of the entries may have been written then.
    pub async fn put_state(
        &self,
        room: &RoomId,
        epoch: i64,
        entries: &[(StateKey, StateEntry)],
    ) -> Result<(), StoreError> {
        for chunk in entries.chunks(CHUNK) {
            let row = |(key, entry): &(StateKey, StateEntry)| {
                let place = [epoch.into_value(), kind(key), text(key)];
                (record("state", within(room, place)), entry_row(Some(entry)))
            };
            self.insert(chunk.iter().map(row).collect()).await?;
        }
        Ok(())
    }

    /// Writes what stands at these keys of a room from line `n` on, which has no version of them yet.
    ///
    /// # Errors
    /// When the database fails; a part of the versions may have been written then.
    pub async fn put_versions(
        &self,
        room: &RoomId,
        n: i64,
        versions: &[(StateKey, Option<StateEntry>)],
    ) -> Result<(), StoreError> {
        for chunk in versions.chunks(CHUNK) {
            let row = |(key, entry): &(StateKey, Option<StateEntry>)| {
                let place = [kind(key), text(key), n.into_value()];
                (record("key", within(room, place)), entry_row(entry.as_ref()))
            };
            self.insert(chunk.iter().map(row).collect()).await?;
        }
        Ok(())
    }

    /// Removes what was written ahead of a room's head and never became current, and what has ceased to be current:
    /// state under other epochs than the head's, and versions of keys from lines that the room does not have.
    ///
    /// Without a head all of a room's state is such.
    ///
    /// # Errors
    /// When the database fails; it can be done again.
    pub async fn tidy(&self, room: &RoomId, head: Option<&RoomHead>) -> Result<(), StoreError> {
        let Some(RoomHead { epoch, n, .. }) = head else {
            self.remove(beginning_with("state", vec![room.as_str().into_value()]), |_| true)
                .await?;
            let versions = beginning_with("key", vec![room.as_str().into_value()]);
            return self.remove(versions, |_| true).await;
        };
        let at = |epoch: i64| vec![room.as_str().into_value(), epoch.into_value()];
        self.forget_epochs(room, *epoch).await?;
        let end = vec![room.as_str().into_value(), Value::Array(Vec::<Value>::new().into())];
        let after = range("state", at(epoch + 1), Bound::Excluded(end));
        self.remove(after, |_| true).await?;
        let versions = beginning_with("key", vec![room.as_str().into_value()]);
        self.remove(versions, |id| number_part(id, 3).is_ok_and(|line| line > *n)).await
    }

    /// Removes a room's state under epochs before this one.
    ///
    /// # Errors
    /// When the database fails; it can be done again.
    pub async fn forget_epochs(&self, room: &RoomId, before: i64) -> Result<(), StoreError> {
        let at = |epoch: i64| vec![room.as_str().into_value(), epoch.into_value()];
        let range = range("state", at(i64::MIN), Bound::Excluded(at(before)));
        self.remove(range, |_| true).await
    }

    async fn insert(&self, rows: Vec<(RecordId, Object)>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let with_id = |(id, mut row): (RecordId, Object)| {
            row.insert("id".to_owned(), id.into_value());
            row
        };
        let rows: Vec<Object> = rows.into_iter().map(with_id).collect();
        self.change("INSERT $rows RETURN NONE", object! { rows: rows }).await.map(drop)
    }

    async fn remove(
        &self,
        range: RecordId,
        goes: impl Fn(&RecordId) -> bool,
    ) -> Result<(), StoreError> {
        let mut answer = self.ask("SELECT VALUE id FROM $range", object! { range: range }).await?;
        let mut ids: Vec<RecordId> = answer.take(0)?;
        ids.retain(goes);
        for chunk in ids.chunks(CHUNK) {
            let ids = chunk.to_vec();
            self.change("DELETE $ids RETURN NONE", object! { ids: ids }).await?;
        }
        Ok(())
    }
}

fn part(room: &RoomId, join: &EventId, first: &str) -> RecordId {
    let parts = [room.as_str(), join.as_str(), first].map(SurrealValue::into_value);
    record("ahead", parts.to_vec())
}

fn list<'a>(events: impl Iterator<Item = &'a str>) -> Object {
    object! { events: events.map(str::to_owned).collect::<Vec<_>>() }
}

fn within(room: &RoomId, parts: [Value; 3]) -> Vec<Value> {
    let mut place = vec![room.as_str().into_value()];
    place.extend(parts);
    place
}

fn kind(key: &StateKey) -> Value {
    key.kind.to_string().into_value()
}

fn text(key: &StateKey) -> Value {
    key.key.to_string().into_value()
}
