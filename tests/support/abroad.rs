//! A room of a peer's, as far as invites and knocks need one.

use ruma::RoomVersionId;
use serde_json::{Value, json};

use super::{
    answer::Answer,
    peer::{Asked, Peer, Told},
    server::TestServer,
};

/// A room that lives at a peer, with one user of the peer's in it.
pub struct Abroad {
    pub version: RoomVersionId,
    pub id: String,
    /// The user who is in it.
    pub host: String,
    pub create: Value,
    pub member: Value,
    ids: Vec<String>,
}

impl Abroad {
    pub fn new(peer: &Peer, version: RoomVersionId) -> Self {
        let host = peer.user("host").to_string();
        let named = version.rules().expect("a known version").authorization;
        let named = !named.room_create_event_id_as_room_id;
        let mut create = json!({
            "type": "m.room.create", "state_key": "", "sender": host, "depth": 1,
            "prev_events": [], "auth_events": [],
            "content": { "room_version": version, "creator": host },
        });
        if named {
            create["room_id"] = format!("!abroad:{}", peer.name()).into();
        }
        let (create_id, create) = peer.event(&version, create);
        let id = match create.get("room_id").and_then(Value::as_str) {
            Some(id) => id.to_owned(),
            None => create_id.as_str().replacen('$', "!", 1),
        };
        let auth: Vec<String> = named.then(|| create_id.to_string()).into_iter().collect();
        let (member_id, member) = peer.event(
            &version,
            json!({
                "type": "m.room.member", "state_key": host, "sender": host, "depth": 2, "room_id": id,
                "prev_events": [create_id], "auth_events": auth,
                "content": { "membership": "join", "displayname": "Host" },
            }),
        );
        let ids = auth.into_iter().chain([member_id.to_string()]).collect();
        Self { version, id, host, create, member, ids }
    }

    /// A member event that follows the room's beginning and rests on it, and on `also`.
    pub fn says(
        &self,
        peer: &Peer,
        sender: &str,
        target: &str,
        membership: &str,
        also: &[&str],
    ) -> (String, Value) {
        let also = also.iter().map(|id| (*id).to_owned());
        let auth: Vec<String> = self.ids.iter().cloned().chain(also).collect();
        let (id, event) = peer.event(
            &self.version,
            json!({
                "type": "m.room.member", "state_key": target, "sender": sender, "depth": 3,
                "room_id": self.id, "prev_events": [self.ids.last()], "auth_events": auth,
                "content": { "membership": membership },
            }),
        );
        (id.to_string(), event)
    }

    /// The body with which an invite is handed in.
    pub fn handed_in(&self, event: &Value) -> Value {
        json!({
            "room_version": self.version, "event": event,
            "invite_room_state": [self.create, self.member],
        })
    }

    /// Hands in an invite.
    pub async fn hand_in(
        &self,
        peer: &Peer,
        server: &TestServer,
        id: &str,
        event: &Value,
    ) -> Answer {
        let path = format!("/_matrix/federation/v2/invite/{}/{id}", self.id);
        peer.put(server, &path, &self.handed_in(event)).await
    }

    /// The host invites a user.
    pub async fn invite(&self, peer: &Peer, server: &TestServer, user: &str) -> String {
        let (id, event) = self.says(peer, &self.host, user, "invite", &[]);
        self.hand_in(peer, server, &id, &event).await.granted();
        id
    }

    /// The template with which a user of another server leaves or knocks.
    pub fn template(&self, user: &str, membership: &str) -> Value {
        json!({
            "room_version": self.version,
            "event": {
                "type": "m.room.member", "room_id": self.id, "sender": user, "state_key": user,
                "content": { "membership": membership }, "depth": 9, "origin_server_ts": 1,
                "prev_events": [self.ids.last()], "auth_events": self.ids,
            },
        })
    }

    /// The peer lets users of other servers leave.
    pub fn lets_leave(&self, peer: &Peer, user: &str) {
        let template = self.template(user, "leave");
        peer.on("/_matrix/federation/v1/make_leave/", move |_: &Asked| Told::ok(template.clone()));
        peer.on("/_matrix/federation/v2/send_leave/", |_: &Asked| Told::ok(json!({})));
    }
}
