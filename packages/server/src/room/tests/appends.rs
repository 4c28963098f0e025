//! What is said is durable, in order, and the same after a restart.

use std::{pin::pin, sync::Arc};

use futures::poll;
use matryx_core::{event::Pdu, membership::Membership, room::Judgement};
use matryx_repository::{
    Append, Mine, NewLine, RoomHead, Sent, Source, StoredEvent, TransactionKey,
};
use ruma::{RoomVersionId, user_id};
use serde_json::json;

use super::{
    forks::{CREATOR, Replicas},
    world::{World, draft, run},
};
use crate::room::{Intent, Proposal, Received, SendError, lane::Ask};

#[test]
fn a_room_is_the_same_after_a_restart() {
    run(async {
        for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
            let world = World::new(version).await;
            let room = world.room("@a:x", "public").await;
            world.member(&room, "@b:x", "@b:x", "join").await.unwrap();
            world.say(&room, "@b:x", "m.room.message", None, json!({"body": "hi"})).await.unwrap();
            let before = world.rooms.room(&room).await.unwrap().unwrap().look();
            assert_eq!((before.n, before.joined, before.invited), (6, 2, 0));
            assert_eq!(before.membership(user_id!("@b:x")), Membership::Joined);
            let standing = world.rooms.stream().standing(user_id!("@b:x")).await.unwrap();
            assert_eq!(standing.rooms[&room].n, 5);
            assert!(standing.pos >= before.pos);

            let world = world.restart().await;
            let held = world.rooms.room(&room).await.unwrap().unwrap();
            let after = held.look();
            assert_eq!(after.head(), before.head());
            assert_eq!(after.state, before.state);
            assert_eq!((after.joined, after.invited), (2, 0));
            let lines = world.rooms.lines(&held, 1, 6).await.unwrap();
            let kinds: Vec<_> =
                lines.iter().map(|line| line.event.pdu.kind().to_string()).collect();
            assert_eq!(kinds[0], "m.room.create");
            assert_eq!(kinds[5], "m.room.message");
            assert!(world.rooms.stream().published() >= before.pos);
            let standing = world.rooms.stream().standing(user_id!("@b:x")).await.unwrap();
            assert_eq!(standing.rooms[&room].membership, Membership::Joined);
            let state = world.rooms.state_at(&room, 4).await.unwrap();
            assert_eq!(state.len(), 4);
            world
                .say(&room, "@a:x", "m.room.topic", Some(""), json!({"topic": "t"}))
                .await
                .unwrap();
            assert_eq!(held.look().n, 7);
        }
    });
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "invite").await;
        let refused = world.member(&room, "@b:x", "@b:x", "join").await.unwrap_err();
        assert!(matches!(refused, SendError::Refused(_)), "{refused:?}");
        let held = world.rooms.room(&room).await.unwrap().unwrap();
        assert_eq!(held.look().n, 4);
        assert!(world.rooms.stream().standing(user_id!("@b:x")).await.unwrap().rooms.is_empty());
        let panicked = world
            .rooms
            .send(&room, Intent::new(Vec::new(), |_| panic!("an intent fails")))
            .await
            .unwrap_err();
        assert!(matches!(panicked, SendError::Panicked));
        // The lane lives.
        world.member(&room, "@a:x", "@b:x", "invite").await.unwrap();
        let stripped = world.rooms.stream().standing(user_id!("@b:x")).await.unwrap();
        let stripped = stripped.rooms[&room].stripped.clone().unwrap();
        for kind in ["m.room.create", "m.room.join_rules", "\"membership\":\"invite\"", "@a:x"] {
            assert!(stripped.contains(kind), "{stripped}");
        }
    });
}

#[test]
fn many_at_once_share_commits_and_stay_in_order() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let rooms = [world.room("@a:x", "public").await, world.room("@a:x", "public").await];
        let before = world.rooms.tally().read();
        let said =
            futures::future::join_all((0..200).map(|i| {
                world.say(&rooms[i % 2], "@a:x", "m.room.message", None, json!({"body": i}))
            }))
            .await;
        let after = world.rooms.tally().read();
        assert_eq!(after.appends - before.appends, 200);
        assert!(after.commits - before.commits < 200, "{before:?} {after:?}");
        let mut positions: Vec<u64> = said.into_iter().map(|done| done.unwrap().pos).collect();
        let newest = positions.iter().max().copied();
        assert_eq!(newest, Some(world.rooms.stream().published()));
        positions.dedup();
        for room in &rooms {
            let held = world.rooms.room(room).await.unwrap().unwrap();
            let lines = world.rooms.database().lines(room, 1, held.look().n).await.unwrap();
            assert_eq!(lines.len(), 104);
            assert!(lines.windows(2).all(|pair| pair[0].n + 1 == pair[1].n));
            assert!(lines.windows(2).all(|pair| pair[0].pos <= pair[1].pos));
            let chain = lines.windows(2).all(|pair| {
                pair[1].event.pdu.prev_events() == [pair[0].event.pdu.event_id().clone()]
            });
            assert!(chain);
        }
    });
}

#[test]
fn a_transaction_happens_once_also_across_restarts() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "public").await;
        let send = |world: &World, body: &str| {
            let key = TransactionKey {
                sent: Sent {
                    user: user_id!("@a:x").to_owned(),
                    device: "D".into(),
                    transaction: "t1".into(),
                },
                endpoint: format!("send/{room}/m.room.message"),
            };
            let draft = draft("@a:x", "m.room.message", None, json!({"body": body}));
            let intent = Intent::new(Vec::new(), move |_| Ok(Proposal::say(draft.clone())));
            let (rooms, room) = (world.rooms.clone(), room.clone());
            async move { rooms.send(&room, intent.once(Some(key))).await.unwrap().events }
        };
        let (first, second) = tokio::join!(send(&world, "one"), send(&world, "two"));
        assert_eq!(first, second);
        assert_eq!(send(&world, "three").await, first);
        let world = world.restart().await;
        assert_eq!(send(&world, "four").await, first);
        let held = world.rooms.room(&room).await.unwrap().unwrap();
        assert_eq!(held.look().n, 5);
    });
}

#[test]
fn a_redaction_takes_the_text_from_the_store_too() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "public").await;
        let said =
            world.say(&room, "@a:x", "m.room.message", None, json!({"body": "secret"})).await;
        let target = said.unwrap().events[0].clone();
        let topic =
            world.say(&room, "@a:x", "m.room.topic", Some(""), json!({"topic": "secret"})).await;
        let topic = topic.unwrap().events[0].clone();
        for target in [&target, &topic] {
            let content = json!({"redacts": target, "reason": "oops"});
            world.say(&room, "@a:x", "m.room.redaction", None, content).await.unwrap();
        }
        let world = world.restart().await;
        for target in [&target, &topic] {
            let event = world.rooms.events().get(target).await.unwrap().unwrap();
            assert_eq!(event.pdu.event_id(), target);
            assert!(!event.pdu.json().contains("secret"), "{}", event.pdu.json());
            assert!(event.redacted_by.is_some());
            assert!(event.n.is_some());
        }
    });
}

#[test]
fn a_room_that_has_moved_in_the_store_is_looked_at_again() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "public").await;
        let held = world.rooms.room(&room).await.unwrap().unwrap();
        let look = held.look();
        let newest = world.rooms.lines(&held, look.n, look.n).await.unwrap().remove(0);
        let other = Pdu::restore(
            "$other".try_into().unwrap(),
            room.clone(),
            newest.event.pdu.json(),
            false,
        );
        let event = StoredEvent {
            pdu: Arc::new(other.unwrap()),
            n: Some(look.n + 1),
            ..StoredEvent::clone(&newest.event)
        };
        let event = Arc::new(event);
        let behind_our_back = Append {
            head: Some(RoomHead { n: look.n + 1, ..look.head() }),
            was: Some(look.pos),
            lines: vec![NewLine {
                n: look.n + 1,
                event,
                changes: Vec::new(),
                outlier: false,
                gap: false,
            }],
            ..Append::to(room.clone())
        };
        let taken = [(look.pos + 1, &behind_our_back)];
        world.rooms.database().commit(&taken).await.unwrap();
        let hello = json!({"body": "hello"});
        let stale = world.say(&room, "@a:x", "m.room.message", None, hello.clone()).await;
        assert!(matches!(stale, Err(SendError::Store(_))), "{stale:?}");
        world.say(&room, "@a:x", "m.room.message", None, hello).await.unwrap();
        assert_eq!(held.look().n, 6);
    });
}

#[test]
fn nobody_is_shown_what_is_written_and_not_yet_published() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "public").await;
        let (stream, bob) = (world.rooms.stream(), user_id!("@b:x"));
        let invited = Mine {
            user: bob.to_owned(),
            room: room.clone(),
            membership: Membership::Invited,
            event: "$invite".try_into().unwrap(),
            source: Source::OutOfBand { version: RoomVersionId::V12, via: Vec::new() },
            n: 0,
            pos: 0,
            stripped: None,
            forgotten: false,
        };
        let written = Append { mine: vec![invited], ..Append::to(room.clone()) };
        let pos = stream.published() + 1;
        world.rooms.database().commit(&[(pos, &written)]).await.unwrap();
        let mut one = pin!(stream.standing(bob));
        // While it reads the store, and after that.
        for _ in 0..10_000 {
            assert!(poll!(&mut one).is_pending());
            tokio::task::yield_now().await;
        }
        let mut two = pin!(stream.standing(bob));
        assert!(poll!(&mut two).is_pending());
        world.member(&room, "@c:x", "@c:x", "join").await.unwrap();
        for standing in [one.await.unwrap(), two.await.unwrap()] {
            assert!(standing.pos >= standing.rooms[&room].pos);
        }
    });
}

#[test]
fn what_is_brought_together_is_looked_up_together_and_written_together() {
    run(async {
        let Replicas { mut worlds, room, .. } = Replicas::new(2, &RoomVersionId::V11).await;
        let (there, here) = (worlds.remove(1), worlds.remove(0));
        let mut pdus = Vec::new();
        for number in 0..20 {
            let content = json!({"body": number});
            let done = there.say(&room, CREATOR, "m.room.message", None, content).await.unwrap();
            let event = there.rooms.events().get(&done.events[0]).await.unwrap().unwrap();
            pdus.push(Pdu::clone(&event.pdu));
        }
        let asked = here.rooms.database().asked();
        let received = here.rooms.receive_all(&room, pdus.clone()).await.unwrap();
        assert!(
            received
                .into_iter()
                .all(|one| { matches!(one, Ok(Received::Judged(Judgement::Accepted))) })
        );
        assert_eq!(here.rooms.database().asked() - asked, 2, "one read and one commit");
        let again = here.rooms.receive_all(&room, pdus).await.unwrap();
        assert!(again.into_iter().all(|one| matches!(one, Ok(Received::Known(_)))));
    });
}

#[test]
fn a_job_that_panics_is_answered_and_so_are_those_around_it() {
    run(async {
        let world = World::new(RoomVersionId::V12).await;
        let room = world.room("@a:x", "public").await;
        let held = world.rooms.room(&room).await.unwrap().unwrap();
        let say = || world.say(&room, "@a:x", "m.room.message", None, json!({"body": "hi"}));
        let panic = || world.rooms.ask(&held, Ask::Panic);
        let (before, failed, after) = tokio::join!(say(), panic(), say());
        assert!(matches!(failed.unwrap_err(), SendError::Panicked));
        assert_eq!([before.unwrap().events.len(), after.unwrap().events.len()], [1, 1]);
        say().await.unwrap();
    });
}
