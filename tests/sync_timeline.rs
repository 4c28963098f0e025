//! `/sync`: timelines, what state goes with them, filters and lazily loaded members.

use serde_json::{Value, json};

use crate::support::{SharedServer, Sync, TestUser, find, has};

static SERVER: SharedServer = SharedServer::new();

fn limit(limit: u32) -> Value {
    json!({ "room": { "timeline": { "limit": limit } } })
}

async fn talk(user: &TestUser, room: &str, count: usize) {
    for n in 0..count {
        user.say(room, &format!("number {n}")).await;
    }
}

#[test]
fn without_a_gap_the_timeline_is_all_there_is() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let first = alice.sync(Sync::initial()).await;
        talk(&alice, &room, 4).await;
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "t" })).await.granted();
        let answer = alice.sync(Sync::since(&first)).await;
        let there = answer.joined(&room);
        assert!(!there.limited());
        assert_eq!(there.said().len(), 4);
        assert!(there.happened("m.room.topic", "").is_some());
        assert!(there.state().is_empty(), "what is in the timeline is not repeated");
        alice.sync(Sync::since(&answer)).await.silent(&room);
    });
}

#[test]
fn a_gap_carries_the_state_that_changed_in_it() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let first = alice.sync(Sync::initial()).await;
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "one" })).await.granted();
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "two" })).await.granted();
        talk(&alice, &room, 4).await;
        alice.put_state(&room, "m.room.name", "", json!({ "name": "new" })).await.granted();

        let answer = alice.sync(Sync::since(&first).filter(&limit(3))).await;
        let there = answer.joined(&room);
        assert!(there.limited());
        assert_eq!(there.timeline().len(), 3);
        let topic = find(there.state(), "m.room.topic", "");
        assert_eq!(topic["content"]["topic"], "two");
        assert!(!has(there.state(), "m.room.name", ""), "that is in the timeline");
        assert!(!has(there.state(), "m.room.create", ""), "that is known");
    });
}

#[test]
fn state_is_as_of_the_start_and_state_after_as_of_the_end() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.new_room(json!({ "topic": "old" })).await;
        talk(&alice, &room, 4).await;
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "new" })).await.granted();
        alice.say(&room, "the last").await;
        let filter = limit(3);

        let answer = alice.sync(Sync::initial().filter(&filter)).await;
        let there = answer.joined(&room);
        assert_eq!(find(there.state(), "m.room.topic", "")["content"]["topic"], "old");
        assert!(there.happened("m.room.topic", "").is_some());
        assert!(there.value.get("state_after").is_none());

        let answer = alice.sync(Sync::initial().filter(&filter).state_after()).await;
        let there = answer.joined(&room);
        assert_eq!(find(there.state_after(), "m.room.topic", "")["content"]["topic"], "new");
        assert!(there.value.get("state").is_none());

        // When nothing changed it is there all the same, and empty.
        alice.say(&room, "one more").await;
        let answer = alice.sync(Sync::since(&answer).state_after()).await;
        let there = answer.joined(&room);
        assert_eq!(there.value["state_after"]["events"].as_array().map(Vec::len), Some(0));

        // The name that js-sdk asks with.
        let unstable = Sync::initial().with("org.matrix.msc4222.use_state_after", "true");
        let answer = alice.sync(unstable.filter(&filter)).await;
        let there = &answer.joined(&room).value;
        let after =
            there.get("state_after").or_else(|| there.get("org.matrix.msc4222.state_after"));
        assert!(after.is_some(), "{there:#}");
    });
}

#[test]
fn a_state_change_in_the_timeline_is_in_state_after() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let first = alice.sync(Sync::initial()).await;
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "new" })).await.granted();
        let answer = alice.sync(Sync::since(&first).state_after()).await;
        let there = answer.joined(&room);
        assert!(there.happened("m.room.topic", "").is_some());
        assert_eq!(find(there.state_after(), "m.room.topic", "")["content"]["topic"], "new");
    });
}

#[test]
fn the_timeline_can_be_empty_by_filter() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.new_room(json!({ "name": "All" })).await;
        let answer = alice.sync(Sync::initial().filter(&limit(0))).await;
        let there = answer.joined(&room);
        assert!(there.timeline().is_empty());
        for (kind, key) in
            [("m.room.create", ""), ("m.room.name", ""), ("m.room.member", alice.id.as_str())]
        {
            assert!(has(there.state(), kind, key), "{kind} is missing");
        }
    });
}

#[test]
fn filters_choose_types_senders_and_rooms() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let other = alice.private_room().await;
        bob.join(&room).await.granted();
        let first = alice.sync(Sync::initial()).await;
        alice.say(&room, "of alice").await;
        bob.say(&room, "of bob").await;
        alice.put_state(&room, "m.room.topic", "", json!({ "topic": "t" })).await.granted();
        alice.say(&other, "elsewhere").await;
        let said = async |filter: Value| {
            let answer = alice.sync(Sync::since(&first).filter(&json!({ "room": filter }))).await;
            let rooms = [&room, &other];
            let said = rooms.map(|room| answer.room(room).said());
            said.map(|texts| texts.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let none = Vec::<String>::new();
        let senders = json!({ "timeline": { "senders": [bob.id] } });
        assert_eq!(said(senders).await, [vec!["of bob".to_owned()], none.clone()]);
        let senders = json!({ "timeline": { "not_senders": [bob.id] } });
        assert_eq!(
            said(senders).await,
            [vec!["of alice".to_owned()], vec!["elsewhere".to_owned()]]
        );
        let types = json!({ "timeline": { "not_types": ["m.room.*"] } });
        assert_eq!(said(types).await, [none.clone(), none.clone()]);
        let rooms = json!({ "rooms": [other] });
        assert_eq!(said(rooms).await, [none.clone(), vec!["elsewhere".to_owned()]]);
        let rooms = json!({ "not_rooms": [other] });
        assert_eq!(said(rooms).await[1], none);
        let rooms = json!({ "timeline": { "rooms": [other] } });
        assert_eq!(said(rooms).await, [none, vec!["elsewhere".to_owned()]]);
    });
}

#[test]
fn a_filter_can_be_left_with_the_server() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        talk(&alice, &room, 5).await;
        let path = ["user", &alice.id, "filter"];
        let id = alice.post(&path, &limit(2)).await.granted_str("filter_id");
        let stored = alice.get(&["user", &alice.id, "filter", &id]).await.granted();
        assert_eq!(stored["room"]["timeline"]["limit"], 2);
        let answer = alice.sync(Sync::initial().with("filter", &id)).await;
        assert_eq!(answer.joined(&room).said(), ["number 3", "number 4"]);
        alice.try_sync(Sync::initial().with("filter", "4711")).await.refused_with_status(400);
        alice
            .try_sync(Sync::initial().with("filter", "{\"room\":5}"))
            .await
            .refused_with_status(400);
        bob.post(&path, &limit(2)).await.forbidden();
        bob.get(&["user", &alice.id, "filter", &id]).await.forbidden();
        alice.get(&["user", &alice.id, "filter", "4711"]).await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn a_room_without_a_name_comes_with_its_heroes() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        talk(&alice, &room, 12).await;
        let lazy = json!({ "room": { "state": { "lazy_load_members": true } } });
        let answer = alice.sync(Sync::initial().filter(&lazy)).await;
        let there = answer.joined(&room);
        assert_eq!(there.value["summary"]["m.heroes"], json!([bob.id]));
        assert!(has(there.state(), "m.room.member", &bob.id), "the room is named after bob");
    });
}

#[test]
fn lazily_loaded_members_are_those_who_speak() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.new_room(json!({ "preset": "public_chat", "name": "Named" })).await;
        bob.join(&room).await.granted();
        carol.join(&room).await.granted();
        talk(&bob, &room, 12).await;
        let lazy = json!({
            "room": { "state": { "lazy_load_members": true }, "timeline": { "limit": 5 } },
        });
        let answer = alice.sync(Sync::initial().filter(&lazy)).await;
        let state = answer.joined(&room).state();
        assert!(has(state, "m.room.member", &bob.id), "bob speaks");
        assert!(has(state, "m.room.member", &alice.id), "alice is oneself");
        assert!(!has(state, "m.room.member", &carol.id), "carol is silent");
        assert!(has(state, "m.room.create", ""));

        carol.say(&room, "hello").await;
        let next = alice.sync(Sync::since(&answer).filter(&lazy)).await;
        assert!(has(next.joined(&room).state(), "m.room.member", &carol.id), "now she speaks");
    });
}

#[test]
fn a_gap_has_all_membership_changes_even_when_lazy() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        carol.join(&room).await.granted();
        let lazy = json!({
            "room": { "state": { "lazy_load_members": true }, "timeline": { "limit": 5 } },
        });
        let first = alice.sync(Sync::initial().filter(&lazy)).await;
        bob.join(&room).await.granted();
        carol.leave(&room).await.granted();
        talk(&alice, &room, 8).await;
        let answer = alice.sync(Sync::since(&first).filter(&lazy)).await;
        let there = answer.joined(&room);
        assert!(there.limited());
        assert!(has(there.state(), "m.room.member", &bob.id));
        let carols = find(there.state(), "m.room.member", &carol.id);
        assert_eq!(carols["content"]["membership"], "leave");
    });
}

#[test]
fn events_come_without_a_room_id_and_with_the_own_membership() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let answer = bob.sync(Sync::initial()).await;
        let there = answer.joined(&room);
        for event in [there.state(), there.timeline()].concat() {
            assert!(event.get("room_id").is_none(), "{event}");
            assert!(event["event_id"].is_string(), "{event}");
        }
        let join = there.happened("m.room.member", &bob.id).unwrap();
        assert_eq!(join["unsigned"]["membership"], "join");
        let create = there.happened("m.room.create", "");
        if let Some(create) = create {
            assert_eq!(create["unsigned"]["membership"], "leave");
        }
    });
}
