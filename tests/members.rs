//! `/rooms/{roomId}/members`, `joined_members` and `/joined_rooms`.

use serde_json::{Value, json};

use crate::support::{SharedServer, Sync, TestUser};

static SERVER: SharedServer = SharedServer::new();

/// Who is in an answer of `/members`, as pairs in order.
fn pairs(answer: &Value) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = answer["chunk"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&event["state_key"]), text(&event["content"]["membership"]))
        })
        .collect();
    pairs.sort();
    pairs
}

fn expected(users: &[(&TestUser, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = users
        .iter()
        .map(|(user, membership)| (user.id.clone(), (*membership).to_owned()))
        .collect();
    pairs.sort();
    pairs
}

#[test]
fn members_of_every_kind_are_listed_and_filtered() {
    SERVER.run(async |server| {
        let [alice, bob, carol, dave] = server.users(["alice", "bob", "carol", "dave"]).await;
        let erin = server.user("erin").await;
        let room = alice.room_with_rule("knock").await;
        alice.bring(&room, &bob).await;
        bob.leave(&room).await.granted();
        alice.invite(&room, &carol).await.granted();
        alice.ban(&room, &dave).await.granted();
        erin.knock(&room).await.granted();

        let all = [
            (&alice, "join"),
            (&bob, "leave"),
            (&carol, "invite"),
            (&dave, "ban"),
            (&erin, "knock"),
        ];
        let answer = alice.members(&room, &[]).await.granted();
        assert_eq!(pairs(&answer), expected(&all));
        for event in answer["chunk"].as_array().unwrap() {
            assert_eq!(event["room_id"], room.as_str());
            assert!(event["event_id"].is_string(), "{event}");
        }
        for (user, membership) in all {
            let query = [("membership", membership)];
            let answer = alice.members(&room, &query).await.granted();
            assert_eq!(pairs(&answer), expected(&[(user, membership)]));
            let answer = alice.members(&room, &[("not_membership", membership)]).await.granted();
            let others: Vec<_> =
                all.into_iter().filter(|(_, other)| *other != membership).collect();
            assert_eq!(pairs(&answer), expected(&others));
        }
    });
}

#[test]
fn members_as_of_a_moment() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let then = alice.sync(Sync::initial()).await.next_batch;
        bob.leave(&room).await.granted();
        carol.join(&room).await.granted();
        let answer = alice.members(&room, &[("at", &then)]).await.granted();
        assert_eq!(pairs(&answer), expected(&[(&alice, "join"), (&bob, "join")]));
        let answer =
            alice.members(&room, &[("at", &then), ("not_membership", "leave")]).await.granted();
        assert_eq!(pairs(&answer), expected(&[(&alice, "join"), (&bob, "join")]));
        let now = [(&alice, "join"), (&bob, "leave"), (&carol, "join")];
        assert_eq!(pairs(&alice.members(&room, &[]).await.granted()), expected(&now));
    });
}

#[test]
fn before_a_room_began_its_creator_is_all_there_is() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        alice.say(&room, "hello").await;
        let synced = alice.sync(Sync::initial()).await;
        let there = synced.joined(&room);
        assert!(!there.limited());
        bob.join(&room).await.granted();
        let answer = alice.members(&room, &[("at", there.prev_batch())]).await.granted();
        assert_eq!(pairs(&answer), expected(&[(&alice, "join")]));
    });
}

#[test]
fn who_left_sees_the_members_of_that_moment() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        carol.join(&room).await.granted();
        let answer = bob.members(&room, &[]).await.granted();
        assert_eq!(pairs(&answer), expected(&[(&alice, "join"), (&bob, "leave")]));
    });
}

#[test]
fn outsiders_see_no_members() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.members(&room, &[]).await.forbidden();
        bob.get(&["rooms", &room, "joined_members"]).await.forbidden();
    });
}

#[test]
fn joined_members_have_their_profiles() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let name = json!({ "displayname": "Bob" });
        bob.put(&["profile", &bob.id, "displayname"], &name).await.granted();
        let avatar = json!({ "avatar_url": "mxc://localhost/bob" });
        bob.put(&["profile", &bob.id, "avatar_url"], &avatar).await.granted();
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.invite(&room, &carol).await.granted();
        let answer = alice.get(&["rooms", &room, "joined_members"]).await.granted();
        let joined = answer["joined"].as_object().unwrap();
        assert_eq!(joined.len(), 2, "{answer}");
        assert_eq!(joined[&bob.id]["display_name"], "Bob");
        assert_eq!(joined[&bob.id]["avatar_url"], "mxc://localhost/bob");
        assert_eq!(joined[&alice.id], json!({ "display_name": null, "avatar_url": null }));
        bob.leave(&room).await.granted();
        bob.get(&["rooms", &room, "joined_members"]).await.forbidden();
    });
}

#[test]
fn joined_rooms_are_those_one_is_in() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let mut rooms = Vec::new();
        for _ in 0..3 {
            let room = alice.room_with_rule("knock").await;
            alice.bring(&room, &bob).await;
            rooms.push(room);
        }
        bob.leave(&rooms.remove(0)).await.granted();
        let invited = alice.private_room().await;
        alice.invite(&invited, &bob).await.granted();
        let knocked = alice.room_with_rule("knock").await;
        bob.knock(&knocked).await.granted();
        rooms.sort();
        assert_eq!(bob.joined_rooms().await, rooms);
    });
}

#[test]
fn bad_parameters_are_refused() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        alice.members(&room, &[("membership", "member")]).await.refused_with_status(400);
        alice.members(&room, &[("at", "no token")]).await.refused_with_status(400);
        alice.members("no-room", &[]).await.refused_with_status(400);
    });
}
