//! `POST /rooms/{roomId}/forget`.

use serde_json::json;

use crate::support::{SharedServer, Sync};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn a_forgotten_room_is_gone_for_its_user_only() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        let with_left = json!({ "room": { "include_leave": true } });
        bob.sync(Sync::initial().filter(&with_left)).await.left(&room);
        assert_eq!(bob.forget(&room).await.granted(), json!({}));
        bob.sync(Sync::initial().filter(&with_left)).await.silent(&room);
        bob.messages(&room).await.forbidden();
        bob.state(&room).await.forbidden();
        bob.members(&room, &[]).await.forbidden();
        assert_eq!(alice.membership(&room, &bob).await, "leave");
        alice.sync(Sync::initial()).await.joined(&room);
    });
}

#[test]
fn the_other_devices_still_learn_of_the_leave() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let before = bob.sync(Sync::initial()).await;
        bob.leave(&room).await.granted();
        bob.forget(&room).await.granted();
        bob.sync(Sync::since(&before)).await.left(&room);
    });
}

#[test]
fn forgetting_again_is_no_error() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        bob.forget(&room).await.granted();
        bob.forget(&room).await.granted();
    });
}

#[test]
fn who_comes_back_remembers() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.say(&room, "before").await;
        bob.leave(&room).await.granted();
        bob.forget(&room).await.granted();
        bob.join(&room).await.granted();
        bob.sync(Sync::initial()).await.joined(&room);
        assert_eq!(bob.reads(&room).await, ["before"]);
    });
}

#[test]
fn a_new_invitation_or_knock_brings_the_room_back() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        alice.bring(&room, &bob).await;
        bob.leave(&room).await.granted();
        bob.forget(&room).await.granted();
        alice.invite(&room, &bob).await.granted();
        bob.sync(Sync::initial()).await.invited(&room);
        bob.leave(&room).await.granted();
        bob.forget(&room).await.granted();
        bob.knock(&room).await.granted();
        bob.sync(Sync::initial()).await.knocked(&room);
    });
}

#[test]
fn the_kicked_the_banned_and_who_declined_may_forget() {
    SERVER.run(async |server| {
        let [alice, bob, carol, dave] = server.users(["alice", "bob", "carol", "dave"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        carol.join(&room).await.granted();
        alice.kick(&room, &bob).await.granted();
        alice.ban(&room, &carol).await.granted();
        alice.invite(&room, &dave).await.granted();
        dave.leave(&room).await.granted();
        for user in [&bob, &carol, &dave] {
            user.forget(&room).await.granted();
        }
        carol.join(&room).await.forbidden().says("ban");
    });
}

#[test]
fn members_cannot_forget() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        alice.forget(&room).await.refused(400, "M_UNKNOWN").says("leave");
        bob.knock(&room).await.granted();
        bob.forget(&room).await.refused(400, "M_UNKNOWN");
        alice.invite(&room, &bob).await.granted();
        bob.forget(&room).await.refused(400, "M_UNKNOWN");
        bob.sync(Sync::initial()).await.invited(&room);
    });
}

#[test]
fn a_room_one_was_never_in_cannot_be_forgotten() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let answer = bob.forget(&room).await;
        assert!([400, 403, 404].contains(&answer.status), "{}: {}", answer.status, answer.text);
        let answer = bob.forget(&format!("!nowhere:{}", server.name())).await;
        assert!([400, 403, 404].contains(&answer.status), "{}: {}", answer.status, answer.text);
    });
}
