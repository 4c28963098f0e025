//! What other servers tell of a room's state, and what of it is believed how far; and rooms that can't be judged.

use std::sync::Arc;

use matryx_core::{event::Pdu, room::Judgement};
use matryx_repository::{Append, Before, StoredEvent};
use matryx_server::clock::Clock;
use ruma::{OwnedEventId, RoomId, RoomVersionId};
use serde_json::{Value, json};

use super::support::{
    Hosted, Peer, SEND_JOIN, Sync, TestServer, TestUser, Told, eventually, fresh, runtime,
};

const FEDERATION: &str = "/_matrix/federation/v1";

/// A room at a peer, which a user of ours has joined.
struct Scene {
    server: TestServer,
    peer: Peer,
    room: Hosted,
    alice: TestUser,
}

impl Scene {
    async fn new() -> Self {
        let server = TestServer::start_with(Clock::machine(), Peer::befriend).await;
        let peer = Peer::start().await;
        let room = Hosted::public(&peer);
        room.open(&peer);
        let alice = server.user("alice").await;
        alice.join_via(&room.id, &[peer.name().as_str()]).await.granted();
        Self { server, peer, room, alice }
    }

    async fn tips(&self) -> Vec<OwnedEventId> {
        let room = <&RoomId>::try_from(&*self.room.id).unwrap();
        self.server.app().rooms.room(room).await.unwrap().unwrap().look().prev_events().0
    }

    /// What the room's creator says after these.
    fn words(&self, text: &str, prev: &[OwnedEventId]) -> (OwnedEventId, Value) {
        self.words_in(&self.room, text, prev)
    }

    fn words_in(&self, room: &Hosted, text: &str, prev: &[OwnedEventId]) -> (OwnedEventId, Value) {
        let mut auth = room.auth_events(&room.creator, &room.creator);
        auth.retain(|id| Some(id) != room.at("m.room.join_rules", ""));
        let event = json!({
            "type": "m.room.message", "room_id": room.id, "sender": room.creator,
            "content": { "msgtype": "m.text", "body": text }, "depth": 50,
            "prev_events": prev, "auth_events": auth,
        });
        self.peer.event(&RoomVersionId::V11, event)
    }

    async fn send(&self, events: &[&Value]) -> Value {
        let body = json!({ "origin": self.peer.name(), "origin_server_ts": 1, "pdus": events });
        let path = format!("{FEDERATION}/send/trust{}", fresh());
        self.peer.put(&self.server, &path, &body).await.granted()
    }

    /// Waits until somebody's words stand in the room's timeline.
    async fn hears(&self, text: &str) {
        eventually(text, async || {
            let synced = self.alice.sync(Sync::initial()).await;
            let said = synced.joined(&self.room.id).said();
            if said.contains(&text) { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    }

    /// The peer tells this state, whatever the event, and no event by itself.
    fn tells(&self, state: Vec<OwnedEventId>) {
        self.peer.on(&format!("{FEDERATION}/state_ids/"), move |_| {
            Told::ok(json!({ "pdu_ids": state, "auth_chain_ids": [] }))
        });
    }
}

#[test]
fn a_state_with_much_left_out_takes_nothing_away_from_the_room() {
    runtime().block_on(async {
        let mut scene = Scene::new().await;
        let state = &scene.room.state;
        let [create, _, levels, rules] = &state[..] else { panic!("four events") };
        let origin = scene.peer.name().to_string();
        let pdus = json!([rules.1, levels.1]);
        scene.peer.on(&format!("{FEDERATION}/backfill/"), move |_| {
            Told::ok(json!({ "origin": origin, "origin_server_ts": 1, "pdus": pdus }))
        });
        // The creator's join is not in it, so that by it nobody may have set any levels.
        scene.tells(vec![create.0.clone()]);
        scene.alice.messages(&scene.room.id).await.granted();
        scene.peer.hears(&format!("{FEDERATION}/state_ids/")).await;

        let (_, event) = scene.words("one", &scene.tips().await);
        scene.send(&[&event]).await;
        scene.hears("one").await;
        scene.alice.say(&scene.room.id, "two").await;
        scene.server = scene.server.restart().await;
        scene.alice = scene.alice.at(scene.server.http());
        let (_, event) = scene.words("three", &scene.tips().await);
        scene.send(&[&event]).await;
        scene.hears("three").await;
        scene.alice.say(&scene.room.id, "four").await;
    });
}

#[test]
fn what_cannot_be_had_of_a_state_stands_as_it_was_known() {
    runtime().block_on(async {
        let scene = Scene::new().await;
        let (unknown, _) = scene.words("never given", &scene.tips().await);
        let (first, one) = scene.words("one", &[unknown]);
        let (_, two) = scene.words("two", &[first]);
        scene.peer.on(&format!("{FEDERATION}/get_missing_events/"), move |_| {
            Told::ok(json!({ "events": [one] }))
        });
        // The creator has changed their name meanwhile, and that event is not to be had.
        let member = scene.room.at("m.room.member", &scene.room.creator).unwrap().clone();
        let ids = scene.room.state.iter().map(|(id, _)| id.clone());
        let renamed: OwnedEventId = "$renamed".try_into().unwrap();
        scene.tells(ids.map(|id| if id == member { renamed.clone() } else { id }).collect());
        scene.send(&[&two]).await;
        scene.hears("one").await;
        scene.hears("two").await;
    });
}

#[test]
fn what_a_state_does_not_allow_is_not_part_of_it() {
    runtime().block_on(async {
        let mut scene = Scene::new().await;
        let (creator, mallory) =
            (scene.room.creator.clone(), scene.peer.user("mallory").to_string());
        let old = scene.room.clone();
        let mut at_first = old.clone();
        let mut prev = scene.tips().await;
        // Mallory comes, has the power for a while, and loses it.
        let mut said = Vec::new();
        let users = |level: u32| json!({ "users": { &creator: 100, &mallory: level } });
        for (sender, kind, key, content) in [
            (&mallory, "m.room.member", &*mallory, json!({ "membership": "join" })),
            (&creator, "m.room.power_levels", "", users(90)),
            (&creator, "m.room.power_levels", "", users(0)),
        ] {
            let room = &mut scene.room;
            if content["users"][&mallory] == 0 {
                at_first = room.clone();
            }
            room.tip = prev[0].clone();
            let id = room.says(&scene.peer, sender, kind, key, &content);
            said.push(room.state.last().unwrap().1.clone());
            prev = vec![id];
        }
        scene.send(&said.iter().collect::<Vec<_>>()).await;
        // By what they name themselves these levels could be; by the state before them they can't.
        at_first.tip = prev[0].clone();
        let grab = json!({ "users": { &creator: 100, &mallory: 100 } });
        let grabbed = at_first.says(&scene.peer, &mallory, "m.room.power_levels", "", &grab);
        let forbidden = at_first.state.last().unwrap().1.clone();
        let (first, one) = scene.words("one", std::slice::from_ref(&grabbed));
        let (_, two) = scene.words("two", &[first]);
        scene.peer.on(&format!("{FEDERATION}/get_missing_events/"), move |_| {
            Told::ok(json!({ "events": [one] }))
        });
        let origin = scene.peer.name().to_string();
        let asked = grabbed.to_string();
        scene.peer.on(&format!("{FEDERATION}/event/"), move |event| {
            if event.path.contains(&asked[1..]) {
                Told::ok(json!({ "origin": origin, "origin_server_ts": 1, "pdus": [forbidden] }))
            } else {
                Told::error(404, "M_NOT_FOUND")
            }
        });
        let mut now: Vec<OwnedEventId> = Vec::new();
        for (id, event) in &scene.room.state {
            let key = |name: &str| event[name].as_str().unwrap_or_default();
            if scene.room.at(key("type"), key("state_key")) == Some(id) {
                now.push(id.clone());
            }
        }
        scene.tells(now);
        scene.send(&[&two]).await;
        scene.hears("two").await;
        let levels =
            scene.alice.state_event(&scene.room.id, "m.room.power_levels", "").await.granted();
        assert_eq!(levels["users"][&mallory], 0, "{levels}");
    });
}

#[test]
fn a_room_that_cannot_be_judged_holds_up_no_other() {
    runtime().block_on(async {
        let scene = Scene::new().await;
        let other = Hosted::public(&scene.peer);
        other.open(&scene.peer);
        scene.alice.join_via(&other.id, &[scene.peer.name().as_str()]).await.granted();
        // Of one event it is not kept where it stands, as after a loss on the disk.
        let (lost, event) = scene.words_in(&other, "lost", std::slice::from_ref(&other.tip));
        let room = <&RoomId>::try_from(&*other.id).unwrap().to_owned();
        let pdu = Pdu::restore(lost.clone(), room.clone(), &event.to_string(), false).unwrap();
        let event = StoredEvent::received(&Arc::new(pdu), Judgement::Accepted, Before::Fork);
        let append = Append { events: vec![Arc::new(event)], ..Append::to(room) };
        let database = scene.server.app().rooms.database();
        database.commit(&[(1, &append)]).await.unwrap();
        let (_, follows) = scene.words_in(&other, "follows it", &[lost]);
        let (_, fit) = scene.words("one", &scene.tips().await);
        scene.send(&[&follows, &fit]).await;
        scene.hears("one").await;
        scene.alice.say(&other.id, "here too").await;
    });
}

/// What lies before a join of ours is no news, whoever brings it: as an extremity it would bring back the state of then.
#[test]
fn what_we_have_come_after_changes_nothing() {
    runtime().block_on(async {
        let scene = Scene::new().await;
        let mut room = scene.room.clone();
        let before: Vec<OwnedEventId> =
            room.state.iter().map(|(id, _)| id.clone()).take(3).collect();
        let old = room.state.last().unwrap().1.clone();
        assert_eq!(old["type"], "m.room.join_rules");
        let join = scene.peer.hears(SEND_JOIN).await.body;
        let (lost, words) = scene.words("lost", &scene.tips().await);
        // More is given than was asked for, as by a server that goes back to the beginning by another branch.
        let given = [old.clone(), join, words];
        scene.peer.on(&format!("{FEDERATION}/get_missing_events/"), move |_| {
            Told::ok(json!({ "events": given }))
        });
        scene.tells(before);
        (room.tip, room.depth) = (lost, 60);
        let creator = room.creator.clone();
        let rule = json!({ "join_rule": "invite" });
        room.says(&scene.peer, &creator, "m.room.join_rules", "", &rule);
        scene.send(&[&room.state.last().unwrap().1]).await;
        scene.hears("lost").await;
        let tips = scene.tips().await;
        assert_eq!(tips, [room.tip.clone()]);

        scene.send(&[&old]).await;
        let (_, words) = scene.words("after", &tips);
        scene.send(&[&words]).await;
        scene.hears("after").await;
        assert_eq!(scene.alice.joined_rooms().await, [room.id]);
    });
}
