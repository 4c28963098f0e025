//! What it costs to keep where an event stands, and which events are not kept.

use matryx_core::{event::Pdu, room::Judgement};
use matryx_repository::{Before, Fork};
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use super::world::{World, run};
use crate::room::{Door, Received};

const ALICE: &str = "@alice:x";

/// More than what is written of a difference to the current state.
const MEMBERS: usize = 80;

/// A room in which `@0:x` was first and many came after; the first one's join.
async fn crowd() -> (World, OwnedRoomId, OwnedEventId) {
    let world = World::new(RoomVersionId::V11).await;
    let room = world.room(ALICE, "public").await;
    let first = world.member(&room, "@0:x", "@0:x", "join").await.unwrap().events.remove(0);
    for number in 1..MEMBERS {
        let user = format!("@{number}:x");
        world.member(&room, &user, &user, "join").await.unwrap();
    }
    (world, room, first)
}

/// An event that was said right after these.
async fn made(
    world: &World,
    room: &OwnedRoomId,
    id: &str,
    prev: &[&OwnedEventId],
    (sender, kind, state_key): (&str, &str, Option<&str>),
) -> Pdu {
    let look = world.rooms.room(room).await.unwrap().unwrap().look();
    let keys = [
        matryx_core::room::StateKey::create(),
        matryx_core::room::StateKey::power_levels(),
        matryx_core::room::StateKey::member(<&UserId>::try_from(sender).unwrap()),
    ];
    let auth: Vec<_> = keys.iter().filter_map(|key| Some(&look.entry(key)?.event_id)).collect();
    let mut json: Value = json!({
        "type": kind, "sender": sender, "room_id": room, "content": {"body": id}, "depth": 9,
        "origin_server_ts": 9, "prev_events": prev, "auth_events": auth,
    });
    if let Some(key) = state_key {
        json["state_key"] = json!(key);
    }
    Pdu::restore(id.try_into().unwrap(), room.clone(), &json.to_string(), false).unwrap()
}

async fn fork(world: &World, id: &OwnedEventId) -> Option<Fork> {
    world.rooms.database().fork_row(id).await.unwrap()
}

#[test]
fn what_follows_an_old_event_is_kept_in_few_words_and_stands_where_it_stands() {
    run(async {
        let (world, room, first) = crowd().await;
        let then = world.rooms.state_after(&first).await.unwrap().unwrap();
        let words = ("@0:x", "m.room.message", None);
        let topic = (ALICE, "m.room.topic", Some(""));
        // Together and one by one: what was kept is found in the same group as in the store.
        let one = made(&world, &room, "$1", &[&first], words).await;
        let two = made(&world, &room, "$2", &[one.event_id()], words).await;
        let three = made(&world, &room, "$3", &[two.event_id()], topic).await;
        let four = made(&world, &room, "$4", &[three.event_id()], words).await;
        let five = made(&world, &room, "$5", &[four.event_id(), &first], words).await;
        let all = vec![one.clone(), two.clone(), three.clone(), four.clone(), five.clone()];
        let (together, alone) = all.split_at(3);
        let mut heard = world.rooms.receive_all(&room, together.to_vec()).await.unwrap();
        heard.extend(world.rooms.receive_all(&room, vec![alone[0].clone()]).await.unwrap());
        heard.extend(world.rooms.receive_all(&room, vec![alone[1].clone()]).await.unwrap());
        for heard in heard {
            assert_eq!(heard.unwrap(), Received::Judged(Judgement::Accepted));
        }
        let world = world.restart().await;
        let mut state = then;
        for pdu in &all {
            let kept = world.rooms.events().get(pdu.event_id()).await.unwrap().unwrap();
            let before = world.rooms.state_before_event(&kept).await.unwrap().unwrap();
            assert_eq!(before, state, "before {}", pdu.event_id());
            state = world.rooms.state_after(pdu.event_id()).await.unwrap().unwrap();
            if kept.before == Before::Fork {
                let written = fork(&world, pdu.event_id()).await.unwrap().delta.len();
                assert!(written <= 2, "{}: {written}", pdu.event_id());
            }
        }
        assert_eq!(world.rooms.room(&room).await.unwrap().unwrap().look().joined, 81);
    });
}

#[test]
fn what_is_rejected_leaves_little_behind_and_what_strangers_say_nothing() {
    run(async {
        let (world, room, first) = crowd().await;
        let tip = world.rooms.room(&room).await.unwrap().unwrap().look().prev_events().0.remove(0);
        let rows = world.rooms.tally().read().rows;
        let words = |sender| (sender, "m.room.message", None);
        let refused = [
            // Nothing before it, be it by whom it may.
            made(&world, &room, "$1", &[], words("@stranger:far")).await,
            made(&world, &room, "$2", &[], words("@0:x")).await,
            // Of a server that was never here, after anything.
            made(&world, &room, "$3", &[&first], words("@stranger:far")).await,
            made(&world, &room, "$4", &[&tip], words("@stranger:far")).await,
        ];
        for pdu in refused {
            let id = pdu.event_id().clone();
            let heard = world.rooms.receive(pdu, Door::Transaction).await.unwrap();
            assert!(matches!(heard, Received::Judged(Judgement::Rejected(_))), "{heard:?}");
            assert!(world.rooms.events().get(&id).await.unwrap().is_none());
        }
        assert_eq!(world.rooms.tally().read().rows, rows);
        // Whose server is here is remembered for what they may not say, so that it is not judged again and again.
        let levels = ("@0:x", "m.room.power_levels", Some(""));
        let forbidden = made(&world, &room, "$5", &[&first], levels).await;
        let id = forbidden.event_id().clone();
        let heard = world.rooms.receive(forbidden, Door::Transaction).await.unwrap();
        assert!(matches!(heard, Received::Judged(Judgement::Rejected(_))), "{heard:?}");
        let kept = world.rooms.events().get(&id).await.unwrap().unwrap();
        assert!(matches!(kept.fate, Judgement::Rejected(_)));
        assert!(fork(&world, &id).await.is_none_or(|fork| fork.delta.len() <= 1));
        // The create event, once more, is no news either.
        let held = world.rooms.room(&room).await.unwrap().unwrap();
        let create = world.rooms.lines(&held, 1, 1).await.unwrap().remove(0);
        let create = Pdu::clone(&create.event.pdu);
        let heard = world.rooms.receive(create, Door::Transaction).await.unwrap();
        assert_eq!(heard, Received::Known(Judgement::Accepted));
    });
}
