//! How far servers have acknowledged, written down: what comes together while one write is on its way is the next.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use matryx_repository::{Database, OutPlace};
use ruma::OwnedServerName;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What is still to be written.
#[derive(Default)]
pub(super) struct Ledger {
    entries: Mutex<Entries>,
    news: Notify,
}

#[derive(Default)]
struct Entries {
    cursors: BTreeMap<OwnedServerName, OutPlace>,
    done: Vec<OutPlace>,
}

impl Ledger {
    /// A server has acknowledged everything up to a place, and somebody else has not.
    pub(super) fn reached(&self, server: OwnedServerName, place: OutPlace) {
        self.add(|entries| {
            entries.cursors.insert(server, place);
        });
    }

    /// These are owed to nobody any more.
    pub(super) fn done(&self, places: impl IntoIterator<Item = OutPlace>) {
        let mut places = places.into_iter().peekable();
        if places.peek().is_some() {
            self.add(|entries| entries.done.extend(places));
        }
    }

    fn add(&self, entry: impl FnOnce(&mut Entries)) {
        entry(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    /// Writes until the server stops, and what is there then.
    pub(super) async fn keep(&self, database: &Database, shutdown: &CancellationToken) {
        loop {
            let last = tokio::select! {
                biased;
                () = shutdown.cancelled() => true,
                () = self.news.notified() => false,
            };
            let Entries { cursors, done } =
                std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner));
            if (!cursors.is_empty() || !done.is_empty())
                && let Err(error) = database.acknowledge(&cursors, &done).await
            {
                // Until it is written, a restart repeats it: that harms nobody.
                tracing::warn!(%error, "outbox.acknowledge");
                let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
                entries.done.extend(done);
                for (server, place) in cursors {
                    entries.cursors.entry(server).or_insert(place);
                }
            }
            if last {
                return;
            }
        }
    }
}
