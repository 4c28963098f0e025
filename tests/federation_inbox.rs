//! What other servers send: transactions, what is missing before the events in them, and the history behind a gap.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use matryx_core::room::StateKey;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use ruma::{OwnedEventId, OwnedUserId, RoomId, RoomVersionId, events::StateEventType};
use serde::Serialize;
use serde_json::{Value, json};

use super::support::{
    self, Answer, Asked, Peer, SharedPair, Sync, TestServer, TestUser, Told, find,
};

static PAIR: SharedPair = SharedPair::new();

static NUMBER: AtomicUsize = AtomicUsize::new(0);

const FEDERATION: &str = "/_matrix/federation/v1";

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
        guest.send(&[&event]).await.ok();
        guest.alice.event(&guest.room, guest.join.as_str()).await.ok();
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
        self.alice.query(&["rooms", &self.room, "messages"], &query).await.ok()
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
        let answer = guest.transaction("again", pdus.clone(), edus.clone()).await.ok();
        let answers = answer["pdus"].as_object().unwrap();
        assert_eq!(answers[first.as_str()], json!({}));
        assert_eq!(answers[second.as_str()], json!({}));
        assert_eq!(answers.len(), 3, "{answers:?}");
        let refused: Vec<_> =
            answers.values().filter(|answer| answer["error"].is_string()).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(guest.said().await, ["one", "two"]);
        // The same transaction is not worked on again.
        assert_eq!(guest.transaction("again", pdus, edus).await.ok(), answer);
        assert_eq!(guest.said().await, ["one", "two"]);
        // The same events in another transaction are known.
        let answer = guest.send(&[&one, &one, &two]).await.ok();
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
        guest.transaction("m3", many(50), many(100)).await.ok();
        let too_long = guest.transaction(&"m".repeat(256), json!([]), json!([])).await;
        too_long.refused(400, "M_INVALID_PARAM").says("255");
        guest.transaction(&"m".repeat(255), json!([]), json!([])).await.ok();
    });
}

#[test]
fn a_denied_server_is_told_so() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let acl = json!({ "allow": ["*"], "deny": ["127.*"] });
        guest.alice.put_state(&guest.room, "m.room.server_acl", "", acl).await.ok();
        let (id, event) = guest.words("denied", &guest.tips().await);
        let answer = guest.send(&[&event]).await.ok();
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
        let answer = guest.send(&[&last]).await.ok();
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
        guest.send(&[&second]).await.ok();
        guest.alice.event(&guest.room, b.as_str()).await.refused(404, "M_NOT_FOUND");
        guest.send(&[&first]).await.ok();
        guest.send(&[&second]).await.ok();
        assert_eq!(guest.said().await, ["a", "b"]);
        // In the wrong order it is only a matter of waiting.
        let (c, third) = guest.words("c", &[b]);
        let (_, fourth) = guest.words("d", &[c]);
        guest.send(&[&fourth, &third]).await.ok();
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
        guest.send(&[&event]).await.ok();
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
        guest.send(&[&event, &sentinel]).await.ok();
        assert_eq!(guest.said().await, ["sentinel"]);
        for id in [&rejected, &alone, &not] {
            guest.alice.event(&guest.room, id.as_str()).await.refused(404, "M_NOT_FOUND");
        }
    });
}

/// The peer's words from `0` on, each following the one before, and what the peer answers to those who ask for them.
async fn long_absence(guest: &Guest<'_>, count: usize) -> (Vec<OwnedEventId>, Vec<Value>) {
    absence(guest, (0..count).map(|number| said(&number.to_string()))).await
}

/// Something that the peer's user says: type, state key and content.
type Said = (&'static str, Option<&'static str>, Value);

fn said(text: &str) -> Said {
    ("m.room.message", None, json!({ "msgtype": "m.text", "body": text }))
}

/// The same with anything that the peer's user may say.
async fn absence(
    guest: &Guest<'_>,
    all: impl Iterator<Item = Said>,
) -> (Vec<OwnedEventId>, Vec<Value>) {
    let (mut ids, mut events) = (vec![guest.join.clone()], Vec::new());
    let mut state: BTreeMap<(String, String), OwnedEventId> = BTreeMap::new();
    for (key, entry) in &guest.look().await.state {
        state.insert((key.kind.to_string(), key.key.to_string()), entry.event_id.clone());
    }
    let mut before = Vec::new();
    for (kind, key, content) in all {
        let (id, event) = guest.event(kind, key, content, &ids[ids.len() - 1..]);
        before.push(state.values().cloned().collect::<Vec<_>>());
        if let Some(key) = key {
            state.insert((kind.to_owned(), key.to_owned()), id.clone());
        }
        ids.push(id);
        events.push(event);
    }
    ids.remove(0);
    let by_id: BTreeMap<String, usize> =
        ids.iter().enumerate().map(|(number, id)| (id.to_string(), number)).collect();
    // Only the last one before what is named: the gap stays open.
    guest.peer.on(&path("get_missing_events"), {
        let (by_id, events) = (by_id.clone(), events.clone());
        move |asked| {
            let latest = asked.body["latest_events"][0].as_str().unwrap();
            let number = by_id[latest];
            Told::ok(json!({ "events": [events[number - 1]] }))
        }
    });
    let which = {
        let ids = ids.clone();
        move |asked: &Asked| ids.iter().position(|id| asked.path.contains(&id.as_str()[1..]))
    };
    guest.peer.on(&path("state_ids"), {
        let which = which.clone();
        move |asked| match which(asked) {
            Some(number) => Told::ok(json!({ "pdu_ids": before[number], "auth_chain_ids": [] })),
            None => Told::error(404, "M_NOT_FOUND"),
        }
    });
    let origin = guest.peer.name().to_string();
    guest.peer.on(&path("event"), {
        let (which, events, origin) = (which.clone(), events.clone(), origin.clone());
        move |asked| {
            which(asked).map_or(Told::error(404, "M_NOT_FOUND"), |number| {
                let pdus = [&events[number]];
                Told::ok(json!({ "origin": origin, "origin_server_ts": 1, "pdus": pdus }))
            })
        }
    });
    guest.peer.on(&path("backfill"), {
        let events = events.clone();
        move |asked| {
            let number = which(asked).unwrap();
            let pdus: Vec<&Value> =
                events[number.saturating_sub(3)..=number].iter().rev().collect();
            Told::ok(json!({ "origin": origin, "origin_server_ts": 1, "pdus": pdus }))
        }
    });
    (ids, events)
}

#[test]
fn a_membership_that_a_fork_changes_is_told_and_counted() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let [mod_, dave] = pair.a.users(["mod", "dave"]).await;
        for user in [&mod_, &dave] {
            user.join(&guest.room).await.ok();
        }
        let (alice, room) = (&guest.alice, &guest.room);
        let levels = |level: u8| {
            json!({ "users": { &alice.id: 100, guest.user.as_str(): 100, &mod_.id: level } })
        };
        alice.put_state(room, "m.room.power_levels", "", levels(50)).await.ok();
        // While the servers do not hear of one another, the moderator bans Dave here, and is none any more there.
        let (_, demoted) =
            guest.event("m.room.power_levels", Some(""), levels(0), &guest.tips().await);
        mod_.ban(room, &dave).await.ok();
        let banned = dave.sync(Sync::initial()).await;
        banned.silent(room);
        let alices = alice.sync(Sync::initial()).await;
        let resolved = pair.a.app().rooms.tally().read().resolved;
        guest.send(&[&demoted]).await.ok();

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
        assert_eq!(alice.members(room, &[("membership", "join")]).await.ok()["chunk"].as_array().unwrap().len(), 4);
        let whole = alice.sync(Sync::initial()).await;
        let summary = &whole.body["rooms"]["join"][room]["summary"];
        assert_eq!(summary["m.joined_member_count"], 4);
        dave.say(room, "back").await;
    });
}

#[test]
fn what_fills_a_gap_is_given_on_as_it_was_visible_there() {
    PAIR.run(async |pair| {
        let wish = json!({ "power_level_content_override": { "users_default": 100 } });
        let guest = Guest::in_room_with(&pair.a, wish).await;
        let visible =
            |to: &str| ("m.room.history_visibility", Some(""), json!({ "history_visibility": to }));
        let all = [
            said("open"),
            visible("joined"),
            said("for members"),
            visible("shared"),
            said("open again"),
            said("later"),
            said("last"),
        ];
        let (ids, events) = absence(&guest, all.into_iter()).await;
        guest.send(&[&events[6]]).await.ok();
        while guest.alice.event(&guest.room, ids[0].as_str()).await.status == 404 {
            guest.page("b").await;
        }
        // Another server comes into the room, asks what was said, and is shown what everybody may read now.
        let newcomer = Peer::start().await;
        let carol = support::Guest { peer: &newcomer, server: &pair.a, id: newcomer.user("carol") };
        carol.join(&guest.room).await;
        let given = async |peer: &Peer| {
            let path = format!("{FEDERATION}/backfill/{}?v={}&limit=7", guest.room, ids[6]);
            let answer = peer.get(&pair.a, &path).await.ok();
            let pdus = answer["pdus"].as_array().unwrap();
            let body = |pdu: &Value| Some(pdu["content"]["body"].as_str()?.to_owned());
            pdus.iter().rev().filter_map(body).collect::<Vec<_>>()
        };
        assert_eq!(given(&newcomer).await, ["open", "open again", "later", "last"]);
        let path = format!("{FEDERATION}/event/{}", ids[2]);
        let hidden = newcomer.get(&pair.a, &path).await.ok();
        assert_eq!(hidden["pdus"][0]["content"], json!({}));
        // Whoever was there reads all of it, also when the room has become less open since.
        let (kind, key, content) = visible("joined");
        guest.alice.put_state(&guest.room, kind, key.unwrap(), content).await.ok();
        let all = ["open", "for members", "open again", "later", "last"];
        assert_eq!(given(&guest.peer).await, all);
        assert_eq!(given(&newcomer).await, ["open", "open again", "later", "last"]);
        carol.leave(&guest.room).await;
        assert_eq!(given(&newcomer).await, ["open", "open again", "later", "last"]);
    });
}

#[test]
fn a_gap_is_shown_as_one_and_is_filled_by_paging_back() {
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let before = guest.alice.sync(Sync::initial()).await;
        let (ids, events) = long_absence(&guest, 10).await;
        guest.send(&[&events[9]]).await.ok();
        // The two newest came; the gap before them cuts the timeline.
        let news = guest.alice.sync(Sync::since(&before.next_batch)).await;
        let room = news.joined(&guest.room);
        assert_eq!(room.timeline_ids(), [ids[8].as_str(), ids[9].as_str()]);
        assert!(room.limited());
        guest.alice.event(&guest.room, ids[7].as_str()).await.refused(404, "M_NOT_FOUND");

        let mut from = room.prev_batch().to_owned();
        let mut seen = Vec::new();
        for _ in 0..20 {
            let query = [("dir", "b"), ("limit", "3"), ("from", &*from)];
            let page = guest.alice.query(&["rooms", &guest.room, "messages"], &query).await.ok();
            let chunk = page["chunk"].as_array().unwrap();
            assert!(chunk.len() <= 3);
            seen.extend(chunk.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()));
            match page["end"].as_str() {
                Some(end) => end.clone_into(&mut from),
                None => break,
            }
        }
        let wanted: Vec<&str> = ids[..8].iter().rev().map(|id| id.as_str()).collect();
        assert_eq!(seen[..8], wanted);
        assert_eq!(seen[8], guest.join.as_str());
        // Down to the room's beginning, and each once.
        let first = guest.alice.event(&guest.room, seen.last().unwrap()).await.ok();
        assert_eq!(first["type"], "m.room.create");
        let mut each = seen.clone();
        each.sort();
        each.dedup();
        assert_eq!(each.len(), seen.len());
        let old = guest.alice.event(&guest.room, ids[2].as_str()).await.ok();
        assert_eq!(old["unsigned"]["membership"], "join");
        // What has been filled is asked for by nobody again, and no sync shows it.
        let asked = guest.peer.count(&path("backfill"));
        let page = guest.page("b").await;
        assert_eq!(page["chunk"].as_array().unwrap().len(), seen.len() + 2);
        assert_eq!(guest.peer.count(&path("backfill")), asked);
        let page = guest.page("f").await;
        let chunk = page["chunk"].clone();
        let forward: Vec<_> =
            chunk.as_array().unwrap().iter().map(|e| e["event_id"].clone()).collect();
        assert_eq!(forward.len(), seen.len() + 2);
        assert_eq!(forward[forward.len() - 3], ids[7].as_str());
        let news = guest.alice.sync(Sync::since(&news.next_batch)).await;
        news.silent(&guest.room);
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
            guest.send(&[&event]).await.ok();
        }
        assert_eq!(guest.look().await.n, lines);
        assert!(guest.peer.count(&path("get_missing_events")) <= 10);
        // The room lives on.
        guest.alice.say(&guest.room, "still here").await;
    });
}

/// Any JSON that can be signed as the body of a request, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991..=9_007_199_254_740_991_i64).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[$@!][a-z]{1,4}(:x)?".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn no_transaction_breaks_the_server() {
    const FIELDS: [&str; 12] = [
        "type",
        "sender",
        "room_id",
        "state_key",
        "content",
        "prev_events",
        "auth_events",
        "depth",
        "origin_server_ts",
        "hashes",
        "signatures",
        "unsigned",
    ];
    PAIR.run(async |pair| {
        let guest = Guest::new(&pair.a).await;
        let mut runner = TestRunner::deterministic();
        let mutation = (prop::sample::select(&FIELDS[..]), any_json(), any::<bool>());
        for round in 0..60 {
            let mut pick = || mutation.new_tree(&mut runner).unwrap().current();
            let tips = guest.tips().await;
            let mut pdus = Vec::new();
            for _ in 0..5 {
                let (_, mut event) = guest.words("fuzz", &tips);
                let (field, value, signed) = pick();
                event[field] = value;
                // Signed again where it can be: what is wrong with it has to be found behind the signatures.
                let form = event
                    .as_object()
                    .is_some_and(|event| event["content"].is_object() && event["type"].is_string());
                if signed && form && !["hashes", "signatures", "unsigned"].contains(&field) {
                    let unsigned = event.as_object_mut().unwrap();
                    unsigned.remove("signatures");
                    unsigned.remove("hashes");
                    if serde_json::from_value::<ruma::CanonicalJsonObject>(event.clone()).is_ok() {
                        event = guest.peer.event(&RoomVersionId::V11, event).1;
                    }
                }
                pdus.push(event);
            }
            pdus.push(pick().1);
            let edus = json!([{ "edu_type": "m.typing", "content": pick().1 }, pick().1]);
            let answer = guest.transaction(&format!("f{round}"), json!(pdus), edus).await;
            assert!(answer.status < 500, "{}: {}", answer.status, answer.text);
        }
        for round in 0..40 {
            let body = any_json().new_tree(&mut runner).unwrap().current();
            let path = format!("{FEDERATION}/send/g{round}");
            let answer = guest.peer.put(guest.server, &path, &body).await;
            assert!(answer.status < 500, "{}: {}", answer.status, answer.text);
        }
        // No lock is held: both doors are open.
        guest.alice.say(&guest.room, "still here").await;
        let (last, event) = guest.words("me too", &guest.tips().await);
        guest.send(&[&event]).await.ok();
        guest.alice.event(&guest.room, last.as_str()).await.ok();
    });
}
