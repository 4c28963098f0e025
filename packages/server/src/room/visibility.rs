//! What a room showed to whom and what somebody was in it, read from what is kept.

use std::{collections::HashMap, sync::Arc};

use matryx_core::{membership::Membership, room::StateKey};
use matryx_repository::{Before, Fork, StoreError, StoredEvent};
use ruma::{EventId, UserId, events::room::history_visibility::HistoryVisibility};
use serde::Deserialize;

use super::{Room, Rooms, Sight};

impl Rooms {
    /// Makes a view of a room reach these events, as far as they fill gaps: reads what held before each.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reach_back(
        &self,
        room: &Room,
        sight: &mut Sight,
        events: &[Arc<StoredEvent>],
    ) -> Result<(), StoreError> {
        let filling = || events.iter().filter(|event| event.n.is_some_and(|n| n <= 0));
        if filling().next().is_none() {
            return Ok(());
        }
        let forked = filling().filter(|event| event.before == Before::Fork);
        let forks = self.database().forks(forked.map(|event| &**event.pdu.event_id())).await?;
        let forks: HashMap<&EventId, &Fork> =
            forks.iter().map(|fork| (&*fork.event_id, fork)).collect();
        let steps = match sight.server() {
            None => Vec::new(),
            Some(server) => self.steps_of(room, server).await?,
        };
        let history = StateKey::history_visibility();
        let mut past = HashMap::new();
        for event in filling() {
            let (base, delta) = match (event.before, forks.get(&**event.pdu.event_id())) {
                (Before::Log(n), _) => (n, &[][..]),
                (_, Some(fork)) => (fork.base, &fork.delta[..]),
                _ => continue,
            };
            let visibility = match delta.iter().find(|(key, _)| *key == history) {
                Some((_, Some(entry))) => {
                    self.events().get(&entry.event_id).await?.map(|event| read(&event))
                }
                Some((_, None)) => None,
                None => sight.visibility_at(base).cloned(),
            };
            let visibility = visibility.unwrap_or(HistoryVisibility::Shared);
            let after = match event.pdu.key() {
                Some(key) if key == history => read(event),
                _ => visibility.clone(),
            };
            let [was, is] = sight.around(&event.pdu, base, delta, &steps);
            past.extend(event.n.map(|n| (n, [(visibility, was), (after, is)])));
        }
        sight.extend(past);
        Ok(())
    }

    /// A user's view of a room's whole timeline.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sight(&self, room: &Room, user: &UserId) -> Result<Sight, StoreError> {
        let membership = self
            .database()
            .versions(&room.id, &StateKey::member(user))
            .await?
            .into_iter()
            .map(|version| {
                let membership = version.entry.and_then(|entry| entry.membership);
                (version.n, membership.unwrap_or(Membership::Left))
            })
            .collect();
        let visibility = self.visibility(room).await?;
        Ok(Sight::of_user(user.to_owned(), visibility, membership))
    }

    /// From which line on which visibility held, oldest first.
    pub(super) async fn visibility(
        &self,
        room: &Room,
    ) -> Result<Vec<(i64, HistoryVisibility)>, StoreError> {
        let versions = self.database().versions(&room.id, &StateKey::history_visibility()).await?;
        let mut visibility = Vec::with_capacity(versions.len());
        for version in versions {
            let event = match version.entry {
                Some(entry) => self.events().get(&entry.event_id).await?,
                None => None,
            };
            visibility.push((version.n, event.map_or(HistoryVisibility::Shared, |e| read(&e))));
        }
        Ok(visibility)
    }
}

/// What an `m.room.history_visibility` says. What can't be read is `shared`, as if there were none.
fn read(event: &StoredEvent) -> HistoryVisibility {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: HistoryVisibility,
    }
    match event.pdu.content_as::<Content>() {
        Ok(Content {
            history_visibility:
                known @ (HistoryVisibility::Invited
                | HistoryVisibility::Joined
                | HistoryVisibility::WorldReadable),
        }) => known,
        _ => HistoryVisibility::Shared,
    }
}
