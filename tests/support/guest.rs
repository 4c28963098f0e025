//! Users of a peer, who come into rooms of a server by its handshakes.

use ruma::{OwnedUserId, RoomVersionId};
use serde_json::{Value, json};

use super::{answer::Answer, peer::Peer, server::TestServer};

/// A user of a peer, before a server.
pub struct Guest<'a> {
    pub peer: &'a Peer,
    pub server: &'a TestServer,
    pub id: OwnedUserId,
}

/// An event that is ready to be handed in.
#[derive(Clone, Debug)]
pub struct Ready {
    pub version: RoomVersionId,
    pub id: String,
    pub event: Value,
}

impl Guest<'_> {
    /// Asks for a template: `join`, `knock` or `leave`.
    pub async fn make(&self, verb: &str, room: &str) -> Answer {
        let versions = (3..=12).map(|version| format!("ver={version}")).collect::<Vec<_>>();
        let query =
            if verb == "leave" { String::new() } else { format!("?{}", versions.join("&")) };
        self.make_with(verb, room, &query).await
    }

    /// Asks for a template with any query.
    pub async fn make_with(&self, verb: &str, room: &str, query: &str) -> Answer {
        let (room, user) = (escaped(room), escaped(self.id.as_str()));
        let path = format!("/_matrix/federation/v1/make_{verb}/{room}/{user}{query}");
        self.peer.get(self.server, &path).await
    }

    /// A template, changed and sealed.
    pub async fn ready(&self, verb: &str, room: &str, change: impl FnOnce(&mut Value)) -> Ready {
        let template = self.make(verb, room).await.granted();
        let version = template["room_version"].as_str().expect("a room version");
        self.seal(&version.try_into().expect("a room version"), template["event"].clone(), change)
    }

    /// An event, changed and sealed.
    pub fn seal(
        &self,
        version: &RoomVersionId,
        mut event: Value,
        change: impl FnOnce(&mut Value),
    ) -> Ready {
        let object = event.as_object_mut().expect("an object");
        object.remove("origin");
        object.remove("origin_server_ts");
        change(&mut event);
        let (id, event) = self.peer.event(version, event);
        Ready { version: version.clone(), id: id.to_string(), event }
    }

    /// Hands an event in.
    pub async fn hand_in(&self, endpoint: &str, room: &str, ready: &Ready) -> Answer {
        let (room, id) = (escaped(room), escaped(&ready.id));
        let (path, query) = endpoint.split_once('?').unwrap_or((endpoint, ""));
        let path = format!("/_matrix/federation/{path}/{room}/{id}?{query}");
        self.peer.put(self.server, path.trim_end_matches('?'), &ready.event).await
    }

    /// Joins; returns the answer and the event.
    pub async fn join(&self, room: &str) -> (Value, Ready) {
        let ready = self.ready("join", room, |_| {}).await;
        (self.hand_in("v2/send_join", room, &ready).await.granted(), ready)
    }

    /// Leaves.
    pub async fn leave(&self, room: &str) -> Ready {
        let ready = self.ready("leave", room, |_| {}).await;
        assert_eq!(self.hand_in("v2/send_leave", room, &ready).await.granted(), json!({}));
        ready
    }
}

/// A part of a path.
pub fn escaped(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
