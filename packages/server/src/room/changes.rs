//! What a room's state did between two lines.

use std::collections::BTreeMap;

use matryx_core::room::{Change, StateEntry, StateKey, StateMap, difference};
use matryx_repository::StoreError;

use super::{Room, Rooms};

/// Over how many lines the changes are added up; over more, two states are compared.
const FEW: i64 = 1000;

impl Rooms {
    /// The keys in which a room's current state differs between line `from` and line `to`, whose state is `state`.
    ///
    /// # Errors
    /// When the database fails; it is read only for what has passed out of memory.
    pub async fn changes(
        &self,
        room: &Room,
        from: i64,
        to: i64,
        state: &StateMap,
    ) -> Result<Vec<Change>, StoreError> {
        if let Some(look) = room.look_at_line(from) {
            return Ok(difference(&look.state, state));
        }
        if let Some(lines) = room.lines(from + 1, to) {
            return Ok(add_up(lines.into_iter().flat_map(|line| line.changes.clone())));
        }
        if to - from <= FEW {
            return Ok(add_up(self.database().changes(&room.id, from + 1, to).await?));
        }
        let old = self.database().state_at(&room.id, from, None).await?;
        Ok(difference(&old, state))
    }
}

/// What changes come to, one after another: for each key what was before the first and is after the last.
#[must_use]
pub fn add_up(changes: impl IntoIterator<Item = Change>) -> Vec<Change> {
    let mut sum: BTreeMap<StateKey, (Option<StateEntry>, Option<StateEntry>)> = BTreeMap::new();
    for Change { key, new, old } in changes {
        sum.entry(key).or_insert((old, None)).1 = new;
    }
    sum.into_iter()
        .filter(|(_, (old, new))| old != new)
        .map(|(key, (old, new))| Change { key, new, old })
        .collect()
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedEventId, events::StateEventType};

    use super::*;

    fn entry(id: &str) -> Option<StateEntry> {
        let event_id: OwnedEventId = id.try_into().unwrap();
        Some(StateEntry { event_id, membership: None })
    }

    fn change(key: &str, old: Option<StateEntry>, new: Option<StateEntry>) -> Change {
        Change { key: StateKey::new(StateEventType::RoomTopic, key), new, old }
    }

    #[test]
    fn changes_add_up_key_by_key() {
        let sum = add_up([
            change("a", None, entry("$1")),
            change("b", entry("$2"), entry("$3")),
            change("a", entry("$1"), entry("$4")),
            change("b", entry("$3"), entry("$2")),
            change("c", entry("$5"), None),
        ]);
        assert_eq!(sum, [change("a", None, entry("$4")), change("c", entry("$5"), None)]);
    }
}
