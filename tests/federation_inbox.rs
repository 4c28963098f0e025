//! What other servers send: transactions, and what is missing before the events in them.

use std::sync::atomic::{AtomicUsize, Ordering};

use matryx_core::room::StateKey;
use ruma::{OwnedEventId, OwnedUserId, RoomId, RoomVersionId, events::StateEventType};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    federation_bad_input::put_signed,
    support::{Answer, Peer, SharedPair, Sync, TestServer, TestUser, Told, find},
};

static PAIR: SharedPair = SharedPair::standing_still();

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// Where the endpoints for other servers are.
pub const FEDERATION: &str = "/_matrix/federation/v1";

/// A peer with a user in a room of ours.
pub struct Guest<'a> {
    pub peer: Peer,
    pub server: &'a TestServer,
    pub alice: TestUser,
    pub room: String,
    pub user: OwnedUserId,
    pub join: OwnedEventId,
}

impl<'a> Guest<'a> {
    /// A public room of version 11; the peer's user has joined it.
    pub async fn new(server: &'a TestServer) -> Self {
        Self::in_room_with(server, json!({})).await
    }

    pub async fn in_room_with(server: &'a TestServer, options: Value) -> Self {
        let peer = Peer::start().await;
        let alice = server.user("alice").await;
        let mut wish = json!({ "preset": "public_chat", "room_version": "11" });
        wish.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let room = alice.new_room(wish).await;
        let user = peer.user("bob");
        let mut guest = Self { join: "$none".try_into().unwrap(), peer, server, alice, room, user };
        let (join, event) = guest.event(
            "m.room.member",
            Some(guest.user.as_str()),
            json!({ "membership": "join" }),
            &guest.tips().await,
        );
        guest.join = join;
        guest.send(&[&event]).await.granted();
        guest.alice.event(&guest.room, guest.join.as_str()).await.granted();
        guest
    }

    pub async fn look(&self) -> std::sync::Arc<matryx_server::room::Look> {
        let room = <&RoomId>::try_from(&*self.room).unwrap();
        self.server.app().rooms.room(room).await.unwrap().unwrap().look()
    }

    pub async fn tips(&self) -> Vec<OwnedEventId> {
        self.look().await.prev_events().0
    }

    /// An event of the peer's user that follows these.
    pub fn event(
        &self,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
        prev: &[impl Serialize],
    ) -> (OwnedEventId, Value) {
        self.event_by(kind, state_key, content, prev, &[])
    }

    /// … which names these events too as what allows it.
    pub fn event_by(
        &self,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
        prev: &[impl Serialize],
        more: &[&OwnedEventId],
    ) -> (OwnedEventId, Value) {
        let room = <&RoomId>::try_from(&*self.room).unwrap();
        let look = futures::executor::block_on(self.server.app().rooms.room(room));
        let look = look.unwrap().unwrap().look();
        let mut keys = vec![
            StateKey::create(),
            StateKey::power_levels(),
            StateKey::new(StateEventType::RoomMember, self.user.as_str()),
        ];
        if kind == "m.room.member" {
            keys.push(StateKey::join_rules());
        }
        let auth = keys.iter().filter_map(|key| Some(look.entry(key)?.event_id.clone()));
        let auth: Vec<OwnedEventId> = auth.chain(more.iter().copied().cloned()).collect();
        let mut event = json!({
            "type": kind, "sender": self.user, "room_id": self.room, "prev_events": prev, "auth_events": auth, "depth": 50,
        });
        event["content"] = content;
        if let Some(key) = state_key {
            event["state_key"] = json!(key);
        }
        self.peer.event(&RoomVersionId::V11, event)
    }

    pub fn words(&self, text: &str, prev: &[impl Serialize]) -> (OwnedEventId, Value) {
        self.event("m.room.message", None, json!({ "msgtype": "m.text", "body": text }), prev)
    }

    pub async fn send(&self, events: &[&Value]) -> Answer {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.transaction(&format!("t{number}"), json!(events), json!([])).await
    }

    pub async fn transaction(&self, id: &str, pdus: Value, edus: Value) -> Answer {
        let body = json!({
            "origin": self.peer.name(), "origin_server_ts": 1, "pdus": pdus, "edus": edus,
        });
        self.peer.put(self.server, &format!("{FEDERATION}/send/{id}"), &body).await
    }

    /// What stands in the newest timeline of whoever has been there from the start.
    pub async fn said(&self) -> Vec<String> {
        let synced = self.alice.sync(Sync::initial()).await;
        synced.joined(&self.room).said().into_iter().map(str::to_owned).collect()
    }

    /// All of the room's history that is held, in one page.
    pub async fn page(&self, dir: &str) -> Value {
        let query = [("dir", dir), ("limit", "100")];
        self.alice.query(&["rooms", &self.room, "messages"], &query).await.granted()
    }
}

pub fn path(what: &str) -> String {
    format!("{FEDERATION}/{what}/")
}

#[test]
fn events_come_in_and_each_has_its_answer() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let (first, one) = guest.words("one", &[&guest.join]);
        let (second, two) = guest.words("two", &[&first]);
        let (_, mut forged) = guest.words("forged", &[&second]);
        forged["depth"] = json!(51);
        let other = json!({ "room_id": "!elsewhere:x", "type": "m.room.message" });
        let pdus = json!([one, two, forged, other, 5, "text", {}, { "room_id": 7 }]);
        let edus = json!([{ "edu_type": "m.unknown", "content": {} }, { "edu_type": 1 }]);
        let answer = guest.transaction("again", pdus.clone(), edus.clone()).await.granted();
        let answers = answer["pdus"].as_object().unwrap();
        assert_eq!(answers[first.as_str()], json!({}));
        assert_eq!(answers[second.as_str()], json!({}));
        assert_eq!(answers.len(), 3, "{answers:?}");
        let refused: Vec<_> =
            answers.values().filter(|answer| answer["error"].is_string()).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(guest.said().await, ["one", "two"]);
        // The same transaction is not worked on again.
        assert_eq!(guest.transaction("again", pdus, edus).await.granted(), answer);
        assert_eq!(guest.said().await, ["one", "two"]);
        // The same events in another transaction are known.
        let answer = guest.send(&[&one, &one, &two]).await.granted();
        assert_eq!(answer["pdus"], json!({ first.as_str(): {}, second.as_str(): {} }));
        assert_eq!(guest.said().await, ["one", "two"]);
    });
}

#[test]
fn a_transaction_has_its_limits() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let many = |count: usize| Value::from(vec![json!({}); count]);
        let too_many = guest.transaction("m1", many(51), json!([])).await;
        too_many.refused(400, "M_INVALID_PARAM").says("50");
        let too_many = guest.transaction("m2", json!([]), many(101)).await;
        too_many.refused(400, "M_INVALID_PARAM").says("100");
        guest.transaction("m3", many(50), many(100)).await.granted();
        let too_long = guest.transaction(&"m".repeat(256), json!([]), json!([])).await;
        too_long.refused(400, "M_INVALID_PARAM").says("255");
        guest.transaction(&"m".repeat(255), json!([]), json!([])).await.granted();
    });
}

#[test]
fn what_is_nested_too_deeply_harms_only_itself() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let (id, event) = guest.words("fine", &[&guest.join]);
        let deep = json!({ "type": "m.deep", "room_id": guest.room, "content": "#" });
        let body = json!({
            "origin": guest.peer.name(), "origin_server_ts": 1, "pdus": [deep, event], "edus": [],
        });
        let nested = "[".repeat(500) + &"]".repeat(500);
        let body = body.to_string().replace("\"#\"", &nested);
        let path = format!("{FEDERATION}/send/deep");
        let answer = put_signed(&guest.peer, guest.server, &path, &body, body.clone()).await;
        assert_eq!(answer.granted()["pdus"], json!({ id.as_str(): {} }));
        assert_eq!(guest.said().await, ["fine"]);
    });
}

#[test]
fn a_denied_server_is_told_so() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let acl = json!({ "allow": ["*"], "deny": ["127.*"] });
        guest.alice.put_state(&guest.room, "m.room.server_acl", "", acl).await.granted();
        let (id, event) = guest.words("denied", &guest.tips().await);
        let answer = guest.send(&[&event]).await.granted();
        let error = answer["pdus"][id.as_str()]["error"].as_str().unwrap();
        assert!(error.contains("ACL"), "{error}");
        assert!(guest.said().await.is_empty());
    });
}

#[test]
fn what_is_missing_is_asked_for_once_and_comes_in_order() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let mut prev = guest.join.clone();
        let mut events = Vec::new();
        for number in 0..7 {
            let (id, event) = guest.words(&number.to_string(), &[prev]);
            prev = id;
            events.push(event);
        }
        let last = events.pop().unwrap();
        guest.peer.on(&path("get_missing_events"), {
            let (join, last) = (guest.join.clone(), prev.clone());
            move |asked| {
                assert_eq!(asked.body["earliest_events"], json!([join]));
                assert_eq!(asked.body["latest_events"], json!([last]));
                Told::ok(json!({ "events": events }))
            }
        });
        let answer = guest.send(&[&last]).await.granted();
        assert_eq!(answer["pdus"], json!({ prev.as_str(): {} }));
        assert_eq!(guest.said().await, ["0", "1", "2", "3", "4", "5", "6"]);
        assert_eq!(guest.peer.count(&path("get_missing_events")), 1);
        assert_eq!(guest.peer.count(&path("state_ids")), 0);
        assert_eq!(guest.peer.count(&path("event")), 0);
    });
}

#[test]
fn what_nobody_gives_is_not_refused_for_good() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let (a, first) = guest.words("a", &[&guest.join]);
        let (b, second) = guest.words("b", &[a]);
        guest.send(&[&second]).await.granted();
        guest.alice.event(&guest.room, b.as_str()).await.refused(404, "M_NOT_FOUND");
        guest.send(&[&first]).await.granted();
        guest.send(&[&second]).await.granted();
        assert_eq!(guest.said().await, ["a", "b"]);
        // In the wrong order it is only a matter of waiting.
        let (c, third) = guest.words("c", &[b]);
        let (_, fourth) = guest.words("d", &[c]);
        guest.send(&[&fourth, &third]).await.granted();
        assert_eq!(guest.said().await, ["a", "b", "c", "d"]);
    });
}

#[test]
fn what_rests_on_something_rejected_is_rejected() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let tips = guest.tips().await;
        let levels = json!({ "users": { guest.user.as_str(): 100 } });
        let (rejected, event) = guest.event("m.room.power_levels", Some(""), levels, &tips);
        guest.send(&[&event]).await.granted();
        let content = json!({ "membership": "join", "test": 1 });
        let user = guest.user.to_string();
        let (alone, outlier) =
            guest.event_by("m.room.member", Some(&user), content, &tips, &[&rejected]);
        guest.peer.on(&path("event"), {
            let (peer, alone) = (guest.peer.name().to_string(), alone.to_string());
            move |asked| {
                if asked.path.contains(&alone[1..]) {
                    Told::ok(json!({ "origin": peer, "origin_server_ts": 1, "pdus": [outlier] }))
                } else {
                    Told::error(404, "M_NOT_FOUND")
                }
            }
        });
        let words = json!({ "msgtype": "m.text", "body": "not allowed" });
        let (not, event) = guest.event_by("m.room.message", None, words, &tips, &[&alone]);
        let (_, sentinel) = guest.words("sentinel", &[&not]);
        guest.send(&[&event, &sentinel]).await.granted();
        assert_eq!(guest.said().await, ["sentinel"]);
        for id in [&rejected, &alone, &not] {
            guest.alice.event(&guest.room, id.as_str()).await.refused(404, "M_NOT_FOUND");
        }
    });
}

#[test]
fn a_membership_that_a_fork_changes_is_told_and_counted() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let [mod_, dave] = pair.a.users(["mod", "dave"]).await;
        for user in [&mod_, &dave] {
            user.join(&guest.room).await.granted();
        }
        let (alice, room) = (&guest.alice, &guest.room);
        let levels = |level: u8| {
            json!({ "users": { &alice.id: 100, guest.user.as_str(): 100, &mod_.id: level } })
        };
        alice.put_state(room, "m.room.power_levels", "", levels(50)).await.granted();
        // While the servers do not hear of one another, the moderator bans Dave here, and is none any more there.
        let (_, demoted) =
            guest.event("m.room.power_levels", Some(""), levels(0), &guest.tips().await);
        mod_.ban(room, &dave).await.granted();
        let banned = dave.sync(Sync::initial()).await;
        banned.silent(room);
        let alices = alice.sync(Sync::initial()).await;
        let resolved = pair.a.app().rooms.tally().read().resolved;
        guest.send(&[&demoted]).await.granted();

        assert_eq!(alice.membership(room, &dave).await, "join");
        // He sees the ban, and then that he is in.
        let news = dave.sync(Sync::since(&banned.next_batch)).await;
        assert_eq!(news.joined(room).membership(&dave), Some("ban"));
        let news = dave.sync(Sync::since(&news)).await;
        let own = find(news.joined(room).state(), "m.room.member", &dave.id);
        assert_eq!(own["content"]["membership"], "join");
        // The others are told by the state: no event of the timeline says it.
        let news = alice.sync(Sync::since(&alices.next_batch)).await;
        let state = news.joined(room).state();
        assert_eq!(find(state, "m.room.member", &dave.id)["content"]["membership"], "join");
        assert!(news.joined(room).membership(&dave).is_none());
        assert_eq!(pair.a.app().rooms.tally().read().resolved, resolved + 1);
        assert_eq!(alice.members(room, &[("membership", "join")]).await.granted()["chunk"].as_array().unwrap().len(), 4);
        let whole = alice.sync(Sync::initial()).await;
        let summary = &whole.body["rooms"]["join"][room]["summary"];
        assert_eq!(summary["m.joined_member_count"], 4);
        dave.say(room, "back").await;
    });
}

#[test]
fn a_peer_that_answers_nonsense_changes_nothing() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let lines = guest.look().await.n;
        let (missing, _) = guest.words("never sent", &[&guest.join]);
        let (_, event) = guest.words("follows it", &[missing]);
        let (_, unrelated) = guest.words("unrelated", &["$nobody"]);
        let nonsense = [
            Told::ok(json!({ "events": [5, {}, "x", unrelated] })),
            Told::ok(json!({ "events": { "not": "a list" } })),
            Told::Raw(200, "no JSON".into()),
            Told::error(500, "M_UNKNOWN"),
            Told::ok(json!({ "events": vec![unrelated; 100] })),
        ];
        for told in nonsense {
            guest.peer.on(&path("get_missing_events"), move |_| told.clone());
            guest.send(&[&event]).await.granted();
        }
        assert_eq!(guest.look().await.n, lines);
        assert!(guest.peer.count(&path("get_missing_events")) <= 10);
        // The room lives on.
        guest.alice.say(&guest.room, "still here").await;
    });
}
