//! `/sync`: which section a room is in, and what of it is there.

use serde_json::{Value, json};

use crate::support::{SharedServer, Sync, find, has};

static SERVER: SharedServer = SharedServer::new();

fn include_leave() -> Value {
    json!({ "room": { "include_leave": true } })
}

#[test]
fn without_rooms_there_are_no_sections() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let answer = alice.sync(Sync::initial()).await;
        let rooms = answer.body.get("rooms");
        assert!(rooms.is_none_or(|rooms| rooms.as_object().unwrap().is_empty()), "{rooms:?}");
        let again = alice.sync(Sync::since(&answer)).await;
        let rooms = again.body.get("rooms");
        assert!(rooms.is_none_or(|rooms| rooms.as_object().unwrap().is_empty()), "{rooms:?}");
    });
}

#[test]
fn an_initial_sync_has_what_is_pending_and_what_is_joined() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let joined = alice.public_room().await;
        bob.join(&joined).await.granted();
        let invited = alice.private_room().await;
        alice.invite(&invited, &bob).await.granted();
        let knocked = alice.room_with_rule("knock").await;
        bob.knock(&knocked).await.granted();
        let left = alice.public_room().await;
        bob.join(&left).await.granted();
        bob.leave(&left).await.granted();
        let banned = alice.public_room().await;
        bob.join(&banned).await.granted();
        alice.ban(&banned, &bob).await.granted();

        for _ in 0..2 {
            let answer = bob.sync(Sync::initial()).await;
            answer.joined(&joined);
            answer.invited(&invited);
            answer.knocked(&knocked);
            answer.silent(&left);
            answer.silent(&banned);
        }
        let answer = bob.sync(Sync::initial().filter(&include_leave())).await;
        answer.left(&left);
        answer.left(&banned);
    });
}

#[test]
fn what_is_pending_is_told_once() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let invited = alice.private_room().await;
        alice.invite(&invited, &bob).await.granted();
        let knocked = alice.room_with_rule("knock").await;
        bob.knock(&knocked).await.granted();
        let first = bob.sync(Sync::initial()).await;
        alice.say(&invited, "you cannot see this").await;
        alice.put_state(&knocked, "m.room.topic", "", json!({ "topic": "t" })).await.granted();
        let second = bob.sync(Sync::since(&first)).await;
        second.silent(&invited);
        second.silent(&knocked);
    });
}

#[test]
fn leaving_is_told_once_even_without_asking_for_it() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        bob.leave(&room).await.granted();
        let second = bob.sync(Sync::since(&first)).await;
        assert_eq!(second.left(&room).membership(&bob), Some("leave"));
        alice.say(&room, "after bob").await;
        alice.say(&room, "long after bob").await;
        bob.sync(Sync::since(&second)).await.silent(&room);
        // From the old token it is there again, and ends with the leave.
        let again = bob.sync(Sync::since(&first)).await;
        let timeline = again.left(&room).timeline();
        assert_eq!(timeline.last().unwrap()["state_key"], bob.id.as_str());
        assert!(again.left(&room).said().is_empty());
    });
}

#[test]
fn nothing_after_the_leave_is_told() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        alice.say(&room, "before").await;
        bob.leave(&room).await.granted();
        alice.say(&room, "after").await;
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "after" })).await.granted();
        for options in [
            Sync::since(&first),
            Sync::since(&first).state_after(),
            Sync::initial().filter(&include_leave()),
            Sync::initial().filter(&include_leave()).state_after(),
        ] {
            let answer = bob.sync(options).await;
            let left = answer.left(&room);
            assert_eq!(left.said(), ["before"]);
            assert_eq!(left.membership(&bob), Some("leave"));
            let state = [left.state(), left.state_after()].concat();
            assert!(!has(&state, "m.room.topic", ""), "{state:#?}");
        }
    });
}

#[test]
fn the_full_state_has_left_rooms_only_when_asked_for() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        let now = bob.sync(Sync::initial()).await;
        bob.sync(Sync::since(&now).full_state()).await.silent(&room);
        let answer = bob.sync(Sync::since(&now).full_state().filter(&include_leave())).await;
        let left = answer.left(&room);
        assert!(has(&[left.state(), left.timeline()].concat(), "m.room.create", ""));
    });
}

#[test]
fn rooms_left_before_do_not_come_back() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        let now = bob.sync(Sync::initial()).await;
        alice.say(&room, "later").await;
        bob.sync(Sync::since(&now).filter(&include_leave())).await.silent(&room);
    });
}

#[test]
fn a_new_room_comes_with_all_of_its_state() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        for n in 0..15 {
            alice.say(&room, &format!("number {n}")).await;
        }
        let first = bob.sync(Sync::initial()).await;
        bob.join(&room).await.granted();
        let answer = bob.sync(Sync::since(&first)).await;
        let there = answer.joined(&room);
        assert!(there.limited(), "more has happened than fits");
        assert_eq!(there.membership(&bob), Some("join"));
        let state = there.state();
        for kind in ["m.room.create", "m.room.power_levels", "m.room.join_rules"] {
            assert!(has(state, kind, ""), "{kind} is missing: {state:#?}");
        }
        assert!(has(state, "m.room.member", &alice.id));
        assert!(!there.prev_batch().is_empty());
    });
}

#[test]
fn the_full_state_can_be_asked_for_again() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.new_room(json!({ "name": "Full" })).await;
        let first = alice.sync(Sync::initial()).await;
        alice.sync(Sync::since(&first)).await.silent(&room);
        let again = alice.sync(Sync::since(&first).full_state()).await;
        let there = again.joined(&room);
        assert_eq!(find(there.state(), "m.room.name", "")["content"]["name"], "Full");
        assert!(there.timeline().is_empty(), "nothing has happened since");
    });
}

#[test]
fn the_summary_counts_and_names_members() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.invite(&room, &carol).await.granted();
        let first = alice.sync(Sync::initial()).await;
        let summary = &first.joined(&room).value["summary"];
        assert_eq!(summary["m.joined_member_count"], 2);
        assert_eq!(summary["m.invited_member_count"], 1);
        let mut heroes: Vec<String> = serde_json::from_value(summary["m.heroes"].clone()).unwrap();
        heroes.sort();
        assert_eq!(heroes, [bob.id.clone(), carol.id.clone()]);
        carol.join(&room).await.granted();
        let second = alice.sync(Sync::since(&first)).await;
        let summary = &second.joined(&room).value["summary"];
        assert_eq!(summary["m.joined_member_count"], 3);
        assert_eq!(summary["m.invited_member_count"], 0);
    });
}

#[test]
fn the_heroes_are_five_and_then_those_who_left() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let crowd = server.users(["a", "b", "c", "d", "e", "f", "g"]).await;
        let room = alice.public_room().await;
        for user in &crowd {
            user.join(&room).await.granted();
        }
        let heroes = async || -> Vec<String> {
            let answer = alice.sync(Sync::initial()).await;
            let summary = &answer.joined(&room).value["summary"];
            serde_json::from_value(summary["m.heroes"].clone()).unwrap()
        };
        let first: Vec<String> = crowd[..5].iter().map(|user| user.id.clone()).collect();
        assert_eq!(heroes().await, first);
        for user in &crowd {
            user.leave(&room).await.granted();
        }
        let after = heroes().await;
        assert_eq!(after.len(), 5, "an empty room is named after who was there: {after:?}");
        assert!(!after.contains(&alice.id));
    });
}
