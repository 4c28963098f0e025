//! `POST /rooms/{roomId}/leave`. Declining is in `membership_invite`, withdrawing in `membership_knock`.

use serde_json::json;

use crate::support::{SharedServer, Sync};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn leaving_shows_at_both_sides_at_once() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        assert_eq!(bob.act(&room, "leave", json!({ "reason": "late" })).await.granted(), json!({}));

        let news = bobs.until_in("leave", &room).await;
        let leave = news.left(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(leave["content"]["membership"], "leave");
        assert_eq!(leave["content"]["reason"], "late");
        assert_eq!(leave["sender"], bob.id.as_str());
        assert_eq!(leave["unsigned"]["prev_content"]["membership"], "join");
        let news = alices.until_in("join", &room).await;
        assert_eq!(news.joined(&room).membership(&bob), Some("leave"));
        assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
    });
}

#[test]
fn leaving_again_is_no_error_and_no_event() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        let (alices, bobs) = (alice.sync(Sync::initial()).await, bob.sync(Sync::initial()).await);
        bob.leave(&room).await.granted();
        alice.sync(Sync::since(&alices)).await.silent(&room);
        bob.sync(Sync::since(&bobs)).await.silent(&room);
    });
}

#[test]
fn the_last_member_may_leave() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.invite(&room, &bob).await.granted();
        alice.leave(&room).await.granted();
        // The invitation stands, and can be declined though nobody is there.
        let before = bob.sync(Sync::initial()).await;
        before.invited(&room);
        bob.leave(&room).await.granted();
        bob.sync(Sync::since(&before)).await.left(&room);
        bob.sync(Sync::initial()).await.silent(&room);
    });
}

#[test]
fn an_invitation_to_an_empty_room_can_be_accepted() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.invite(&room, &bob).await.granted();
        alice.leave(&room).await.granted();
        bob.join(&room).await.granted();
        assert_eq!(bob.joined_rooms().await, [room]);
    });
}

#[test]
fn who_left_may_not_act_or_look_on() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        bob.send(&room, json!({ "body": "psst" })).await.forbidden();
        bob.put_state(&room, "m.room.topic", "", json!({ "topic": "t" })).await.forbidden();
        bob.get(&["rooms", &room, "joined_members"]).await.forbidden();
    });
}

#[test]
fn a_room_one_was_never_in_is_not_found() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let public = alice.public_room().await;
        let nowhere = format!("!nowhere:{}", server.name());
        bob.leave(&nowhere).await.refused(404, "M_NOT_FOUND");
        bob.leave(&public).await.refused(404, "M_NOT_FOUND");
        bob.leave("not-a-room").await.refused_with_status(400);
        assert_eq!(alice.joined_rooms().await, [public]);
    });
}

#[test]
fn the_banned_cannot_leave() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        alice.ban(&room, &bob).await.granted();
        bob.leave(&room).await.forbidden().says("ban");
        assert_eq!(alice.membership(&room, &bob).await, "ban");
    });
}

#[test]
fn bad_bodies_are_told_apart() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        alice.act(&room, "leave", json!({ "reason": {} })).await.refused(400, "M_BAD_JSON");
        assert_eq!(alice.joined_rooms().await, [room]);
    });
}
