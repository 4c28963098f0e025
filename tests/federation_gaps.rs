//! The history behind a gap: it is shown as missing, and had when somebody pages back to it.

use std::collections::BTreeMap;

use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::{
    federation_inbox::{FEDERATION, Guest, path},
    support::{self, Asked, Peer, SharedPair, Sync, Told},
};

static PAIR: SharedPair = SharedPair::standing_still();

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
    let words = Words::of(guest, all).await;
    words.serve(&guest.peer);
    (words.ids, words.events)
}

/// What the peer's user says, one after another.
#[derive(Clone)]
struct Words {
    ids: Vec<OwnedEventId>,
    events: Vec<Value>,
    /// The state before each.
    before: Vec<Vec<OwnedEventId>>,
}

impl Words {
    async fn of(guest: &Guest<'_>, all: impl Iterator<Item = Said>) -> Self {
        let mut words = Self { ids: Vec::new(), events: Vec::new(), before: Vec::new() };
        let mut state: BTreeMap<(String, String), OwnedEventId> = BTreeMap::new();
        for (key, entry) in &guest.look().await.state {
            state.insert((key.kind.to_string(), key.key.to_string()), entry.event_id.clone());
        }
        let mut last = guest.join.clone();
        for (kind, key, content) in all {
            let (id, event) = guest.event(kind, key, content, &[last]);
            words.before.push(state.values().cloned().collect());
            if let Some(key) = key {
                state.insert((kind.to_owned(), key.to_owned()), id.clone());
            }
            last = id.clone();
            words.ids.push(id);
            words.events.push(event);
        }
        words
    }

    /// Which of them a request's path names.
    fn named(&self, asked: &Asked) -> Option<usize> {
        self.ids.iter().position(|id| asked.path.contains(&id.as_str()[1..]))
    }

    /// The peer tells of them whoever asks.
    fn serve(&self, peer: &Peer) {
        // Only the last one before what is named: the gap stays open.
        let words = self.clone();
        peer.on(&path("get_missing_events"), move |asked| {
            let latest = asked.body["latest_events"][0].as_str().unwrap();
            let number = words.ids.iter().position(|id| id == latest).unwrap();
            Told::ok(json!({ "events": [words.events[number - 1]] }))
        });
        let words = self.clone();
        peer.on(&path("state_ids"), move |asked| match words.named(asked) {
            Some(number) => {
                Told::ok(json!({ "pdu_ids": words.before[number], "auth_chain_ids": [] }))
            }
            None => Told::error(404, "M_NOT_FOUND"),
        });
        let pdus = |peer: &Peer| {
            let origin = peer.name().to_string();
            move |pdus: &[&Value]| {
                Told::ok(json!({ "origin": origin, "origin_server_ts": 1, "pdus": pdus }))
            }
        };
        let (words, told) = (self.clone(), pdus(peer));
        peer.on(&path("event"), move |asked| match words.named(asked) {
            Some(number) => told(&[&words.events[number]]),
            None => Told::error(404, "M_NOT_FOUND"),
        });
        let (words, told) = (self.clone(), pdus(peer));
        peer.on(&path("backfill"), move |asked| {
            let number = words.named(asked).unwrap();
            let few = &words.events[number.saturating_sub(3)..=number];
            told(&few.iter().rev().collect::<Vec<_>>())
        });
    }
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
        guest.send(&[&events[6]]).await.granted();
        while guest.alice.event(&guest.room, ids[0].as_str()).await.status == 404 {
            guest.page("b").await;
        }
        // Another server comes into the room, asks what was said, and is shown what everybody may read now.
        let newcomer = Peer::start().await;
        let carol = support::Guest { peer: &newcomer, server: &pair.a, id: newcomer.user("carol") };
        carol.join(&guest.room).await;
        let given = async |peer: &Peer| {
            let path = format!("{FEDERATION}/backfill/{}?v={}&limit=7", guest.room, ids[6]);
            let answer = peer.get(&pair.a, &path).await.granted();
            let pdus = answer["pdus"].as_array().unwrap();
            let body = |pdu: &Value| Some(pdu["content"]["body"].as_str()?.to_owned());
            pdus.iter().rev().filter_map(body).collect::<Vec<_>>()
        };
        assert_eq!(given(&newcomer).await, ["open", "open again", "later", "last"]);
        let path = format!("{FEDERATION}/event/{}", ids[2]);
        let hidden = newcomer.get(&pair.a, &path).await.granted();
        assert_eq!(hidden["pdus"][0]["content"], json!({}));
        // Whoever was there reads all of it, also when the room has become less open since.
        let (kind, key, content) = visible("joined");
        guest.alice.put_state(&guest.room, kind, key.unwrap(), content).await.granted();
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
        guest.send(&[&events[9]]).await.granted();
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
            let page =
                guest.alice.query(&["rooms", &guest.room, "messages"], &query).await.granted();
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
        let first = guest.alice.event(&guest.room, seen.last().unwrap()).await.granted();
        assert_eq!(first["type"], "m.room.create");
        let mut each = seen.clone();
        each.sort();
        each.dedup();
        assert_eq!(each.len(), seen.len());
        let old = guest.alice.event(&guest.room, ids[2].as_str()).await.granted();
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
