//! Profiles, and how they get into member events.

use serde_json::json;

use crate::support::{SharedServer, Sync, TestUser, v3};

static SERVER: SharedServer = SharedServer::new();

async fn rename(user: &TestUser, name: &str) {
    let body = json!({ "displayname": name });
    user.put(&["profile", &user.id, "displayname"], &body).await.granted();
}

#[test]
fn a_profile_is_set_and_read_by_all() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        rename(&alice, "Alice").await;
        let avatar = json!({ "avatar_url": "mxc://localhost/alice" });
        alice.put(&["profile", &alice.id, "avatar_url"], &avatar).await.granted();
        let profile = bob.get(&["profile", &alice.id]).await.granted();
        let both = json!({ "displayname": "Alice", "avatar_url": "mxc://localhost/alice" });
        assert_eq!(profile, both);
        let path = v3(&["profile", &alice.id, "displayname"]);
        assert_eq!(server.http().get(&path).await.granted(), json!({ "displayname": "Alice" }));
    });
}

#[test]
fn a_new_name_shows_in_every_room_at_once() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        rename(&bob, "Bob").await;
        let first = alice.public_room().await;
        let second = alice.public_room().await;
        bob.join(&first).await.granted();
        bob.join(&second).await.granted();
        let before = alice.sync(Sync::initial()).await;
        rename(&bob, "Robert").await;
        let news = alice.sync(Sync::since(&before)).await;
        for room in [&first, &second] {
            let member = news.joined(room).happened("m.room.member", &bob.id).unwrap();
            assert_eq!(member["content"]["membership"], "join");
            assert_eq!(member["content"]["displayname"], "Robert");
            assert_eq!(member["unsigned"]["prev_content"]["displayname"], "Bob");
        }
    });
}

#[test]
fn only_joined_rooms_are_rewritten() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let left = alice.public_room().await;
        bob.join(&left).await.granted();
        bob.leave(&left).await.granted();
        let invited = alice.private_room().await;
        alice.invite(&invited, &bob).await.granted();
        rename(&bob, "Robert").await;
        assert_eq!(alice.membership(&left, &bob).await, "leave");
        assert_eq!(alice.membership(&invited, &bob).await, "invite");
    });
}

#[test]
fn the_same_name_again_is_no_news() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        rename(&alice, "Alice").await;
        let before = alice.sync(Sync::initial()).await;
        rename(&alice, "Alice").await;
        alice.sync(Sync::since(&before)).await.silent(&room);
    });
}

#[test]
fn nobody_changes_others_profiles() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let body = json!({ "displayname": "Fool" });
        bob.put(&["profile", &alice.id, "displayname"], &body).await.forbidden();
        let nobody = format!("@nobody:{}", server.name());
        bob.get(&["profile", &nobody]).await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn bad_values_are_refused() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let path = ["profile", &alice.id, "displayname"];
        alice.put(&path, &json!({ "displayname": 5 })).await.refused_with_status(400);
        alice.put(&path, &json!({})).await.refused_with_status(400);
        let long = json!({ "displayname": "x".repeat(70_000) });
        let answer = alice.put(&path, &long).await;
        assert!([400, 413].contains(&answer.status), "{}", answer.text);
    });
}
