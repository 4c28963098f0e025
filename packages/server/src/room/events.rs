//! Events by id: a bounded cache before the store.

use std::{collections::HashMap, sync::Arc};

use matryx_core::{event::Pdu, room::StateKey};
use matryx_repository::{Database, StoreError, StoredEvent};
use moka::sync::Cache;
use ruma::{EventId, OwnedEventId};

use super::Look;

/// How many bytes of events stay in memory.
const CAPACITY: u64 = 64 * 1024 * 1024;

/// What an event costs beside its text: parsed fields, ids, the cache's own books.
const OVERHEAD: usize = 1024;

/// The events of all rooms.
#[derive(Clone)]
pub struct Events {
    database: Database,
    cache: Cache<OwnedEventId, Arc<StoredEvent>>,
}

impl Events {
    pub(super) fn new(database: Database) -> Self {
        let cache = Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|_, event: &Arc<StoredEvent>| {
                u32::try_from(event.pdu.json().len() * 2 + OVERHEAD).unwrap_or(u32::MAX)
            })
            .build();
        Self { database, cache }
    }

    /// One event.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn get(&self, id: &EventId) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        if let Some(event) = self.cache.get(id) {
            return Ok(Some(event));
        }
        Ok(self.database.event(id).await?.map(|event| self.keep(event)))
    }

    /// Those of these events that are kept, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn get_all<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a EventId>,
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, StoreError> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for id in ids {
            match self.cache.get(id) {
                Some(event) => {
                    found.insert(id.to_owned(), event);
                }
                None => missing.push(id),
            }
        }
        // Reads of thousands of ids at once would hold the engine for as long.
        for chunk in missing.chunks(500) {
            for event in self.database.events(chunk.iter().copied()).await? {
                let event = self.keep(event);
                found.insert(event.pdu.event_id().clone(), event);
            }
        }
        Ok(found)
    }

    /// The events that stand at these keys of a look.
    pub(super) async fn state(
        &self,
        look: &Look,
        keys: impl IntoIterator<Item = &StateKey>,
    ) -> Result<HashMap<StateKey, Arc<Pdu>>, StoreError> {
        let mut wanted: Vec<(&StateKey, &EventId)> = Vec::new();
        let mut events = HashMap::new();
        for key in keys {
            if let Some(event) = look.law.event(key) {
                events.insert(key.clone(), Arc::clone(event));
            } else if let Some(entry) = look.entry(key) {
                wanted.push((key, &entry.event_id));
            }
        }
        let found = self.get_all(wanted.iter().map(|(_, id)| *id)).await?;
        for (key, id) in wanted {
            let event = found
                .get(id)
                .ok_or_else(|| StoreError::inconsistent("state", id, "the event is not kept"))?;
            events.insert(key.clone(), Arc::clone(&event.pdu));
        }
        Ok(events)
    }

    /// Keeps what was read, unless something newer has been published in the meantime.
    fn keep(&self, event: StoredEvent) -> Arc<StoredEvent> {
        let id = event.pdu.event_id().clone();
        self.cache.entry(id).or_insert(Arc::new(event)).into_value()
    }

    /// Forgets events that are kept no more.
    pub(super) fn forget(&self, ids: &[OwnedEventId]) {
        for id in ids {
            self.cache.invalidate(id);
        }
    }

    /// Keeps an event in memory; an older copy of it (before a redaction) goes.
    pub(super) fn put(&self, event: Arc<StoredEvent>) {
        self.cache.insert(event.pdu.event_id().clone(), event);
    }
}
