//! The events that a lane needs at hand: of its group, of memory or of the store.

use std::{collections::HashMap, sync::Arc};

use matryx_repository::{StoreError, StoredEvent};
use ruma::{EventId, OwnedEventId};

use super::{
    Rooms,
    lane::{Ask, Job},
    work::Work,
};

impl Rooms {
    /// An event of this group, of memory or of the store.
    pub(super) async fn find(
        &self,
        work: &Work,
        id: &EventId,
    ) -> Result<Option<Arc<StoredEvent>>, StoreError> {
        match work.fresh.get(id) {
            Some(event) => Ok(Some(Arc::clone(event))),
            None if work.strangers.contains(id) => Ok(None),
            None => self.events().get(id).await,
        }
    }

    /// Learns in one read of which of the events that a group brings nothing is kept: most of them come for the first time.
    pub(super) async fn foresee(&self, jobs: &[Job], work: &mut Work) -> Result<(), StoreError> {
        let brought = jobs.iter().filter_map(|job| match &job.ask {
            Ask::Receive(pdu, _) | Ask::ReceiveAt(pdu, _) => Some(&**pdu.event_id()),
            _ => None,
        });
        let brought: Vec<&EventId> = brought.collect();
        if !brought.is_empty() {
            work.strangers = Arc::new(self.database().strangers(brought).await?);
        }
        Ok(())
    }

    /// Those of these events that are known, and have been judged.
    pub(super) async fn find_all<'a>(
        &self,
        work: &Work,
        ids: impl IntoIterator<Item = &'a EventId>,
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, StoreError> {
        let (fresh, others): (Vec<&EventId>, Vec<&EventId>) =
            ids.into_iter().partition(|id| work.fresh.contains_key(*id));
        let stored = others.into_iter().filter(|id| !work.strangers.contains(*id));
        let mut found = self.events().get_all(stored).await?;
        for id in fresh {
            if let Some(event) = work.fresh.get(id) {
                found.insert(id.to_owned(), Arc::clone(event));
            }
        }
        found.retain(|_, event| event.is_judged());
        Ok(found)
    }
}
