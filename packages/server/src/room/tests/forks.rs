//! Forked histories: replicas of a room that say things apart from one another and hear of them late, twice, and in the wrong
//! order, come to the same state.

use std::{collections::BTreeMap, sync::Arc};

use matryx_core::{event::Pdu, membership::Membership, room::Judgement};
use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use ruma::{OwnedRoomId, RoomVersionId, UserId};
use serde_json::json;

use super::world::{World, run, server};
use crate::room::{Changes, Door, Intent, Look, Proposal, Received, Said};

pub(super) const CREATOR: &str = "@creator:x";
const PEOPLE: [&str; 4] = ["@a:x", "@b:x", "@c:x", "@d:x"];

/// Replicas of one room, and what each has not heard yet.
pub(super) struct Replicas {
    pub(super) worlds: Vec<World>,
    pub(super) room: OwnedRoomId,
    unheard: Vec<Vec<Pdu>>,
}

impl Replicas {
    pub(super) async fn new(count: usize, version: &RoomVersionId) -> Self {
        let first = World::new(version.clone()).await;
        let room = first.room(CREATOR, "public").await;
        let held = first.rooms.room(&room).await.unwrap().unwrap();
        let beginning: Vec<Arc<Pdu>> = first
            .rooms
            .lines(&held, 1, held.look().n)
            .await
            .unwrap()
            .into_iter()
            .map(|line| Arc::clone(&line.event.pdu))
            .collect();
        let mut worlds = vec![first];
        for _ in 1..count {
            let world = World::new(version.clone()).await;
            let beginning = beginning.clone();
            let intent = Intent::new(Vec::new(), move |_| {
                let say = beginning.iter().map(|pdu| Said::Sealed(Pdu::clone(pdu))).collect();
                Ok(Proposal::Change(Changes { say, ..Changes::default() }))
            });
            world.rooms.create(room.clone(), version.clone(), intent).await.unwrap();
            worlds.push(world);
        }
        Self { worlds, room, unheard: vec![Vec::new(); count] }
    }

    async fn look(&self, world: usize) -> Arc<Look> {
        self.worlds[world].rooms.room(&self.room).await.unwrap().unwrap().look()
    }

    /// Somebody does something on one replica; the law there may refuse it.
    async fn act(&mut self, world: usize, rng: &mut StdRng) {
        let target = *PEOPLE.choose(rng).unwrap();
        let actor = if rng.random_bool(0.5) { CREATOR } else { *PEOPLE.choose(rng).unwrap() };
        let here = &self.worlds[world];
        let room = &self.room;
        let number: u32 = rng.random();
        let done = match rng.random_range(0..9) {
            0 | 1 => here.member(room, target, target, "join").await,
            2 => here.member(room, target, target, "leave").await,
            3 => here.member(room, actor, target, "leave").await,
            4 => here.member(room, actor, target, "ban").await,
            5 => here.member(room, actor, target, "invite").await,
            6 => {
                let rule = *["public", "invite", "knock"].choose(rng).unwrap();
                let content = json!({"join_rule": rule});
                here.say(room, actor, "m.room.join_rules", Some(""), content).await
            }
            7 => {
                let level = *[0, 50, 60].choose(rng).unwrap();
                let content = json!({"users": {target: level}});
                here.say(room, CREATOR, "m.room.power_levels", Some(""), content).await
            }
            _ => {
                let content = json!({"topic": number.to_string()});
                here.say(room, CREATOR, "m.room.topic", Some(""), content).await
            }
        };
        if let Ok(done) = done {
            self.tell(world, &done.events).await;
        }
    }

    async fn tell(&mut self, from: usize, events: &[ruma::OwnedEventId]) {
        for id in events {
            let event = self.worlds[from].rooms.events().get(id).await.unwrap().unwrap();
            for (world, unheard) in self.unheard.iter_mut().enumerate() {
                if world != from {
                    unheard.push(Pdu::clone(&event.pdu));
                }
            }
        }
    }

    /// One replica hears some of what it has not heard, in any order, some of it twice.
    async fn hear(&mut self, world: usize, share: f64, rng: &mut StdRng) {
        let mut waiting = std::mem::take(&mut self.unheard[world]);
        waiting.shuffle(rng);
        for pdu in waiting {
            if !rng.random_bool(share) {
                self.unheard[world].push(pdu);
                continue;
            }
            match self.worlds[world].rooms.receive(pdu.clone(), Door::Transaction).await.unwrap() {
                Received::Missing(_) => self.unheard[world].push(pdu),
                Received::Judged(Judgement::Rejected(why)) => {
                    panic!("what another replica accepted is never rejected: {why}")
                }
                Received::Judged(_) if rng.random_bool(0.2) => {
                    let again =
                        self.worlds[world].rooms.receive(pdu, Door::Transaction).await.unwrap();
                    assert!(matches!(again, Received::Known(_)));
                }
                Received::Judged(_) | Received::Known(_) => {}
            }
        }
    }

    async fn hear_everything(&mut self, rng: &mut StdRng) {
        for world in 0..self.worlds.len() {
            while !self.unheard[world].is_empty() {
                let before = self.unheard[world].len();
                self.hear(world, 1.0, rng).await;
                assert!(self.unheard[world].len() < before, "something is missing for good");
            }
        }
    }

    /// The creator says something that ties together what a replica knows.
    async fn tie(&mut self, world: usize) {
        let content = json!({"body": "tie"});
        let done =
            self.worlds[world].say(&self.room, CREATOR, "m.room.message", None, content).await;
        self.tell(world, &done.unwrap().events).await;
    }

    /// What every replica's own books must say of its look.
    async fn check(&self, world: usize) {
        let look = self.look(world).await;
        let rooms = &self.worlds[world].rooms;
        let count = |membership| look.users(membership).count() as u64;
        assert_eq!(look.joined, count(Membership::Joined));
        assert_eq!(look.invited, count(Membership::Invited));
        assert_eq!(rooms.database().state_at(&self.room, look.n, None).await.unwrap(), look.state);
        assert_eq!(rooms.database().state(&self.room, look.epoch).await.unwrap(), look.state);
        for (user, entry) in look.members() {
            let user = <&UserId>::try_from(user).unwrap();
            assert_eq!(user.server_name(), server());
            let standing = rooms.stream().standing(user).await.unwrap();
            assert_eq!(Some(standing.rooms[&self.room].membership), entry.membership);
        }
        // The log of changes leads from nothing to the state.
        let held = rooms.room(&self.room).await.unwrap().unwrap();
        let mut told = BTreeMap::new();
        for line in rooms.lines(&held, 1, look.n).await.unwrap() {
            for change in &line.changes {
                let stood: Option<_> = told.remove(&change.key);
                assert_eq!(stood, change.old, "line {}", line.n);
                if let Some(new) = &change.new {
                    told.insert(change.key.clone(), new.clone());
                }
            }
        }
        assert_eq!(told, look.state.clone().into_iter().collect());
    }
}

async fn converge(seed: u64, version: RoomVersionId) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut replicas = Replicas::new(3, &version).await;
    for _ in 0..25 {
        let world = rng.random_range(0..3);
        replicas.act(world, &mut rng).await;
        if rng.random_bool(0.5) {
            let world = rng.random_range(0..3);
            replicas.hear(world, 0.7, &mut rng).await;
        }
    }
    replicas.hear_everything(&mut rng).await;
    for world in 0..3 {
        replicas.tie(world).await;
    }
    replicas.hear_everything(&mut rng).await;
    replicas.tie(0).await;
    replicas.hear_everything(&mut rng).await;
    let first = replicas.look(0).await;
    assert_eq!(first.tips.len(), 1, "seed {seed}");
    for world in 0..3 {
        replicas.check(world).await;
        let look = replicas.look(world).await;
        assert_eq!(look.state, first.state, "seed {seed}, version {version}, replica {world}");
    }
}

#[test]
fn replicas_converge() {
    let seeds = std::env::var("MATRYX_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for seed in 0..seeds {
        let version = [RoomVersionId::V12, RoomVersionId::V10][usize::from(seed % 2 == 1)].clone();
        run(converge(seed, version));
    }
}

#[test]
fn a_fork_is_the_same_after_a_restart() {
    run(async {
        let mut rng = StdRng::seed_from_u64(99);
        let mut replicas = Replicas::new(2, &RoomVersionId::V12).await;
        for person in PEOPLE {
            replicas.worlds[0].member(&replicas.room, person, person, "join").await.unwrap();
        }
        let content = json!({"topic": "here"});
        let room = replicas.room.clone();
        let mut said = Vec::new();
        for world in &replicas.worlds {
            let topic = world.say(&room, CREATOR, "m.room.topic", Some(""), content.clone()).await;
            said.push(topic.unwrap().events);
        }
        replicas.tell(1, &said[1]).await;
        replicas.hear_everything(&mut rng).await;
        let before = replicas.look(0).await;
        assert_eq!(before.tips.len(), 2);
        let world = replicas.worlds.remove(0).restart().await;
        let after = world.rooms.room(&room).await.unwrap().unwrap().look();
        assert_eq!(after.head(), before.head());
        assert_eq!(after.state, before.state);
        for (a, b) in after.tips.iter().zip(&before.tips) {
            assert_eq!(a.state, b.state);
        }
    });
}

#[test]
fn what_the_law_forbids_is_rejected_or_soft_failed_and_seen_by_nobody() {
    run(async {
        let replicas = Replicas::new(2, &RoomVersionId::V12).await;
        let [here, there] = &replicas.worlds[..] else { panic!("two replicas") };
        let room = &replicas.room;
        let get = async |world: &World, id: &ruma::EventId| {
            Pdu::clone(&world.rooms.events().get(id).await.unwrap().unwrap().pdu)
        };
        // There, @a joins and speaks; here, they are banned meanwhile.
        let joined = there.member(room, "@a:x", "@a:x", "join").await.unwrap();
        let spoken =
            there.say(room, "@a:x", "m.room.message", None, json!({"body": "hi"})).await.unwrap();
        here.member(room, CREATOR, "@a:x", "ban").await.unwrap();
        let lines = here.rooms.room(room).await.unwrap().unwrap().look().n;

        let spoken = get(there, &spoken.events[0]).await;
        let missing = here.rooms.receive(spoken.clone(), Door::Transaction).await.unwrap();
        assert!(matches!(missing, Received::Missing(ids) if ids.contains(&joined.events[0])));
        for pdu in [get(there, &joined.events[0]).await, spoken] {
            let id = pdu.event_id().clone();
            let heard = here.rooms.receive(pdu, Door::Transaction).await.unwrap();
            assert!(matches!(heard, Received::Judged(Judgement::SoftFailed(_))), "{heard:?}");
            let kept = here.rooms.events().get(&id).await.unwrap().unwrap();
            assert_eq!(kept.n, None);
        }
        // An event whose auth events do not allow it is rejected, and so is what names it.
        let mut forged: serde_json::Value =
            serde_json::from_str(get(there, &joined.events[0]).await.json()).unwrap();
        forged["sender"] = json!("@b:x");
        forged["state_key"] = json!("@c:x");
        let id = "$forged".try_into().unwrap();
        let forged = Pdu::restore(id, room.clone(), &forged.to_string(), false).unwrap();
        let heard = here.rooms.receive(forged, Door::Transaction).await.unwrap();
        assert!(matches!(heard, Received::Judged(Judgement::Rejected(_))), "{heard:?}");
        let look = here.rooms.room(room).await.unwrap().unwrap().look();
        assert_eq!(look.n, lines, "none of this got a line");
        assert_eq!(look.membership("@a:x".try_into().unwrap()), Membership::Banned);
    });
}

#[test]
fn a_redaction_that_comes_first_waits_for_its_target() {
    run(async {
        for restarts in [false, true] {
            let mut replicas = Replicas::new(2, &RoomVersionId::V12).await;
            let there = replicas.worlds.remove(1);
            let here = replicas.worlds.remove(0);
            let room = &replicas.room;
            let text = json!({"body": "secret"});
            let said = there.say(room, CREATOR, "m.room.message", None, text).await.unwrap();
            let target = said.events[0].clone();
            let content = json!({"redacts": target});
            let redacted =
                there.say(room, CREATOR, "m.room.redaction", None, content).await.unwrap();
            // The redaction, as if it had been said without the message in sight.
            let stored = there.rooms.events().get(&redacted.events[0]).await.unwrap().unwrap();
            let look = here.rooms.room(room).await.unwrap().unwrap().look();
            let mut json: serde_json::Value = serde_json::from_str(stored.pdu.json()).unwrap();
            json["prev_events"] = json!(look.prev_events().0);
            let id = redacted.events[0].clone();
            let redaction = Pdu::restore(id, room.clone(), &json.to_string(), false).unwrap();
            let heard = here.rooms.receive(redaction, Door::Transaction).await.unwrap();
            assert_eq!(heard, Received::Judged(Judgement::Accepted));

            let mut message: serde_json::Value = serde_json::from_str(
                there.rooms.events().get(&target).await.unwrap().unwrap().pdu.json(),
            )
            .unwrap();
            message["content"] = json!({"body": "secret"});
            let message =
                Pdu::restore(target.clone(), room.clone(), &message.to_string(), false).unwrap();
            let here = if restarts { here.restart().await } else { here };
            let heard = here.rooms.receive(message, Door::Transaction).await.unwrap();
            assert_eq!(heard, Received::Judged(Judgement::Accepted));
            let here = if restarts { here.restart().await } else { here };
            let kept = here.rooms.events().get(&target).await.unwrap().unwrap();
            assert!(!kept.pdu.json().contains("secret"), "{}", kept.pdu.json());
            assert_eq!(kept.redacted_by, Some(redacted.events[0].clone()));
            let held = here.rooms.room(room).await.unwrap().unwrap();
            let line = here.rooms.lines(&held, held.look().n, held.look().n).await.unwrap();
            assert!(!line[0].event.pdu.json().contains("secret"));
        }
    });
}
