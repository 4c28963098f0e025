//! What users of a peer say in a room, one thing after another, and bring to a server.

use std::time::{Duration, Instant};

use http::Method;
use matryx_core::room::Judgement;
use ruma::{EventId, OwnedEventId, RoomVersionId};
use serde_json::{Value, json};

use crate::support::{Answer, Peer, TestServer, fresh};

/// Something that somebody says.
pub(crate) struct Says<'a> {
    pub(crate) sender: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) content: Value,
    pub(crate) auth_events: &'a [OwnedEventId],
}

/// Where the next thing is said.
#[derive(Clone)]
pub(crate) struct Thread<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) version: RoomVersionId,
    pub(crate) room: String,
    /// What it follows.
    pub(crate) tips: Vec<OwnedEventId>,
    pub(crate) depth: u64,
}

impl Thread<'_> {
    /// Says something; the event and its id.
    pub(crate) fn say(&mut self, says: Says<'_>) -> (OwnedEventId, Value) {
        self.depth += 1;
        let Says { sender, kind, key, content, auth_events } = says;
        let mut event = json!({
            "type": kind, "room_id": self.room, "sender": sender, "content": content,
            "prev_events": self.tips, "auth_events": auth_events, "depth": self.depth,
        });
        if let Some(key) = key {
            event["state_key"] = key.into();
        }
        let (id, event) = self.peer.event(&self.version, event);
        self.tips = vec![id.clone()];
        (id, event)
    }
}

/// Brings events to a server in one transaction; how long it took to answer that all is well.
pub(crate) async fn bring(peer: &Peer, server: &TestServer, events: &[Value]) -> Duration {
    let path = format!("/_matrix/federation/v1/send/{}", fresh());
    let body = json!({ "origin": peer.name(), "origin_server_ts": 1, "pdus": events }).to_string();
    let signed = peer.sign(&server.app().server_name, &Method::PUT, &path, &body).to_string();
    let begun = Instant::now();
    let answer: Answer = peer.send(server, Method::PUT, &path, &[signed], body.into()).await;
    let taken = begun.elapsed();
    let answers = answer.granted();
    let answers = answers["pdus"].as_object().expect("an answer for each event");
    assert_eq!(answers.len(), events.len());
    for (id, answer) in answers {
        assert_eq!(*answer, json!({}));
        let id = <&EventId>::try_from(&**id).expect("an event id");
        let kept = server.app().rooms.events().get(id).await.expect("a store");
        assert_eq!(kept.expect("an event").fate, Judgement::Accepted);
    }
    taken
}
