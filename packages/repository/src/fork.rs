//! `fork:⟨event⟩`: the state before the events that stand where their room forked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use matryx_core::{
    membership::Membership,
    room::{StateEntry, StateKey},
};
use ruma::{EventId, OwnedEventId};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError,
    state::entry,
    value::{event_named, name_of, named, parsed, unfit},
};

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

pub(crate) fn row_of(fork: &Fork) -> Object {
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
        let like = row.like.as_deref().map(|like| parsed(like, &unfit(&row.id)));
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

impl Database {
    /// The state before an event whose [`Before`](crate::Before) is `Fork`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fork(&self, id: &EventId) -> Result<Option<Fork>, StoreError> {
        Ok(self.forks([id]).await?.pop())
    }

    /// The states before these events, as far as their [`Before`](crate::Before) is `Fork`, in no particular order.
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

    /// What the row of an event whose [`Before`](crate::Before) is `Fork` says by itself.
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
}
