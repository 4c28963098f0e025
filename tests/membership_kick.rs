//! `POST /rooms/{roomId}/kick`.

use serde_json::json;

use crate::support::{SharedServer, Sync};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn the_kicked_find_the_kick_with_its_reason() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        let body = json!({ "user_id": bob.id, "reason": "spam" });
        assert_eq!(alice.act(&room, "kick", body).await.granted(), json!({}));

        let news = bobs.until_in("leave", &room).await;
        let kick = news.left(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(kick["content"]["membership"], "leave");
        assert_eq!(kick["content"]["reason"], "spam");
        assert_eq!(kick["sender"], alice.id.as_str());
        assert_eq!(kick["unsigned"]["prev_content"]["membership"], "join");
        let news = alices.until_in("join", &room).await;
        assert_eq!(news.joined(&room).membership(&bob), Some("leave"));
        assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
    });
}

#[test]
fn the_kicked_may_come_back_where_anyone_may() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.kick(&room, &bob).await.granted();
        bob.send(&room, json!({ "body": "psst" })).await.forbidden();
        bob.join(&room).await.granted();
        let private = alice.private_room().await;
        alice.bring(&private, &bob).await;
        alice.kick(&private, &bob).await.granted();
        bob.join(&private).await.forbidden();
    });
}

#[test]
fn kicking_takes_the_level_and_more_than_the_target_has() {
    SERVER.run(async |server| {
        let [alice, bob, carol, dave] = server.users(["alice", "bob", "carol", "dave"]).await;
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "power_level_content_override": {
                    "kick": 45,
                    "users": { &bob.id: 44, &carol.id: 60, &dave.id: 60 },
                },
            }))
            .await;
        for user in [&bob, &carol, &dave] {
            user.join(&room).await.granted();
        }
        let erin = server.user("erin").await;
        erin.join(&room).await.granted();
        bob.kick(&room, &erin).await.forbidden().says("45").says("44");
        carol.kick(&room, &dave).await.forbidden().says("60");
        carol.kick(&room, &alice).await.forbidden();
        carol.kick(&room, &bob).await.granted();
        alice.kick(&room, &carol).await.granted();
        assert_eq!(alice.membership(&room, &dave).await, "join");
        assert_eq!(alice.membership(&room, &erin).await, "join");
    });
}

#[test]
fn only_members_kick() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "power_level_content_override": { "users": { &bob.id: 90 } },
            }))
            .await;
        carol.join(&room).await.granted();
        bob.kick(&room, &carol).await.forbidden();
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        bob.kick(&room, &carol).await.forbidden();
        assert_eq!(alice.membership(&room, &carol).await, "join");
    });
}

#[test]
fn who_is_not_there_cannot_be_kicked() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        alice.kick(&room, &bob).await.forbidden();
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        alice.kick(&room, &bob).await.forbidden();
        alice.ban(&room, &bob).await.granted();
        // That would be an unban by the wrong door.
        alice.kick(&room, &bob).await.forbidden().says("ban");
        assert_eq!(alice.membership(&room, &bob).await, "ban");
    });
}

#[test]
fn a_kick_that_is_repeated_is_the_same_kick() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "power_level_content_override": { "users": { &carol.id: 90 } },
            }))
            .await;
        carol.join(&room).await.granted();
        bob.join(&room).await.granted();
        let kick = json!({ "user_id": bob.id, "reason": "go" });
        alice.act(&room, "kick", kick.clone()).await.granted();
        let newest = async || {
            let newest = [("dir", "b"), ("limit", "1")];
            let page = alice.query(&["rooms", &room, "messages"], &newest).await.granted();
            page["chunk"][0]["event_id"].clone()
        };
        let kicked = newest().await;
        alice.act(&room, "kick", kick.clone()).await.granted();
        assert_eq!(newest().await, kicked);
        // With another reason, or by somebody else, it is another one, of somebody who is not there.
        alice.kick(&room, &bob).await.forbidden();
        carol.act(&room, "kick", kick).await.forbidden();
    });
}

#[test]
fn kicking_oneself_is_not_leaving() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.kick(&room, &bob).await.forbidden();
        assert_eq!(alice.membership(&room, &bob).await, "join");
    });
}

#[test]
fn bad_input_is_told_apart() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.act(&room, "kick", json!({})).await.refused_with_status(400);
        alice.act(&room, "kick", json!({ "user_id": 5 })).await.refused(400, "M_BAD_JSON");
        alice.act(&room, "kick", json!({ "user_id": "bob" })).await.refused_with_status(400);
        let reason = json!({ "user_id": bob.id, "reason": 5 });
        alice.act(&room, "kick", reason).await.refused(400, "M_BAD_JSON");
        alice.sync(Sync::initial()).await.joined(&room);
        assert_eq!(alice.membership(&room, &bob).await, "join");
    });
}
