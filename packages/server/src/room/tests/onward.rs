//! Which servers an event goes to, and what is written of it.

use matryx_core::{
    event::{Place, seal},
    room::StateKey,
};
use matryx_repository::Out;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomVersionId, UserId, server_name, uint};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::world::{World, draft, run};
use crate::room::{Door, Look, Received};

const ALICE: &str = "@alice:x";

impl World {
    /// A member event that another server's user has made, as the room looks now.
    async fn hear(&self, room: &OwnedRoomId, sender: &str, content: Value, door: Door) {
        let look = self.rooms.room(room).await.unwrap().unwrap().look();
        let draft = draft(sender, "m.room.member", Some(sender), content.clone());
        let content = serde_json::value::to_raw_value(&content).unwrap();
        let keys = matryx_core::room::auth_keys(
            &draft.kind,
            &draft.sender,
            Some(sender),
            &content,
            &look.rules,
        );
        let keys = keys.unwrap();
        let auth = keys.iter().filter_map(|key| Some(look.entry(key)?.event_id.clone()));
        let (prev_events, depth) = look.prev_events();
        let place = Place {
            room_id: Some(room.clone()),
            prev_events,
            auth_events: auth.collect(),
            depth,
            origin_server_ts: MilliSecondsSinceUnixEpoch(uint!(5)),
        };
        let server = user(sender).server_name();
        let pdu = seal(draft, place, server, &self.key, &look.rules).unwrap();
        let heard = self.rooms.receive(pdu, door).await.unwrap();
        assert_eq!(heard, Received::Judged(matryx_core::room::Judgement::Accepted));
    }

    /// Messages of a user of another server, each beside the others.
    async fn hear_forks(&self, room: &OwnedRoomId, sender: &str, look: &Look, count: usize) {
        let keys = [StateKey::create(), StateKey::power_levels(), StateKey::member(user(sender))];
        let (prev_events, depth) = look.prev_events();
        for number in 0..count {
            let place = Place {
                room_id: Some(room.clone()),
                prev_events: prev_events.clone(),
                auth_events: keys
                    .iter()
                    .filter_map(|key| Some(look.entry(key)?.event_id.clone()))
                    .collect(),
                depth,
                origin_server_ts: MilliSecondsSinceUnixEpoch(uint!(5)),
            };
            let draft = draft(sender, "m.room.message", None, json!({"number": number}));
            let server = user(sender).server_name();
            let pdu = seal(draft, place, server, &self.key, &look.rules).unwrap();
            let heard = self.rooms.receive(pdu, Door::Transaction).await.unwrap();
            assert_eq!(heard, Received::Judged(matryx_core::room::Judgement::Accepted));
        }
    }

    pub(crate) async fn join(&self, room: &OwnedRoomId, user: &str) {
        self.hear(room, user, json!({"membership": "join"}), Door::Handshake).await;
    }

    /// What has been written since the last time it was asked, with the servers that it goes to.
    async fn told(&self) -> Vec<(Out, Vec<String>)> {
        let outgoing = self.rooms.database().outgoing().await.unwrap();
        let places: Vec<_> = outgoing.iter().map(|out| out.place).collect();
        self.rooms.database().acknowledge(&[].into(), &places).await.unwrap();
        let names = |out: &Out| out.receivers().map(ToString::to_string).collect();
        outgoing
            .into_iter()
            .map(|out| (names(&out), out))
            .map(|(names, out)| (out, names))
            .collect()
    }

    async fn told_to(&self) -> Vec<Vec<String>> {
        self.told().await.into_iter().map(|(_, names)| names).collect()
    }
}

fn user(id: &str) -> &UserId {
    id.try_into().unwrap()
}

#[test]
fn a_room_of_local_users_tells_nobody_and_writes_nothing_more() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room(ALICE, "public").await;
        world.member(&room, "@bob:x", "@bob:x", "join").await.unwrap();
        let before = world.rooms.tally().read();
        let body = json!({"body": "hello"});
        world.say(&room, ALICE, "m.room.message", None, body).await.unwrap();
        let after = world.rooms.tally().read();
        // The event, its line and the room's head.
        assert_eq!(after.rows - before.rows, 3);
        world.member(&room, "@bob:x", "@bob:x", "leave").await.unwrap();
        assert!(world.told().await.is_empty());
        let look = world.rooms.room(&room).await.unwrap().unwrap().look();
        assert_eq!(
            look.servers.iter().map(|(name, count)| (name.as_str(), *count)).collect::<Vec<_>>(),
            [("x", 1)]
        );
    });
}

#[test]
fn an_event_goes_to_the_servers_before_and_after_it() {
    run(async {
        let world = World::new(RoomVersionId::V11).await;
        let room = world.room(ALICE, "public").await;
        world.join(&room, "@r:far").await;
        assert!(world.told().await.is_empty(), "the one who handed it to us has it");
        world.join(&room, "@s:near").await;
        assert_eq!(world.told_to().await, [["far"]]);
        let body = json!({"body": "hello"});
        let before = world.rooms.tally().read();
        world.say(&room, ALICE, "m.room.message", None, body.clone()).await.unwrap();
        let first = world.rooms.tally().read();
        world.say(&room, ALICE, "m.room.message", None, body).await.unwrap();
        let second = world.rooms.tally().read();
        assert_eq!(first.rows - before.rows, 4, "one row for all, and their set is known");
        assert_eq!(second.rows - first.rows, 4);
        let told = world.told().await;
        assert!(told.iter().all(|(out, names)| *names == ["far", "near"] && out.sole));
        // The last of a server goes: it hears of that, and of nothing after it.
        world.member(&room, ALICE, "@r:far", "leave").await.unwrap();
        world.member(&room, ALICE, ALICE, "leave").await.unwrap();
        assert_eq!(world.told_to().await, [vec!["near", "far"], vec!["near"]]);
        let look = world.rooms.room(&room).await.unwrap().unwrap().look();
        assert_eq!(look.servers.keys().collect::<Vec<_>>(), ["near"]);
        // What a server brings to everybody by itself goes no further.
        world.hear(&room, "@s:near", json!({"membership": "leave"}), Door::Transaction).await;
        assert!(world.told().await.is_empty());
    });
}

#[test]
fn who_is_not_in_the_room_learns_what_became_of_an_invite_a_knock_or_a_ban() {
    run(async {
        let world = World::new(RoomVersionId::V11).await;
        let room = world.room(ALICE, "knock").await;
        world.member(&room, ALICE, "@r:far", "invite").await.unwrap();
        assert!(world.told().await.is_empty(), "an invite is brought by a handshake");
        world.member(&room, ALICE, "@r:far", "leave").await.unwrap();
        world.hear(&room, "@r:far", json!({"membership": "knock"}), Door::Handshake).await;
        world.member(&room, ALICE, "@r:far", "ban").await.unwrap();
        world.member(&room, ALICE, "@r:far", "leave").await.unwrap();
        assert_eq!(world.told_to().await, [["far"], ["far"], ["far"]]);
        // Who was never there is told nothing.
        world.member(&room, ALICE, "@q:else", "ban").await.unwrap();
        assert!(world.told().await.is_empty());
    });
}

#[test]
fn who_is_in_a_room_is_counted_again_after_a_restart() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room(ALICE, "public").await;
        for user in ["@r:far", "@s:far", "@t:near"] {
            world.join(&room, user).await;
        }
        let before = world.rooms.room(&room).await.unwrap().unwrap().look().servers.clone();
        assert_eq!(before.get(server_name!("far")), Some(&2));
        let unsent = world.rooms.database().outgoing().await.unwrap().len();
        let world = world.restart().await;
        let look = world.rooms.room(&room).await.unwrap().unwrap().look();
        assert_eq!(look.servers, before);
        assert_eq!(world.told().await.len(), unsent);
        assert!(world.told().await.is_empty());
        let body = json!({"body": "hello"});
        world.say(&room, ALICE, "m.room.message", None, body).await.unwrap();
        assert_eq!(world.told_to().await, [["far", "near"]]);
    });
}

#[test]
fn tips_that_pile_up_are_tied_together_and_nobody_sees_it() {
    run(async {
        let world = World::new(RoomVersionId::V11).await;
        let room = world.room(ALICE, "public").await;
        world.join(&room, "@r:far").await;
        world.join(&room, "@s:far").await;
        let shutdown = CancellationToken::new();
        let tying = tokio::spawn(world.rooms.clone().tie_tips(shutdown.clone()));
        let held = world.rooms.room(&room).await.unwrap().unwrap();
        let fork = held.look();
        world.hear_forks(&room, "@r:far", &fork, 10).await;
        assert_eq!(held.look().tips.len(), 10, "ten are not many");
        world.told().await;
        let before = held.look().n;
        let tied = held.look().pos + 2;
        world.hear_forks(&room, "@s:far", &fork, 1).await;
        world.rooms.stream().reached(tied).await;
        let look = held.look();
        assert_eq!((look.tips.len(), look.n), (1, before + 2));
        let knot = world.rooms.events().get(&look.tips[0].tip.event_id).await.unwrap().unwrap();
        assert_eq!(knot.pdu.prev_events().len(), 11);
        assert_eq!(knot.pdu.sender(), ALICE);
        assert!(world.told().await.is_empty(), "it goes to nobody");
        let sight = world.rooms.sight(&held, user(ALICE)).await.unwrap();
        assert!(!sight.sees(look.n, &knot));
        shutdown.cancel();
        tying.await.unwrap();
    });
}

#[test]
fn however_many_tips_somebody_makes_they_are_few_again_at_once() {
    run(async {
        let world = World::new(RoomVersionId::V11).await;
        let room = world.room(ALICE, "public").await;
        world.join(&room, "@r:far").await;
        let shutdown = CancellationToken::new();
        let tying = tokio::spawn(world.rooms.clone().tie_tips(shutdown.clone()));
        let held = world.rooms.room(&room).await.unwrap().unwrap();
        let fork = held.look();
        // No time passes here, so that the pause between two knots is never over.
        world.hear_forks(&room, "@r:far", &fork, 200).await;
        let mut pos = held.look().pos;
        while held.look().tips.len() > 50 {
            pos += 1;
            world.rooms.stream().reached(pos).await;
        }
        shutdown.cancel();
        tying.await.unwrap();
    });
}
