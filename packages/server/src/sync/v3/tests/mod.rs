//! /sync without HTTP: clients that keep what they are told, held against what is.

mod client;
mod forks;

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomVersionId, uint};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::client::Client;
use super::{StateForm, sync};
use crate::{
    clock::Clock,
    room::tests::world::{World, run},
    sync::token::StreamToken,
};

/// A clock that stands still.
fn clock() -> Clock {
    Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(2_000)))
}

const PEOPLE: [&str; 4] = ["@a:x", "@b:x", "@c:x", "@d:x"];

/// Somebody does something somewhere, if they may.
async fn act(world: &World, rooms: &[OwnedRoomId], rng: &mut StdRng) {
    let room = rooms.choose(rng).unwrap();
    let (actor, target) = (*PEOPLE.choose(rng).unwrap(), *PEOPLE.choose(rng).unwrap());
    let done = match rng.random_range(0..13) {
        0..=2 => world.member(room, target, target, "join").await.map(drop),
        3 => world.member(room, target, target, "leave").await.map(drop),
        4 => world.member(room, actor, target, "leave").await.map(drop),
        5 => world.member(room, actor, target, "ban").await.map(drop),
        6 => world.member(room, actor, target, "invite").await.map(drop),
        7 => world.member(room, target, target, "knock").await.map(drop),
        8 => {
            let content = json!({"topic": rng.random::<u32>().to_string()});
            world.say(room, PEOPLE[0], "m.room.topic", Some(""), content).await.map(drop)
        }
        9 => {
            let all = ["world_readable", "shared", "invited", "joined"];
            let content = json!({"history_visibility": all.choose(rng).unwrap()});
            let kind = "m.room.history_visibility";
            world.say(room, PEOPLE[0], kind, Some(""), content).await.map(drop)
        }
        10 => {
            let content = json!({"membership": "join", "displayname": rng.random::<u8>()});
            world.say(room, target, "m.room.member", Some(target), content).await.map(drop)
        }
        _ => {
            for _ in 0..*[1, 3, 15].choose(rng).unwrap() {
                let content = json!({"body": "hello"});
                drop(world.say(room, actor, "m.room.message", None, content).await);
            }
            Ok(())
        }
    };
    // The law says no to much of this.
    drop(done);
}

/// Everybody, with clients of all kinds.
fn clients() -> Vec<Client> {
    let few = json!({"room": {"timeline": {"limit": 2}}});
    let without_b = json!({"room": {"timeline": {"not_senders": ["@b:x"]}}});
    let kinds = [
        (StateForm::Before, json!({})),
        (StateForm::After, json!({})),
        (StateForm::Before, few.clone()),
        (StateForm::AfterUnstable, few),
        (StateForm::Before, without_b),
    ];
    let all = PEOPLE.into_iter().flat_map(|user| kinds.iter().map(move |kind| (user, kind)));
    all.map(|(user, (form, filter))| Client::new(user, *form, filter.clone())).collect()
}

async fn clients_believe_what_is(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(RoomVersionId::V12).await;
    let rooms = [
        world.room(PEOPLE[0], "public").await,
        world.room(PEOPLE[0], "knock").await,
        world.room(PEOPLE[0], "invite").await,
    ];
    let mut clients = clients();
    for step in 0..60 {
        act(&world, &rooms, &mut rng).await;
        if rng.random_bool(0.02) {
            world = world.restart().await;
        }
        for client in &mut clients {
            if rng.random_bool(0.3) {
                client.sync(&world.rooms).await;
                client.check(&world.rooms, &format!("seed {seed} step {step}")).await;
            }
        }
    }
}

#[test]
fn what_clients_believe_is_what_is() {
    for seed in 0..seeds() {
        run(clients_believe_what_is(seed));
    }
}

fn seeds() -> u64 {
    std::env::var("MATRYX_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

#[test]
fn without_news_nothing_is_read() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let mut rooms = Vec::new();
        for _ in 0..20 {
            rooms.push(world.room("@a:x", "public").await);
        }
        let mut client = Client::new("@a:x", StateForm::Before, json!({}));
        client.sync(&world.rooms).await;
        let other = world.room("@b:x", "public").await;
        world.say(&other, "@b:x", "m.room.message", None, json!({"body": "hi"})).await.unwrap();

        let asked = world.rooms.database().asked();
        let answer = client.sync(&world.rooms).await;
        assert!(answer["rooms"].is_null(), "{answer}");
        client.question.timeout = Duration::from_mins(10);
        let (clock, stop) = (clock(), CancellationToken::new());
        let waiting = sync(&world.rooms, &clock, &stop, &client.question);
        let (answer, ()) = tokio::join!(waiting, async { clock.advance(client.question.timeout) });
        assert!(answer.unwrap().is_empty());
        assert_eq!(world.rooms.database().asked(), asked);

        // What has just been said is not read either.
        client.question.timeout = Duration::ZERO;
        world
            .say(&rooms[3], "@a:x", "m.room.topic", Some(""), json!({"topic": "t"}))
            .await
            .unwrap();
        let asked = world.rooms.database().asked();
        let answer = client.ask(&world.rooms).await;
        assert_eq!(answer["rooms"]["join"].as_object().unwrap().len(), 1);
        assert_eq!(world.rooms.database().asked(), asked);
    });
}

#[test]
fn what_has_passed_out_of_memory_is_told_all_the_same() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "public").await;
        world.member(&room, "@b:x", "@b:x", "join").await.unwrap();
        let mut early = Vec::new();
        for form in [StateForm::Before, StateForm::After] {
            for limit in [1, 20, 100] {
                let filter = json!({"room": {"timeline": {"limit": limit}}});
                let mut client = Client::new("@b:x", form, filter);
                client.sync(&world.rooms).await;
                early.push(client);
            }
        }
        for n in 0..1200 {
            let body = json!({"topic": n.to_string()});
            let (kind, key) =
                if n % 400 == 7 { ("m.room.topic", Some("")) } else { ("m.room.message", None) };
            world.say(&room, "@a:x", kind, key, body).await.unwrap();
            if n == 600 || n == 1195 {
                for client in &mut early {
                    client.sync(&world.rooms).await;
                    client.check(&world.rooms, &format!("after {n}")).await;
                }
            }
        }
        let world = world.restart().await;
        for client in &mut early {
            client.sync(&world.rooms).await;
            client.check(&world.rooms, "after the restart").await;
        }
        // All of it at once.
        let mut late = Client::new("@b:x", StateForm::After, json!({}));
        late.sync(&world.rooms).await;
        late.check(&world.rooms, "from nothing").await;
    });
}

#[test]
fn whoever_waits_is_woken_and_whoever_stops_is_answered() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "public").await;
        let clock = clock();
        let mut client = Client::new("@b:x", StateForm::Before, json!({}));
        client.sync(&world.rooms).await;
        client.question.timeout = Duration::from_mins(10);
        let stop = CancellationToken::new();
        let waiting = sync(&world.rooms, &clock, &stop, &client.question);
        let (answer, invited) =
            tokio::join!(waiting, world.member(&room, "@a:x", "@b:x", "invite"));
        invited.unwrap();
        let answer = serde_json::to_value(answer.unwrap()).unwrap();
        assert!(answer["rooms"]["invite"][room.as_str()].is_object());

        client.question.since = Some(StreamToken::at(world.rooms.stream().published()));
        let waiting = sync(&world.rooms, &clock, &stop, &client.question);
        let (answer, ()) = tokio::join!(waiting, async { stop.cancel() });
        let answer = serde_json::to_value(answer.unwrap()).unwrap();
        assert!(answer["rooms"].is_null());
    });
}

#[test]
fn a_token_from_a_future_that_was_lost_begins_anew() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "public").await;
        let mut client = Client::new("@a:x", StateForm::Before, json!({}));
        client.question.since = Some(StreamToken::at(u64::MAX));
        let answer = client.sync(&world.rooms).await;
        assert!(answer["rooms"]["join"][room.as_str()].is_object());
        client.check(&world.rooms, "anew").await;
    });
}
