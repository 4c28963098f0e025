//! Which state events a room's entry needs, so that a client ends up with the room's state.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use matryx_core::{
    event::Pdu,
    room::{Change, StateEntry, StateKey, StateMap},
};
use matryx_repository::{Line, StoreError, StoredEvent};
use ruma::{
    OwnedUserId, RoomId, UserId, events::StateEventType, room_version_rules::RoomVersionRules,
};

use super::{StateForm, View, answer::State, timeline::Tail};
use crate::sync::filter::EventFilter;

/// What happened to a room's state over the stretch that an answer is about.
pub(super) struct Stretch<'a> {
    /// The state at its end.
    end: &'a StateMap,
    /// The state where the timeline begins.
    begin: StateMap,
    /// What is different at the end from what the client knows; `None` if it knows nothing.
    changes: Option<Vec<Change>>,
    /// Whether the client is told all of the state, whatever it knows. It still keeps the members that it is not told of.
    whole: bool,
    /// What events of the timeline are about.
    shown: HashSet<StateKey>,
    /// Who has said something in the timeline.
    senders: BTreeSet<&'a UserId>,
}

impl<'a> Stretch<'a> {
    /// The stretch that ends with `end`, of whose newest part the timeline shows something.
    pub(super) fn new(
        end: &'a StateMap,
        begin: StateMap,
        shown: &'a [Arc<Line>],
        changes: Option<Vec<Change>>,
        whole: bool,
    ) -> Self {
        let events = || shown.iter().map(|line| &*line.event.pdu);
        Self {
            end,
            begin,
            whole: whole || changes.is_none(),
            changes,
            shown: events().filter_map(Pdu::key).collect(),
            senders: events().map(|pdu| &**pdu.sender()).collect(),
        }
    }

    /// Whether the client comes to know of a different member, or of one who has become something else.
    pub(super) fn members_changed(&self) -> bool {
        let membership = |entry: &Option<StateEntry>| entry.as_ref().and_then(|e| e.membership);
        self.changed(|change| {
            change.key.kind == StateEventType::RoomMember
                && membership(&change.new) != membership(&change.old)
        })
    }

    /// Whether what the room is called has changed.
    pub(super) fn name_changed(&self) -> bool {
        let kinds = [StateEventType::RoomName, StateEventType::RoomCanonicalAlias];
        self.changed(|change| kinds.contains(&change.key.kind))
    }

    fn changed(&self, fits: impl Fn(&Change) -> bool) -> bool {
        self.whole || self.changes().any(fits)
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().flatten()
    }

    /// What a client must be told of a key: what stands there at the end; but where the timeline says something of it, and
    /// the client is to apply that, what stood there before.
    fn entry(&self, key: &StateKey, form: StateForm) -> Option<&StateEntry> {
        match form {
            StateForm::Before if self.shown.contains(key) => self.begin.get(key),
            _ => self.end.get(key),
        }
    }

    /// The keys and entries that a client must be told.
    fn entries(
        &self,
        form: StateForm,
        wants: impl Fn(&StateKey) -> bool,
        needed: Option<&BTreeSet<StateKey>>,
    ) -> BTreeMap<StateKey, StateEntry> {
        let mut entries = BTreeMap::new();
        let mut tell = |key: &StateKey, known: Option<&StateEntry>| {
            if wants(key)
                && let Some(entry) = self.entry(key, form)
                && Some(entry) != known
            {
                entries.insert(key.clone(), entry.clone());
            }
        };
        if self.whole {
            for key in self.end.keys() {
                let lazy = |needed: &BTreeSet<StateKey>| {
                    key.kind == StateEventType::RoomMember && !needed.contains(key)
                };
                if !needed.is_some_and(lazy) {
                    tell(key, None);
                }
            }
        }
        for change in self.changes() {
            let known = change.old.as_ref().filter(|_| !self.whole);
            tell(&change.key, known);
        }
        for key in needed.into_iter().flatten() {
            tell(key, None);
        }
        entries
    }
}

/// The state where a timeline begins: that of its end with the changes of its lines taken back, newest first.
pub(super) fn before(end: &StateMap, tail: &Tail) -> StateMap {
    let mut state = end.clone();
    for change in tail.passed.iter().flat_map(|line| line.changes.iter().rev()) {
        match &change.old {
            Some(old) => state.insert(change.key.clone(), old.clone()),
            None => state.remove(&change.key),
        };
    }
    state
}

impl View<'_> {
    /// The state section of a room. `heroes` are members whom the summary names.
    pub(super) async fn state(
        &self,
        stretch: &Stretch<'_>,
        rules: &RoomVersionRules,
        room: &RoomId,
        heroes: &[OwnedUserId],
    ) -> Result<State, StoreError> {
        let form = self.question.form;
        let filter = EventFilter(&self.question.filter.room.state);
        let needed = filter.lazy_members().then(|| {
            // On a first sight the client also needs to know itself.
            let own = stretch.whole.then_some(&*self.question.user);
            let heroes = heroes.iter().map(|hero| &**hero);
            stretch.senders.iter().copied().chain(own).chain(heroes).map(StateKey::member).collect()
        });
        let wants = |key: &StateKey| filter.kind(&key.kind);
        let entries = if filter.room(room) {
            stretch.entries(form, wants, needed.as_ref())
        } else {
            BTreeMap::new()
        };
        let found =
            self.rooms.events().get_all(entries.values().map(|entry| &*entry.event_id)).await?;
        let mut events: Vec<Arc<StoredEvent>> =
            found.into_values().filter(|event| filter.event(&event.pdu)).collect();
        // As they were said; what never had a place in the timeline comes last.
        events.sort_by_key(|event| (event.n.unwrap_or(i64::MAX), event.pdu.event_id().clone()));
        let events = self.write(events.iter().map(|event| &**event), rules, None).await?;
        Ok(State::new(form, events))
    }
}
