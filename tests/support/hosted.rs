//! A room that a peer holds, and lets others into.

use reqwest::Url;
use ruma::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json};

use super::{
    peer::{Asked, Peer, Told},
    user::fresh,
};

pub const MAKE_JOIN: &str = "/_matrix/federation/v1/make_join/";
pub const SEND_JOIN: &str = "/_matrix/federation/v2/send_join/";

/// A room with a creator, power levels and a join rule, in a version whose create event names its room.
#[derive(Clone, Debug)]
pub struct Hosted {
    pub version: RoomVersionId,
    pub id: String,
    pub creator: String,
    /// The state events with their ids, in the order in which they were said.
    pub state: Vec<(OwnedEventId, Value)>,
    pub tip: OwnedEventId,
    pub depth: u64,
}

impl Hosted {
    /// A room with this join rule.
    pub fn new(peer: &Peer, version: RoomVersionId, join_rule: &Value) -> Self {
        let id = format!("!hosted{}:{}", fresh(), peer.name());
        let creator = peer.user("creator").to_string();
        let tip = "$nothing".try_into().expect("an event id");
        let mut room =
            Self { version, id, creator: creator.clone(), state: Vec::new(), tip, depth: 0 };
        let create = json!({ "room_version": room.version, "creator": creator });
        room.says(peer, &creator, "m.room.create", "", &create);
        room.says(peer, &creator, "m.room.member", &creator, &json!({ "membership": "join" }));
        room.says(
            peer,
            &creator,
            "m.room.power_levels",
            "",
            &json!({ "users": { &creator: 100 } }),
        );
        room.says(peer, &creator, "m.room.join_rules", "", join_rule);
        room
    }

    /// A room that anyone may join.
    pub fn public(peer: &Peer) -> Self {
        Self::new(peer, RoomVersionId::V11, &json!({ "join_rule": "public" }))
    }

    /// What stands at a key.
    pub fn at(&self, kind: &str, key: &str) -> Option<&OwnedEventId> {
        let stands = |(_, event): &&(OwnedEventId, Value)| {
            event["type"] == kind && event["state_key"] == key
        };
        self.state.iter().rev().find(stands).map(|(id, _)| id)
    }

    /// What allows a sender to say something about a user.
    pub fn auth_events(&self, sender: &str, target: &str) -> Vec<OwnedEventId> {
        let mut ids: Vec<OwnedEventId> = Vec::new();
        for (kind, key) in [
            ("m.room.create", ""),
            ("m.room.power_levels", ""),
            ("m.room.join_rules", ""),
            ("m.room.member", sender),
            ("m.room.member", target),
        ] {
            if let Some(id) = self.at(kind, key)
                && !ids.contains(id)
            {
                ids.push(id.clone());
            }
        }
        ids
    }

    /// Adds a state event, signed by the peer.
    pub fn says(
        &mut self,
        peer: &Peer,
        sender: &str,
        kind: &str,
        key: &str,
        content: &Value,
    ) -> OwnedEventId {
        let member = kind == "m.room.member";
        let mut auth_events = self.auth_events(sender, if member { key } else { sender });
        let enters = matches!(content["membership"].as_str(), Some("join" | "invite" | "knock"));
        if !enters {
            let join_rules = self.at("m.room.join_rules", "");
            auth_events.retain(|id| Some(id) != join_rules);
        }
        let prev_events = if self.state.is_empty() { vec![] } else { vec![self.tip.clone()] };
        self.depth += 1;
        let (id, event) = peer.event(
            &self.version,
            json!({
                "type": kind, "room_id": self.id, "sender": sender, "state_key": key,
                "content": content, "prev_events": prev_events, "auth_events": auth_events,
                "depth": self.depth,
            }),
        );
        self.state.push((id.clone(), event));
        self.tip = id.clone();
        id
    }

    /// What `make_join` answers to a user.
    pub fn template(&self, user: &str) -> Value {
        json!({
            "room_version": self.version,
            "event": {
                "type": "m.room.member", "room_id": self.id, "sender": user, "state_key": user,
                "content": { "membership": "join" }, "prev_events": [self.tip],
                "auth_events": self.auth_events(user, user), "depth": self.depth + 1,
                "origin_server_ts": 1, "origin": "anybody",
            },
        })
    }

    /// What `send_join` answers.
    pub fn answer(&self) -> Value {
        let mut state: Vec<&Value> = Vec::new();
        for (id, event) in &self.state {
            let key = |name: &str| event[name].as_str().unwrap_or_default();
            if self.at(key("type"), key("state_key")) == Some(id) {
                state.push(event);
            }
        }
        let chain: Vec<&Value> = self.state.iter().map(|(_, event)| event).collect();
        json!({ "state": state, "auth_chain": chain, "members_omitted": false })
    }

    /// Lets everybody in who asks the peer.
    pub fn open(&self, peer: &Peer) {
        let room = self.clone();
        peer.on(MAKE_JOIN, move |asked| Told::ok(room.template(&user_of(asked))));
        let room = self.clone();
        peer.on(SEND_JOIN, move |asked| {
            let mut answer = room.answer();
            answer["event"] = asked.body.clone();
            Told::ok(answer)
        });
    }
}

/// The user whom a `make_` request is about.
pub fn user_of(asked: &Asked) -> String {
    let path = asked.path.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    let decoded = Url::parse(&format!("http://nobody/?user={last}")).expect("a URL");
    decoded.query_pairs().next().map(|(_, user)| user.into_owned()).unwrap_or_default()
}
