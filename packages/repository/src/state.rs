//! `state:[room, epoch, type, key]`: the current state of rooms, and `key:[room, type, key, n]`: the versions of each key.

use matryx_core::{
    membership::Membership,
    room::{StateEntry, StateKey, StateMap},
};
use ruma::{RoomId, events::StateEventType};
use surrealdb::types::{Object, RecordId, SurrealValue, Value, object};

use crate::{
    Database, StoreError,
    value::{beginning_with, number_part, parsed, text_part},
};

/// A version of one state key.
#[derive(Debug, Clone)]
pub struct Version {
    /// The line at which it began.
    pub n: i64,
    /// What stood there from then on; `None` if the key went away.
    pub entry: Option<StateEntry>,
}

/// A row of either table.
#[derive(SurrealValue)]
struct StateRow {
    id: RecordId,
    event: Option<String>,
    membership: Option<String>,
}

/// What an entry is in a row; nothing, if there is none.
pub(crate) fn entry_row(entry: Option<&StateEntry>) -> Object {
    let mut row = Object::new();
    if let Some(entry) = entry {
        row.insert("event".to_owned(), entry.event_id.as_str().into_value());
        if let Some(membership) = entry.membership {
            row.insert("membership".to_owned(), membership.as_str().into_value());
        }
    }
    row
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
