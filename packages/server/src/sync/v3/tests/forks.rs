//! Clients in rooms that fork: what they are shown may not stand, and what stands changes by itself.

use std::sync::Arc;

use matryx_core::event::Pdu;
use rand::{Rng, SeedableRng, rngs::StdRng};
use ruma::{OwnedRoomId, RoomVersionId};
use serde_json::json;

use super::{PEOPLE, act, client::Client, clients, seeds};
use crate::{
    room::{
        Changes, Door, Intent, Proposal, Said,
        tests::world::{World, run},
    },
    sync::v3::StateForm,
};

/// The same where each room goes on in two places at once, which hear of each other now and then.
async fn clients_believe_what_is_where_rooms_fork(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut here = World::new(RoomVersionId::V12).await;
    let there = World::new(RoomVersionId::V12).await;
    let rooms = [here.room(PEOPLE[0], "public").await, here.room(PEOPLE[0], "knock").await];
    let mut told = Vec::new();
    for room in &rooms {
        let levels = json!({"users": {PEOPLE[1]: 50, PEOPLE[2]: 50}});
        for user in &PEOPLE[1..] {
            here.member(room, PEOPLE[0], user, "invite").await.unwrap();
            here.member(room, user, user, "join").await.unwrap();
        }
        here.say(room, PEOPLE[0], "m.room.power_levels", Some(""), levels).await.unwrap();
        copy(&here, &there, room).await;
        let n = here.rooms.room(room).await.unwrap().unwrap().look().n;
        told.push([n, n]);
    }
    let mut clients = clients();
    let mut owed = 0;
    for step in 0..60 {
        act(&here, &rooms, &mut rng).await;
        act(&there, &rooms, &mut rng).await;
        for (room, [ours, theirs]) in rooms.iter().zip(&mut told) {
            if rng.random_bool(0.3) {
                tell(&here, &there, room, ours).await;
                tell(&there, &here, room, theirs).await;
            }
        }
        if rng.random_bool(0.02) {
            here = here.restart().await;
        }
        for client in &mut clients {
            client.forks = true;
            if rng.random_bool(0.7) {
                continue;
            }
            client.hear(&here.rooms).await;
            owed += usize::from(client.is_owed());
            // What is owed may also be told later, with other news.
            if !client.is_owed() || rng.random_bool(0.5) {
                client.settle(&here.rooms).await;
                client.check(&here.rooms, &format!("seed {seed} step {step}")).await;
            }
        }
    }
    assert!(owed > 0, "seed {seed} tries nothing");
}

/// Tells a store what another one has new of a room.
async fn tell(from: &World, to: &World, room: &OwnedRoomId, told: &mut i64) {
    let held = from.rooms.room(room).await.unwrap().unwrap();
    let newest = held.look().n;
    for line in from.rooms.lines(&held, *told + 1, newest).await.unwrap() {
        to.rooms.receive(Pdu::clone(&line.event.pdu), Door::Transaction).await.unwrap();
    }
    *told = newest;
}

#[test]
fn what_clients_believe_is_what_is_where_rooms_fork() {
    for seed in 0..seeds() {
        run(clients_believe_what_is_where_rooms_fork(seed));
    }
}

#[test]
fn what_is_owed_is_told_also_when_it_has_passed_out_of_memory() {
    run(async {
        let here = World::new(RoomVersionId::V12).await;
        let there = World::new(RoomVersionId::V12).await;
        let room = here.room("@a:x", "public").await;
        copy(&here, &there, &room).await;
        let mut told = here.rooms.room(&room).await.unwrap().unwrap().look().n;
        let mut client = Client::new("@a:x", StateForm::Before, json!({}));
        client.sync(&here.rooms).await;
        // All are of the same time, so that some of these lose.
        for n in 0..8 {
            for (world, name) in [(&here, "here"), (&there, "there")] {
                let topic = json!({"topic": format!("{name} {n}")});
                world.say(&room, "@a:x", "m.room.topic", Some(""), topic).await.unwrap();
            }
            tell(&there, &here, &room, &mut told).await;
            client.hear(&here.rooms).await;
            if client.is_owed() {
                break;
            }
        }
        assert!(client.is_owed());
        for n in 0..600 {
            let body = json!({"body": n.to_string()});
            here.say(&room, "@a:x", "m.room.message", None, body).await.unwrap();
        }
        let answer = client.ask(&here.rooms).await;
        assert_eq!(answer["rooms"]["join"][room.as_str()]["timeline"]["limited"], true);
        let here = here.restart().await;
        client.sync(&here.rooms).await;
        client.check(&here.rooms, "after the restart").await;
    });
}

#[test]
fn what_a_fork_changes_is_told() {
    run(async {
        let here = World::new(RoomVersionId::V12).await;
        let there = World::new(RoomVersionId::V12).await;
        let room = here.room("@a:x", "public").await;
        here.member(&room, "@b:x", "@b:x", "join").await.unwrap();
        let levels = json!({"users": {"@b:x": 50}});
        here.say(&room, "@a:x", "m.room.power_levels", Some(""), levels).await.unwrap();
        let topic = |text: &str| json!({"topic": text});
        here.say(&room, "@a:x", "m.room.topic", Some(""), topic("old")).await.unwrap();
        copy(&here, &there, &room).await;
        let mut clients: Vec<Client> = [StateForm::After, StateForm::Before]
            .into_iter()
            .map(|form| Client::new("@a:x", form, json!({})))
            .collect();
        let mut slow = Client::new("@a:x", StateForm::Before, json!({}));
        slow.sync(&here.rooms).await;
        // Here @b sets the topic; there they are banned, which takes it back: the old one stands again.
        here.say(&room, "@b:x", "m.room.topic", Some(""), topic("new")).await.unwrap();
        for client in &mut clients {
            client.sync(&here.rooms).await;
            client.check(&here.rooms, "before the ban is known").await;
        }
        let ban = there.member(&room, "@a:x", "@b:x", "ban").await.unwrap();
        let ban = there.rooms.events().get(&ban.events[0]).await.unwrap().unwrap();
        here.rooms.receive(Pdu::clone(&ban.pdu), Door::Transaction).await.unwrap();
        let held = here.rooms.room(&room).await.unwrap().unwrap();
        let line = held.lines(held.look().n, held.look().n).unwrap();
        assert_eq!(line[0].changes.len(), 2, "the member and the topic");
        clients.push(slow);
        for client in &mut clients {
            client.sync(&here.rooms).await;
            client.check(&here.rooms, "when it is").await;
        }
    });
}

/// Gives another store the same room.
async fn copy(from: &World, to: &World, room: &OwnedRoomId) {
    let held = from.rooms.room(room).await.unwrap().unwrap();
    let lines = from.rooms.lines(&held, 1, held.look().n).await.unwrap();
    let say: Vec<Arc<Pdu>> = lines.iter().map(|line| Arc::clone(&line.event.pdu)).collect();
    let intent = Intent::new(Vec::new(), move |_| {
        let say = say.iter().map(|pdu| Said::Sealed(Pdu::clone(pdu))).collect();
        Ok(Proposal::Change(Changes { say, ..Changes::default() }))
    });
    to.rooms.create(room.clone(), RoomVersionId::V12, intent).await.unwrap();
}
