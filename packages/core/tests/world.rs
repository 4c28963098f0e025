//! Rooms to test with: real events, sealed and judged, on branches that may part and meet.

use std::{collections::HashMap, sync::Arc};

use matryx_core::{
    event::{Draft, Pdu, Place, SigningKey, seal},
    refusal::Refusal,
    room::{
        StateEntry, StateKey, StateMap, auth_keys, judge_by_auth_events, judge_by_state, resolve,
    },
};
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomVersionId, ServerName, UInt, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    signatures::{PublicKeyMap, PublicKeySet},
};
use serde_json::{Value, json, value::to_raw_value};

/// The versions that are advertised.
pub(crate) const VERSIONS: [RoomVersionId; 7] = [
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

pub(crate) fn rules(version: &RoomVersionId) -> RoomVersionRules {
    version.rules().expect("a version that ruma knows")
}

pub(crate) fn user(id: &str) -> OwnedUserId {
    UserId::parse(id).unwrap()
}

pub(crate) fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

/// The key of a server: made from its name.
pub(crate) fn key(server: &ServerName) -> SigningKey {
    let mut seed = [7; 32];
    for (place, byte) in seed.iter_mut().zip(server.as_bytes()) {
        *place = *byte;
    }
    SigningKey::from_seed("1", seed).unwrap()
}

/// The public keys of these servers.
pub(crate) fn public_keys(servers: &[&str]) -> PublicKeyMap {
    let set = |server: &str| {
        let key = key(<&ServerName>::try_from(server).unwrap());
        PublicKeySet::from([(key.key_id().to_string(), key.public_key())])
    };
    servers.iter().map(|server| ((*server).to_owned(), set(server))).collect()
}

pub(crate) fn draft(sender: &str, kind: &str, state_key: Option<&str>, content: Value) -> Draft {
    Draft {
        sender: user(sender),
        kind: kind.into(),
        state_key: state_key.map(ToOwned::to_owned),
        content: object(content),
        redacts: None,
    }
}

/// A place in a room of its own, for events that nobody judges.
pub(crate) fn place() -> Place {
    Place {
        room_id: Some("!room:x".try_into().unwrap()),
        prev_events: vec![event_id("prev")],
        auth_events: vec![event_id("auth")],
        depth: 7,
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new(1_000).unwrap()),
    }
}

pub(crate) fn event_id(name: &str) -> OwnedEventId {
    EventId::parse(format!("${name}")).unwrap()
}

/// Seals with the key of the sender's server.
pub(crate) fn sealed(draft: Draft, place: Place, version: &RoomVersionId) -> Result<Pdu, Refusal> {
    let server = draft.sender.server_name().to_owned();
    seal(draft, place, &server, &key(&server), &rules(version))
}

/// All events of a room, whatever branch they are on.
pub(crate) struct World {
    pub(crate) rules: RoomVersionRules,
    pub(crate) events: HashMap<OwnedEventId, Arc<Pdu>>,
    room_id: Option<OwnedRoomId>,
    time: u32,
}

/// A point of the graph, and the state there.
#[derive(Clone, Default)]
pub(crate) struct Branch {
    pub(crate) state: StateMap,
    pub(crate) heads: Vec<OwnedEventId>,
    depth: u64,
}

impl World {
    pub(crate) fn new(version: &RoomVersionId) -> Self {
        Self { rules: rules(version), events: HashMap::new(), room_id: None, time: 1_000_000 }
    }

    /// A public room that its creator is in, with levels: the creator above all, bob has 50.
    pub(crate) fn public(version: &RoomVersionId, creator: &str) -> (Self, Branch) {
        let (mut world, mut branch) = (Self::new(version), Branch::default());
        world.found(&mut branch, creator, json!({"room_version": version}));
        let mut users = json!({"@bob:x": 50});
        if !world.rules.authorization.explicitly_privilege_room_creators {
            users[creator] = json!(100);
        }
        let levels = json!({"users": users});
        world.state(&mut branch, creator, "m.room.power_levels", "", levels).unwrap();
        let rule = json!({"join_rule": "public"});
        world.state(&mut branch, creator, "m.room.join_rules", "", rule).unwrap();
        (world, branch)
    }

    /// The create event and the creator's join.
    pub(crate) fn found(&mut self, branch: &mut Branch, creator: &str, mut content: Value) {
        let server = user(creator).server_name().to_owned();
        if !self.rules.authorization.use_room_create_sender {
            content["creator"] = json!(creator);
        }
        if self.rules.event_format.require_room_create_room_id {
            self.room_id = Some(format!("!room:{server}").try_into().unwrap());
        }
        self.state(branch, creator, "m.room.create", "", content).unwrap();
        self.member(branch, creator, creator, "join").unwrap();
    }

    /// Says something on a branch. On `Err` the law forbids it, and nothing happened but that time went on.
    pub(crate) fn state(
        &mut self,
        branch: &mut Branch,
        sender: &str,
        kind: &str,
        state_key: &str,
        content: Value,
    ) -> Result<Arc<Pdu>, String> {
        self.time += 1_000;
        self.say(branch, draft(sender, kind, Some(state_key), content), self.time)
    }

    pub(crate) fn member(
        &mut self,
        branch: &mut Branch,
        sender: &str,
        target: &str,
        word: &str,
    ) -> Result<Arc<Pdu>, String> {
        self.state(branch, sender, "m.room.member", target, json!({"membership": word}))
    }

    /// Says something at a time of the caller's choice.
    pub(crate) fn say(
        &mut self,
        branch: &mut Branch,
        draft: Draft,
        time: u32,
    ) -> Result<Arc<Pdu>, String> {
        let content = to_raw_value(&draft.content).unwrap();
        let state_key = draft.state_key.as_deref();
        let keys = auth_keys(&draft.kind, &draft.sender, state_key, &content, &self.rules)?;
        let auth = keys.iter().filter_map(|key| branch.state.get(key));
        let is_create = draft.kind == TimelineEventType::RoomCreate;
        let unnamed = is_create && !self.rules.event_format.require_room_create_room_id;
        let place = Place {
            room_id: if unnamed { None } else { self.room_id.clone() },
            prev_events: branch.heads.clone(),
            auth_events: auth.map(|entry| entry.event_id.clone()).collect(),
            depth: branch.depth + 1,
            origin_server_ts: MilliSecondsSinceUnixEpoch(time.into()),
        };
        let server = draft.sender.server_name().to_owned();
        let pdu = seal(draft, place, &server, &key(&server), &self.rules).unwrap();
        let pdu = Arc::new(pdu);
        judge_by_auth_events(&pdu, &self.rules, &|id| self.fetch(id))?;
        judge_by_state(&pdu, &self.rules, &|kind, key| self.look_up(&branch.state, kind, key))?;
        if is_create {
            self.room_id = Some(pdu.room_id().to_owned());
        }
        self.let_in(branch, &pdu);
        Ok(pdu)
    }

    /// Puts an event at the end of a branch, unjudged.
    pub(crate) fn let_in(&mut self, branch: &mut Branch, pdu: &Arc<Pdu>) {
        self.events.insert(pdu.event_id().clone(), Arc::clone(pdu));
        branch.heads = vec![pdu.event_id().clone()];
        branch.depth = pdu.depth();
        if let Some(key) = pdu.key() {
            let entry =
                StateEntry { event_id: pdu.event_id().clone(), membership: pdu.membership() };
            branch.state.insert(key, entry);
        }
    }

    /// Where these branches meet.
    pub(crate) fn merged(&self, branches: &[&Branch]) -> Branch {
        let forks: Vec<StateMap> = branches.iter().map(|branch| branch.state.clone()).collect();
        Branch {
            state: resolve(&self.rules, &forks, &|id| self.fetch(id)).unwrap(),
            heads: branches.iter().flat_map(|branch| branch.heads.clone()).collect(),
            depth: branches.iter().map(|branch| branch.depth).max().unwrap_or_default(),
        }
    }

    pub(crate) fn fetch(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.events.get(id).cloned()
    }

    pub(crate) fn look_up(
        &self,
        state: &StateMap,
        kind: &StateEventType,
        key: &str,
    ) -> Option<Arc<Pdu>> {
        self.fetch(&state.get(&StateKey::new(kind.clone(), key))?.event_id)
    }
}
