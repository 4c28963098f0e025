//! `POST /rooms/{roomId}/ban` and `POST /rooms/{roomId}/unban`.

use serde_json::json;

use crate::support::{SharedServer, Sync};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn a_ban_shows_at_both_sides_at_once() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        let body = json!({ "user_id": bob.id, "reason": "spam" });
        assert_eq!(alice.act(&room, "ban", body).await.granted(), json!({}));

        let news = bobs.until_in("leave", &room).await;
        let ban = news.left(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(ban["content"]["membership"], "ban");
        assert_eq!(ban["content"]["reason"], "spam");
        assert_eq!(ban["sender"], alice.id.as_str());
        assert_eq!(ban["unsigned"]["prev_content"]["membership"], "join");
        let news = alices.until_in("join", &room).await;
        assert_eq!(news.joined(&room).membership(&bob), Some("ban"));
        assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
        bob.sync(Sync::initial()).await.silent(&room);
    });
}

#[test]
fn whoever_is_outside_can_be_banned_too() {
    SERVER.run(async |server| {
        let [alice, bob, carol, dave] = server.users(["alice", "bob", "carol", "dave"]).await;
        let room = alice.public_room().await;
        alice.ban(&room, &bob).await.granted();
        carol.join(&room).await.granted();
        carol.leave(&room).await.granted();
        alice.ban(&room, &carol).await.granted();
        alice.invite(&room, &dave).await.granted();
        let mut daves = dave.listens().await;
        alice.ban(&room, &dave).await.granted();
        let news = daves.until_in("leave", &room).await;
        assert_eq!(news.left(&room).membership(&dave), Some("ban"));
        for user in [&bob, &carol, &dave] {
            assert_eq!(alice.membership(&room, user).await, "ban");
            user.join(&room).await.forbidden().says("ban");
        }
    });
}

#[test]
fn banning_again_is_no_error() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        alice.ban(&room, &bob).await.granted();
        let before = alice.sync(Sync::initial()).await;
        alice.ban(&room, &bob).await.granted();
        alice.sync(Sync::since(&before)).await.silent(&room);
        let body = json!({ "user_id": bob.id, "reason": "now with a reason" });
        alice.act(&room, "ban", body).await.granted();
        let news = alice.sync(Sync::since(&before)).await;
        let ban = news.joined(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(ban["content"]["reason"], "now with a reason");
    });
}

#[test]
fn banning_takes_the_level_and_more_than_the_target_has() {
    SERVER.run(async |server| {
        let [alice, bob, carol, dave] = server.users(["alice", "bob", "carol", "dave"]).await;
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "power_level_content_override": {
                    "ban": 55,
                    "users": { &bob.id: 54, &carol.id: 60, &dave.id: 60 },
                },
            }))
            .await;
        for user in [&bob, &carol] {
            user.join(&room).await.granted();
        }
        let erin = server.user("erin").await;
        bob.ban(&room, &erin).await.forbidden().says("55").says("54");
        carol.ban(&room, &dave).await.forbidden().says("60");
        carol.ban(&room, &alice).await.forbidden();
        carol.ban(&room, &erin).await.granted();
        carol.ban(&room, &bob).await.granted();
        alice.ban(&room, &carol).await.granted();
    });
}

#[test]
fn only_members_ban_and_unban() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "power_level_content_override": { "users": { &bob.id: 100 } },
            }))
            .await;
        bob.ban(&room, &carol).await.forbidden();
        alice.ban(&room, &carol).await.granted();
        bob.unban(&room, &carol).await.forbidden();
        assert_eq!(alice.membership(&room, &carol).await, "ban");
    });
}

#[test]
fn creators_cannot_ban_each_other() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "creation_content": { "additional_creators": [bob.id] },
            }))
            .await;
        bob.join(&room).await.granted();
        alice.ban(&room, &bob).await.forbidden();
        bob.ban(&room, &alice).await.forbidden();
        bob.kick(&room, &alice).await.forbidden();
        bob.ban(&room, &bob).await.forbidden();
    });
}

#[test]
fn an_unban_opens_the_door_again() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.ban(&room, &bob).await.granted();
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        let body = json!({ "user_id": bob.id, "reason": "forgiven" });
        assert_eq!(alice.act(&room, "unban", body).await.granted(), json!({}));
        let news = alices.until_in("join", &room).await;
        let unban = news.joined(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(unban["content"]["membership"], "leave");
        assert_eq!(unban["content"]["reason"], "forgiven");
        assert_eq!(unban["unsigned"]["prev_content"]["membership"], "ban");
        let news = bobs.until_in("leave", &room).await;
        assert_eq!(news.left(&room).membership(&bob), Some("leave"));
        bob.join(&room).await.granted();
    });
}

#[test]
fn only_the_banned_can_be_unbanned() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        alice.unban(&room, &bob).await.refused(403, "M_BAD_STATE");
        bob.join(&room).await.granted();
        alice.unban(&room, &bob).await.refused(403, "M_BAD_STATE");
        // Least of all may it be a kick.
        assert_eq!(alice.membership(&room, &bob).await, "join");
        bob.leave(&room).await.granted();
        alice.unban(&room, &bob).await.refused(403, "M_BAD_STATE");
        // Nor can they be twice.
        alice.ban(&room, &bob).await.granted();
        alice.unban(&room, &bob).await.granted();
        alice.unban(&room, &bob).await.refused(403, "M_BAD_STATE").says("no ban");
    });
}

#[test]
fn unbanning_takes_the_levels_to_ban_and_to_kick() {
    SERVER.run(async |server| {
        let [alice, bob, carol, dave] = server.users(["alice", "bob", "carol", "dave"]).await;
        for (ban, kick) in [(60, 40), (40, 60)] {
            let room = alice
                .new_room(json!({
                    "preset": "public_chat",
                    "power_level_content_override": {
                        "ban": ban, "kick": kick, "users": { &bob.id: 50, &carol.id: 60 },
                    },
                }))
                .await;
            bob.join(&room).await.granted();
            carol.join(&room).await.granted();
            alice.ban(&room, &dave).await.granted();
            bob.unban(&room, &dave).await.forbidden().says("60").says("50");
            carol.unban(&room, &dave).await.granted();
        }
    });
}

#[test]
fn bad_input_is_told_apart() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        for verb in ["ban", "unban"] {
            alice.act(&room, verb, json!({})).await.refused_with_status(400);
            alice.act(&room, verb, json!({ "user_id": 5 })).await.refused(400, "M_BAD_JSON");
            alice.act(&room, verb, json!({ "user_id": "bob" })).await.refused_with_status(400);
            let reason = json!({ "user_id": bob.id, "reason": 5 });
            alice.act(&room, verb, reason).await.refused(400, "M_BAD_JSON");
        }
        bob.join(&room).await.granted();
    });
}
