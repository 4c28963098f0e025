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
    use ruma::events::StateEventType;

    use super::*;

    fn entry(id: &str) -> StateEntry {
        StateEntry { event_id: id.try_into().unwrap(), membership: None }
    }

    fn change(key: &str, old: Option<&str>, new: Option<&str>) -> Change {
        let key = StateKey::new(StateEventType::RoomTopic, key);
        Change { key, new: new.map(entry), old: old.map(entry) }
    }

    #[test]
    fn changes_add_up_key_by_key() {
        let sum = add_up([
            change("a", None, Some("$1")),
            change("b", Some("$2"), Some("$3")),
            change("a", Some("$1"), Some("$4")),
            change("b", Some("$3"), Some("$2")),
            change("c", Some("$5"), None),
        ]);
        assert_eq!(sum, [change("a", None, Some("$4")), change("c", Some("$5"), None)]);
    }
}
