//! A look: a room as it was at one position, immutable, cheap to hold and to derive the next one from.

use std::sync::{Arc, OnceLock};

use imbl::OrdMap;
use matryx_core::{
    event::Pdu,
    membership::{JoinRule, Membership},
    room::{Change, Powers, StateEntry, StateKey, StateMap},
};
use matryx_repository::{Gap, RoomHead, ServerSet, Tip};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName,
    UserId, events::StateEventType, room_version_rules::RoomVersionRules,
};

use super::acl::Acl;

/// A room at a position of the server's stream.
#[derive(Debug, Clone)]
pub struct Look {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// What that version means.
    pub rules: Arc<RoomVersionRules>,
    /// The number of its newest line; 0 for a room that nothing has been said in yet.
    pub n: i64,
    /// The position at which that line was committed.
    pub pos: u64,
    /// Under which epoch the current state is stored.
    pub epoch: i64,
    /// The forward extremities, each with the state after it. One, unless the room has forked.
    pub tips: Vec<TipState>,
    /// The current state: resolved from the tips where there are several.
    pub state: StateMap,
    /// The events that decide who may do what, read.
    pub law: Law,
    /// How many users are joined.
    pub joined: u64,
    /// How many users are invited.
    pub invited: u64,
    /// How many users of each server are joined; servers without any are left out.
    pub servers: OrdMap<OwnedServerName, u64>,
    /// The servers in the room beside this one, once somebody has asked.
    pub(super) others: OnceLock<Option<Arc<ServerSet>>>,
    /// Before which lines something is or was missing.
    pub gaps: OrdMap<i64, Gap>,
}

/// A forward extremity and the state after it.
#[derive(Debug, Clone)]
pub struct TipState {
    /// The event and its depth.
    pub tip: Tip,
    /// The state after it.
    pub state: StateMap,
}

/// The events of the current state that decide who may do what.
#[derive(Debug, Clone, Default)]
pub struct Law {
    /// `m.room.create`; `None` only before it has been said.
    pub create: Option<Arc<Pdu>>,
    /// `m.room.power_levels`
    pub power_levels: Option<Arc<Pdu>>,
    /// `m.room.join_rules`
    pub join_rules: Option<Arc<Pdu>>,
    /// The levels that the first two give. `None` if they can't be read, which no accepted event leads to.
    pub powers: Option<Arc<Powers>>,
    /// Which servers may take part: `m.room.server_acl`, made ready.
    pub acl: Arc<Acl>,
}

impl Look {
    /// A room in which nothing has been said.
    #[must_use]
    pub fn empty(
        room_id: OwnedRoomId,
        version: RoomVersionId,
        rules: Arc<RoomVersionRules>,
    ) -> Self {
        Self {
            room_id,
            version,
            rules,
            n: 0,
            pos: 0,
            epoch: 0,
            tips: Vec::new(),
            state: StateMap::new(),
            law: Law::default(),
            joined: 0,
            invited: 0,
            servers: OrdMap::new(),
            others: OnceLock::new(),
            gaps: OrdMap::new(),
        }
    }

    /// A room of which nothing is known but its id. Its version says nothing until it is held.
    pub(super) fn unknown(room_id: OwnedRoomId) -> Self {
        let (version, rules) = (RoomVersionId::V12, Arc::new(RoomVersionRules::V12));
        Self::empty(room_id, version, rules)
    }

    /// Whether this server is in the room, as one of those whose users have joined it. It decides there alone if nobody is.
    #[must_use]
    pub fn is_resident(&self, server: &ServerName) -> bool {
        self.joined == 0 || self.servers.contains_key(server)
    }

    /// What a user is in the room. No member event is the same as having left.
    #[must_use]
    pub fn membership(&self, user: &UserId) -> Membership {
        self.entry(&StateKey::member(user))
            .and_then(|entry| entry.membership)
            .unwrap_or(Membership::Left)
    }

    /// The entry of a state key.
    #[must_use]
    pub fn entry(&self, key: &StateKey) -> Option<&StateEntry> {
        self.state.get(key)
    }

    /// The event id that stands at a type and state key.
    #[must_use]
    pub fn event_id(&self, kind: StateEventType, key: &str) -> Option<&EventId> {
        self.state.get(&StateKey::new(kind, key)).map(|entry| &*entry.event_id)
    }

    /// Every user with a member event, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (&str, &StateEntry)> {
        let first = StateKey::new(StateEventType::RoomMember, "");
        self.state
            .range(first..)
            .take_while(|(key, _)| key.kind == StateEventType::RoomMember)
            .map(|(key, entry)| (&*key.key, entry))
    }

    /// The users with this membership, in the order of their ids.
    pub fn users(&self, membership: Membership) -> impl Iterator<Item = OwnedUserId> {
        self.members()
            .filter(move |(_, entry)| entry.membership == Some(membership))
            .filter_map(|(user, _)| UserId::parse(user).ok())
    }

    /// The room's join rule.
    #[must_use]
    pub fn join_rule(&self) -> JoinRule {
        JoinRule::read(self.law.join_rules.as_deref())
    }

    /// Which servers may take part.
    #[must_use]
    pub fn acl(&self) -> &Arc<Acl> {
        &self.law.acl
    }

    /// What the store keeps of it.
    #[must_use]
    pub fn head(&self) -> RoomHead {
        RoomHead {
            room_id: self.room_id.clone(),
            version: self.version.clone(),
            n: self.n,
            pos: self.pos,
            epoch: self.epoch,
            tips: self.tips.iter().map(|tip| tip.tip.clone()).collect(),
        }
    }

    /// The ids of the tips, as the next event's `prev_events`: at most 20, the deepest first.
    #[must_use]
    pub fn prev_events(&self) -> (Vec<OwnedEventId>, u64) {
        let mut tips: Vec<&Tip> = self.tips.iter().map(|tip| &tip.tip).collect();
        tips.sort_by(|a, b| b.depth.cmp(&a.depth).then_with(|| a.event_id.cmp(&b.event_id)));
        let depth = tips.first().map_or(1, |tip| tip.depth.saturating_add(1));
        (tips.into_iter().take(20).map(|tip| tip.event_id.clone()).collect(), depth)
    }

    /// The servers in the room beside this one; `None` if there are none. Put together once for as long as no server
    /// comes or goes.
    pub fn others(&self, this: &ServerName) -> Option<&Arc<ServerSet>> {
        let others = || {
            let names = self.servers.keys().filter(|name| **name != this).cloned().collect();
            ServerSet::of(names).map(Arc::new)
        };
        self.others.get_or_init(others).as_ref()
    }

    /// Counts the members of a state that was put in its place as a whole.
    pub(super) fn count(&mut self) {
        let (mut joined, mut invited, mut servers) = (0, 0, OrdMap::<OwnedServerName, u64>::new());
        for (user, entry) in self.members() {
            joined += u64::from(entry.membership == Some(Membership::Joined));
            invited += u64::from(entry.membership == Some(Membership::Invited));
            if entry.membership == Some(Membership::Joined)
                && let Ok(user) = <&UserId>::try_from(user)
            {
                match servers.get_mut(user.server_name()) {
                    Some(count) => *count += 1,
                    None => drop(servers.insert(user.server_name().to_owned(), 1)),
                }
            }
        }
        (self.joined, self.invited, self.servers) = (joined, invited, servers);
        self.others = OnceLock::new();
    }

    /// The look after a line: the changes applied, the counters moved.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match &change.new {
                Some(entry) => self.state.insert(change.key.clone(), entry.clone()),
                None => self.state.remove(&change.key),
            };
            let was = change.old.as_ref().and_then(|entry| entry.membership);
            let is = change.new.as_ref().and_then(|entry| entry.membership);
            for (membership, count) in
                [(Membership::Joined, &mut self.joined), (Membership::Invited, &mut self.invited)]
            {
                *count += u64::from(is == Some(membership));
                *count -= u64::from(was == Some(membership));
            }
            if (was == Some(Membership::Joined)) != (is == Some(Membership::Joined)) {
                self.count_server(&change.key, is == Some(Membership::Joined));
            }
        }
    }

    /// A user has come or gone.
    fn count_server(&mut self, key: &StateKey, come: bool) {
        let Ok(user) = <&UserId>::try_from(&*key.key) else { return };
        let server = user.server_name();
        match (self.servers.get_mut(server), come) {
            (Some(count), true) => *count += 1,
            (Some(count), false) if *count > 1 => *count -= 1,
            (Some(_), false) => {
                self.servers.remove(server);
                self.others = OnceLock::new();
            }
            (None, true) => {
                self.servers.insert(server.to_owned(), 1);
                self.others = OnceLock::new();
            }
            (None, false) => {}
        }
    }
}

impl Law {
    /// The keys whose events make the law.
    #[must_use]
    pub fn keys() -> [StateKey; 4] {
        [
            StateKey::new(StateEventType::RoomCreate, ""),
            StateKey::new(StateEventType::RoomPowerLevels, ""),
            StateKey::new(StateEventType::RoomJoinRules, ""),
            StateKey::new(StateEventType::RoomServerAcl, ""),
        ]
    }

    /// Takes in the event that now stands at a key; events that make no law are passed over.
    pub(super) fn take(
        &mut self,
        key: &StateKey,
        event: Option<Arc<Pdu>>,
        rules: &RoomVersionRules,
    ) {
        if !key.key.is_empty() {
            return;
        }
        match key.kind {
            StateEventType::RoomCreate => self.create = event,
            StateEventType::RoomPowerLevels => self.power_levels = event,
            StateEventType::RoomJoinRules => {
                self.join_rules = event;
                return;
            }
            StateEventType::RoomServerAcl => {
                self.acl = Arc::new(event.as_deref().map(Acl::read).unwrap_or_default());
                return;
            }
            _ => return,
        }
        self.powers = self.create.as_deref().and_then(|create| {
            Powers::read(create, self.power_levels.as_deref(), rules).ok().map(Arc::new)
        });
    }

    /// The law's event at a key.
    #[must_use]
    pub fn event(&self, key: &StateKey) -> Option<&Arc<Pdu>> {
        if !key.key.is_empty() {
            return None;
        }
        match key.kind {
            StateEventType::RoomCreate => self.create.as_ref(),
            StateEventType::RoomPowerLevels => self.power_levels.as_ref(),
            StateEventType::RoomJoinRules => self.join_rules.as_ref(),
            _ => None,
        }
    }
}
