//! `PUT /rooms/{roomId}/state/m.room.member/{userId}`: another door to the verbs, and nothing more.

use serde_json::{Value, json};

use crate::support::{SharedServer, Sync, TestUser};

static SERVER: SharedServer = SharedServer::new();

fn membership(name: &str) -> Value {
    json!({ "membership": name })
}

#[test]
fn every_verb_has_this_door() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        let steps: [(&TestUser, &str, &str); 9] = [
            (&bob, "knock", "knock"),
            (&alice, "invite", "invite"),
            (&bob, "join", "join"),
            (&bob, "leave", "leave"),
            (&alice, "ban", "ban"),
            (&alice, "leave", "leave"), // an unban
            (&alice, "invite", "invite"),
            (&alice, "leave", "leave"), // the invitation is withdrawn
            (&alice, "ban", "ban"),
        ];
        for (who, put, now) in steps {
            let content = json!({ "membership": put, "reason": "by the other door" });
            who.put_member(&room, &bob, content).await.event_id();
            let member = alice.member(&room, &bob).await;
            assert_eq!(member["membership"], now, "after {put} by {who:?}");
            assert_eq!(member["reason"], "by the other door");
        }
    });
}

#[test]
fn what_the_door_writes_is_seen_live() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        let mut bobs = bob.listens().await;
        alice.put_member(&room, &bob, membership("invite")).await.granted();
        bobs.until_in("invite", &room).await;
        bob.put_member(&room, &bob, membership("join")).await.granted();
        bobs.until_in("join", &room).await;
        alice.put_member(&room, &bob, membership("leave")).await.granted();
        let news = bobs.until_in("leave", &room).await;
        assert_eq!(news.left(&room).membership(&bob), Some("leave"));
    });
}

#[test]
fn the_verbs_refusals_hold_here_too() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.private_room().await;
        bob.put_member(&room, &bob, membership("join")).await.forbidden();
        bob.put_member(&room, &bob, membership("knock")).await.forbidden();
        bob.put_member(&room, &carol, membership("invite")).await.forbidden();
        bob.put_member(&room, &carol, membership("ban")).await.forbidden();
        alice.put_member(&room, &alice, membership("invite")).await.forbidden();
        alice.ban(&room, &bob).await.granted();
        alice.put_member(&room, &bob, membership("invite")).await.forbidden().says("ban");
        bob.put_member(&room, &bob, membership("leave")).await.forbidden().says("ban");
        assert_eq!(alice.membership(&room, &bob).await, "ban");
    });
}

#[test]
fn nobody_joins_or_knocks_for_somebody_else() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        alice.put_member(&room, &bob, membership("join")).await.forbidden();
        alice.invite(&room, &bob).await.granted();
        alice.put_member(&room, &bob, membership("join")).await.forbidden();
        let knocking = alice.room_with_rule("knock").await;
        alice.put_member(&knocking, &bob, membership("knock")).await.forbidden();
        assert_eq!(alice.membership(&room, &bob).await, "invite");
    });
}

#[test]
fn a_name_for_one_room_is_kept() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let content = json!({ "membership": "join", "displayname": "Captain", "org.example": 1 });
        bob.put_member(&room, &bob, content.clone()).await.granted();
        assert_eq!(alice.member(&room, &bob).await, content);
    });
}

#[test]
fn the_same_again_is_the_same_event() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let content = json!({ "membership": "join", "displayname": "Captain" });
        let first = bob.put_member(&room, &bob, content.clone()).await.event_id();
        let before = alice.sync(Sync::initial()).await;
        assert_eq!(bob.put_member(&room, &bob, content).await.event_id(), first);
        alice.sync(Sync::since(&before)).await.silent(&room);
    });
}

#[test]
fn a_client_cannot_name_its_own_authoriser() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let content = json!({ "membership": "join", "join_authorised_via_users_server": alice.id });
        bob.put_member(&room, &bob, content).await.granted();
        let member = alice.member(&room, &bob).await;
        assert_eq!(member["membership"], "join");
        assert!(member.get("join_authorised_via_users_server").is_none(), "{member}");
    });
}

#[test]
fn a_restricted_room_opens_by_this_door_too() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let club = alice.public_room().await;
        let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
        let rules = json!({ "join_rule": "restricted", "allow": allow });
        let state = json!([{ "type": "m.room.join_rules", "content": rules }]);
        let room = alice.new_room(json!({ "initial_state": state })).await;
        bob.put_member(&room, &bob, membership("join")).await.forbidden();
        bob.join(&club).await.granted();
        bob.put_member(&room, &bob, membership("join")).await.granted();
        let member = alice.member(&room, &bob).await;
        assert_eq!(member["join_authorised_via_users_server"], alice.id.as_str());
    });
}

#[test]
fn bad_content_and_bad_keys_are_refused() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        for content in [
            json!({}),
            json!({ "membership": "" }),
            json!({ "membership": "member" }),
            json!({ "membership": 1 }),
            json!({ "membership": null }),
        ] {
            bob.put_member(&room, &bob, content).await.refused_with_status(400);
        }
        for key in ["", "bob", "@bob", "localhost"] {
            let content = membership("invite");
            let answer = alice.put_state(&room, "m.room.member", key, content).await;
            answer.refused_with_status(400);
        }
        assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
    });
}
