//! The events that a lane needs at hand: of its group, of memory or of the store.

use std::{collections::HashMap, sync::Arc};

use matryx_repository::{StoreError, StoredEvent};
use ruma::{EventId, OwnedEventId};

use super::{Rooms, work::Work};

impl Rooms {
    /// An event of this group, of memory or of the store.
    pub(super) async fn find(
        &self,
        work: &Work,
        id: &EventId,
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        match work.fresh.get(id) {
            Some(event) => Ok(Some(Arc::clone(event))),
            None => self.events().get(id).await,
        }
    }

    /// Those of these events that are known.
    pub(super) async fn find_all<'a>(
        &self,
        work: &Work,
        ids: impl IntoIterator<Item = &'a EventId>,
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, StoreError> {
        let (fresh, stored): (Vec<&EventId>, Vec<&EventId>) =
            ids.into_iter().partition(|id| work.fresh.contains_key(*id));
        let mut found = self.events().get_all(stored).await?;
        for id in fresh {
            if let Some(event) = work.fresh.get(id) {
                found.insert(id.to_owned(), Arc::clone(event));
            }
        }
        Ok(found)
    }
}
