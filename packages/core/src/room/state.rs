//! A room's state as a value: a persistent map that shares its structure with the states before and after it.

use std::{fmt, ops::Bound, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};
use ruma::{OwnedEventId, UserId, events::StateEventType};

use crate::membership::Membership;

/// The key of one piece of state: a type and a state key. Ordered by type, then by state key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateKey {
    /// The event type.
    pub kind: StateEventType,
    /// The state key.
    pub key: Arc<str>,
}

/// What stands under a key of a room's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEntry {
    /// The event.
    pub event_id: OwnedEventId,
    /// What it makes of its target, where it is a member event.
    pub membership: Option<Membership>,
}

/// The state of a room at a point of its graph. Cloning is cheap, and a changed copy shares all that did not change.
pub type StateMap = OrdMap<StateKey, StateEntry>;

/// One key in which two states differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: StateKey,
    /// What stands there now; `None` when nothing does any more.
    pub new: Option<StateEntry>,
    /// What stood there before; `None` when nothing did.
    pub old: Option<StateEntry>,
}

impl StateKey {
    /// The key of this type and state key.
    pub fn new(kind: StateEventType, key: impl Into<Arc<str>>) -> Self {
        Self { kind, key: key.into() }
    }

    /// `m.room.member` of a user.
    #[must_use]
    pub fn member(user: &UserId) -> Self {
        Self::new(StateEventType::RoomMember, user.as_str())
    }

    /// `m.room.create`.
    #[must_use]
    pub fn create() -> Self {
        Self::new(StateEventType::RoomCreate, "")
    }

    /// `m.room.power_levels`.
    #[must_use]
    pub fn power_levels() -> Self {
        Self::new(StateEventType::RoomPowerLevels, "")
    }

    /// `m.room.join_rules`.
    #[must_use]
    pub fn join_rules() -> Self {
        Self::new(StateEventType::RoomJoinRules, "")
    }

    /// `m.room.history_visibility`.
    #[must_use]
    pub fn history_visibility() -> Self {
        Self::new(StateEventType::RoomHistoryVisibility, "")
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "({}, {:?})", self.kind, self.key)
    }
}

/// The part of a state that has one type, such as all members.
pub fn of_kind<'a>(
    state: &'a StateMap,
    kind: &StateEventType,
) -> impl Iterator<Item = (&'a StateKey, &'a StateEntry)> + use<'a> {
    let kind = kind.clone();
    let first = StateKey::new(kind.clone(), "");
    state
        .range((Bound::Included(first), Bound::Unbounded))
        .take_while(move |(key, _)| key.kind == kind)
}

/// Where `new` differs from `old`, in the order of the keys. Costs what differs, not what they share.
#[must_use]
pub fn difference(old: &StateMap, new: &StateMap) -> Vec<Change> {
    old.diff(new)
        .map(|item| match item {
            DiffItem::Add(key, new) => {
                Change { key: key.clone(), new: Some(new.clone()), old: None }
            }
            DiffItem::Update { old: (_, old), new: (key, new) } => {
                Change { key: key.clone(), new: Some(new.clone()), old: Some(old.clone()) }
            }
            DiffItem::Remove(key, old) => {
                Change { key: key.clone(), new: None, old: Some(old.clone()) }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn put(state: &mut StateMap, number: u16, event: u16) {
        let key = StateKey::new(StateEventType::RoomMember, format!("@user{number}:x"));
        let event_id = format!("${event}").try_into().unwrap();
        state.insert(key, StateEntry { event_id, membership: None });
    }

    fn state(size: u16) -> StateMap {
        let mut state = StateMap::new();
        (0..size).for_each(|number| put(&mut state, number, 0));
        state
    }

    /// What [`difference`] is to say, without any short cut.
    fn key_by_key(old: &StateMap, new: &StateMap) -> Vec<Change> {
        let all: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        all.into_iter()
            .map(|key| Change {
                key: key.clone(),
                new: new.get(key).cloned(),
                old: old.get(key).cloned(),
            })
            .filter(|change| change.new != change.old)
            .collect()
    }

    #[test]
    fn each_change_of_one_key_is_seen() {
        let old = state(1_000);
        for number in 0..1_000 {
            let mut new = old.clone();
            put(&mut new, number, 1);
            assert_eq!(difference(&old, &new).len(), 1, "user {number}");
            assert!(old != new, "user {number}");
        }
    }

    proptest! {
        #[test]
        fn states_that_share_much_differ_in_what_differs(
            size in 0_u16..300,
            puts in vec((0_u16..320, 0_u16..3), 0..20),
            goes in vec(0_u16..320, 0..20),
        ) {
            let old = state(size);
            let mut new = old.clone();
            for number in goes {
                new.remove(&StateKey::new(StateEventType::RoomMember, format!("@user{number}:x")));
            }
            for (number, event) in puts {
                put(&mut new, number, event);
            }
            prop_assert_eq!(difference(&old, &new), key_by_key(&old, &new));
            prop_assert_eq!(difference(&new, &old), key_by_key(&new, &old));
        }
    }
}
