//! Members whose servers' keys can't be had while one of us joins the room.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use matryx_server::clock::Clock;
use serde_json::{Value, json};

use super::support::{Hosted, Peer, SharedPair, SyncAnswer, TestUser, Told, eventually, has};

static PAIR: SharedPair = SharedPair::new();

const KEYS: &str = "/_matrix/key/v2/server";

/// Keeps a peer's keys to itself until it is told otherwise.
fn hide_keys(peer: &Peer) -> Arc<AtomicBool> {
    let shown = Arc::new(AtomicBool::new(false));
    let (keys, name, tell) = (peer.keys(), peer.name().to_owned(), Arc::clone(&shown));
    peer.on(KEYS, move |_| {
        if !tell.load(Ordering::Relaxed) {
            return Told::error(503, "M_UNKNOWN");
        }
        let document = keys.document(&name, Clock::machine().now()).expect("a document");
        Told::ok(serde_json::to_value(&document).expect("JSON"))
    });
    shown
}

/// Lets a peer tell the state of its room, and each event of it.
fn tell_state(peer: &Peer, room: &Hosted) {
    let ids: Vec<String> = room.state.iter().map(|(id, _)| id.to_string()).collect();
    peer.on("/_matrix/federation/v1/state_ids/", move |_| {
        Told::ok(json!({ "pdu_ids": ids, "auth_chain_ids": ids }))
    });
    let events = room.state.clone();
    peer.on("/_matrix/federation/v1/event/", move |asked| {
        let path = asked.path.replace("%24", "$");
        match events.iter().find(|(id, _)| path.ends_with(id.as_str())) {
            Some((_, event)) => {
                Told::ok(json!({ "origin": "x", "origin_server_ts": 1, "pdus": [event] }))
            }
            None => Told::error(404, "M_NOT_FOUND"),
        }
    });
}

/// Waits until a user is shown who is in a room.
async fn are_in(user: &TestUser, room: &str, mut members: Vec<String>) {
    members.sort();
    eventually("the members", async || {
        let answer = user.members(room, &[]).await.granted();
        let joined = |event: &&Value| event["content"]["membership"] == "join";
        let mut there: Vec<String> = answer["chunk"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(joined)
            .filter_map(|event| event["state_key"].as_str().map(str::to_owned))
            .collect();
        there.sort();
        if there == members { Ok(()) } else { Err(format!("{there:?}")) }
    })
    .await;
}

/// A room with a user of another server's, and one of the peer's who rests on what the first has said.
struct Party {
    peer: Peer,
    other: Peer,
    room: Hosted,
    bob: String,
    carol: String,
    shown: Arc<AtomicBool>,
}

impl Party {
    async fn new() -> Self {
        let (peer, other) = (Peer::start().await, Peer::start().await);
        let mut room = Hosted::public(&peer);
        let (bob, carol) = (other.user("bob").to_string(), peer.user("carol").to_string());
        let join = json!({ "membership": "join" });
        room.says(&other, &bob, "m.room.member", &bob, &join);
        // Who can't verify what he has said does not know that she may.
        let invite = json!({ "membership": "invite" });
        room.says(&other, &bob, "m.room.member", &carol, &invite);
        room.says(&peer, &carol, "m.room.member", &carol, &join);
        let shown = hide_keys(&other);
        room.open(&peer);
        tell_state(&peer, &room);
        Self { peer, other, room, bob, carol, shown }
    }

    /// Lets somebody join who can't verify what the other server's user has said.
    async fn is_joined_by(&self, alice: &TestUser) {
        alice.join_via(&self.room.id, &[self.peer.name().as_str()]).await.granted();
        are_in(alice, &self.room.id, vec![self.room.creator.clone(), alice.id.clone()]).await;
    }
}

#[test]
fn who_is_left_out_of_a_join_comes_in_once_the_key_can_be_had() {
    PAIR.run(async |pair| {
        let party = Party::new().await;
        let Party { room, bob, carol, .. } = &party;
        let alice = pair.a.user("alice").await;
        party.is_joined_by(&alice).await;
        let mut listener = alice.listens().await;

        party.shown.store(true, Ordering::Relaxed);
        let all = vec![room.creator.clone(), alice.id.clone(), bob.clone(), carol.clone()];
        are_in(&alice, &room.id, all).await;
        // Who follows is told as well.
        let told = |answer: &SyncAnswer| {
            answer.section(&room.id) == Some("join")
                && has(answer.joined(&room.id).state(), "m.room.member", bob)
        };
        listener.until("bob", told).await;
        eventually("the end of the wait", async || {
            match pair.a.app().federation.inbox().waiting() {
                0 => Ok(()),
                waiting => Err(format!("{waiting} wait")),
            }
        })
        .await;
    });
}

#[test]
fn what_they_do_then_rests_on_what_was_left_out() {
    PAIR.run(async |pair| {
        let mut party = Party::new().await;
        let alice = pair.a.user("alice").await;
        party.is_joined_by(&alice).await;
        // It will not be tried again by itself soon.
        eventually("some attempts", async || match party.other.count(KEYS) {
            6.. => Ok(()),
            count => Err(format!("{count} attempts")),
        })
        .await;
        party.shown.store(true, Ordering::Relaxed);
        let (room, bob) = (&mut party.room, party.bob.clone());
        let leave = json!({ "membership": "leave" });
        room.says(&party.other, &bob, "m.room.member", &bob, &leave);
        let (id, event) = room.state.last().expect("an event");
        let path = format!("/_matrix/federation/v1/send/{}", id.as_str().trim_start_matches('$'));
        let name = party.other.name();
        let body = json!({ "origin": name, "origin_server_ts": 1, "pdus": [event] });
        // Who could not be asked for a key just now is not asked again at once.
        eventually("a key", async || match party.other.put(&pair.a, &path, &body).await {
            answer if answer.status == 200 => Ok(()),
            answer => Err(answer.text),
        })
        .await;
        let rest = vec![room.creator.clone(), alice.id.clone(), party.carol.clone()];
        are_in(&alice, &room.id, rest).await;
    });
}
