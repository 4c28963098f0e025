//! `POST /rooms/{roomId}/invite`.

use serde_json::json;

use crate::support::{SharedServer, Sync, find, has};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn an_invitation_shows_at_once_with_what_a_client_needs() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.new_room(json!({ "name": "Tea", "topic": "At five" })).await;
        alice.invite(&room, &bob).await.granted();

        let answer = bob.sync(Sync::initial()).await;
        let stripped = answer.invited(&room).stripped();
        let create = find(stripped, "m.room.create", "");
        assert_eq!(create["content"]["room_version"], "12");
        assert_eq!(create["sender"], alice.id.as_str());
        let invite = find(stripped, "m.room.member", &bob.id);
        assert_eq!(invite["content"]["membership"], "invite");
        assert_eq!(invite["sender"], alice.id.as_str());
        let inviter = find(stripped, "m.room.member", &alice.id);
        assert_eq!(inviter["content"]["membership"], "join");
        assert_eq!(find(stripped, "m.room.name", "")["content"]["name"], "Tea");
        assert_eq!(find(stripped, "m.room.join_rules", "")["content"]["join_rule"], "invite");
        for event in stripped {
            for key in ["type", "state_key", "sender", "content"] {
                assert!(event.get(key).is_some(), "{event} has no {key}");
            }
            for key in ["event_id", "room_id", "auth_events", "hashes", "signatures"] {
                assert!(event.get(key).is_none(), "{event} has {key}");
            }
        }
    });
}

#[test]
fn both_sides_see_it_live() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        alice.invite(&room, &bob).await.granted();
        bobs.until_in("invite", &room).await;
        let news = alices.until_in("join", &room).await;
        assert_eq!(news.joined(&room).membership(&bob), Some("invite"));
    });
}

#[test]
fn the_invitation_carries_the_guests_profile_and_the_reason() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let name = json!({ "displayname": "Bob the guest" });
        bob.put(&["profile", &bob.id, "displayname"], &name).await.granted();
        let room = alice.private_room().await;
        let body = json!({ "user_id": bob.id, "reason": "for tea" });
        alice.act(&room, "invite", body).await.granted();
        let member = alice.member(&room, &bob).await;
        assert_eq!(member["membership"], "invite");
        assert_eq!(member["displayname"], "Bob the guest");
        assert_eq!(member["reason"], "for tea");
        let answer = bob.sync(Sync::initial()).await;
        let invite = find(answer.invited(&room).stripped(), "m.room.member", &bob.id);
        assert_eq!(invite["content"]["reason"], "for tea");
        assert_eq!(invite["content"]["displayname"], "Bob the guest");
    });
}

#[test]
fn inviting_again_changes_nothing() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.invite(&room, &bob).await.granted();
        let before = alice.sync(Sync::initial()).await;
        alice.invite(&room, &bob).await.granted();
        alice.sync(Sync::since(&before)).await.silent(&room);
    });
}

#[test]
fn who_left_or_declined_can_be_invited_again() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.bring(&room, &bob).await;
        bob.leave(&room).await.granted();
        alice.invite(&room, &bob).await.granted();
        bob.sync(Sync::initial()).await.invited(&room);
        bob.leave(&room).await.granted();
        assert_eq!(alice.membership(&room, &bob).await, "leave");
        alice.invite(&room, &bob).await.granted();
        bob.join(&room).await.granted();
        assert_eq!(alice.membership(&room, &bob).await, "join");
    });
}

#[test]
fn only_members_invite() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        bob.invite(&room, &carol).await.forbidden();
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        bob.invite(&room, &carol).await.forbidden();
        // An invitation alone does not suffice either.
        alice.invite(&room, &bob).await.granted();
        bob.invite(&room, &carol).await.forbidden();
        carol.sync(Sync::initial()).await.silent(&room);
    });
}

#[test]
fn members_cannot_be_invited() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        alice.invite(&room, &bob).await.forbidden();
        alice.invite(&room, &alice).await.forbidden();
        assert_eq!(alice.membership(&room, &bob).await, "join");
        assert_eq!(alice.membership(&room, &alice).await, "join");
    });
}

#[test]
fn the_banned_cannot_be_invited() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.ban(&room, &bob).await.granted();
        alice.invite(&room, &bob).await.forbidden().says("ban");
        alice.unban(&room, &bob).await.granted();
        alice.invite(&room, &bob).await.granted();
        bob.join(&room).await.granted();
    });
}

#[test]
fn inviting_takes_the_rooms_level() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice
            .new_room(json!({
                "preset": "public_chat",
                "power_level_content_override": { "invite": 30, "users": { &bob.id: 29 } },
            }))
            .await;
        bob.join(&room).await.granted();
        bob.invite(&room, &carol).await.forbidden().says("30").says("29");
        let levels = json!({ "invite": 30, "users": { &bob.id: 30 } });
        alice.put_state(&room, "m.room.power_levels", "", levels).await.granted();
        bob.invite(&room, &carol).await.granted();
        carol.sync(Sync::initial()).await.invited(&room);
    });
}

#[test]
fn an_outsider_learns_no_levels() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let options = json!({ "power_level_content_override": { "invite": 77 } });
        let room = alice.new_room(options).await;
        let answer = bob.invite(&room, &carol).await;
        assert!(!answer.text.contains("77"), "{}", answer.text);
        answer.forbidden();
    });
}

#[test]
fn an_invitation_is_declined_by_leaving() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        alice.invite(&room, &bob).await.granted();
        bobs.until_in("invite", &room).await;
        bob.act(&room, "leave", json!({ "reason": "no tea" })).await.granted();
        let news = bobs.until_in("leave", &room).await;
        assert_eq!(news.left(&room).membership(&bob), Some("leave"));
        let news = alices
            .until("bob's answer", |news| news.room(&room).membership(&bob) == Some("leave"))
            .await;
        let declined = news.joined(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(declined["content"]["reason"], "no tea");
        assert_eq!(declined["unsigned"]["prev_content"]["membership"], "invite");
        assert_eq!(declined["sender"], bob.id.as_str());
        bob.join(&room).await.forbidden();
    });
}

#[test]
fn an_invitation_is_withdrawn_by_kicking() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        let mut bobs = bob.listens().await;
        alice.invite(&room, &bob).await.granted();
        bobs.until_in("invite", &room).await;
        alice.kick(&room, &bob).await.granted();
        let news = bobs.until_in("leave", &room).await;
        assert_eq!(news.left(&room).membership(&bob), Some("leave"));
        bob.sync(Sync::initial()).await.silent(&room);
        bob.join(&room).await.forbidden();
    });
}

#[test]
fn the_invited_read_nothing_yet() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        let said = alice.say(&room, "not for guests").await;
        alice.invite(&room, &bob).await.granted();
        bob.state(&room).await.forbidden();
        bob.members(&room, &[]).await.forbidden();
        bob.messages(&room).await.forbidden();
        bob.event(&room, &said).await.refused(404, "M_NOT_FOUND");
        bob.send(&room, json!({ "body": "hello" })).await.forbidden();
        assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
    });
}

#[test]
fn a_room_that_nobody_knows_is_refused() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        for room in ["!nowhere:localhost", "!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let answer = alice.invite(room, &bob).await;
            assert!([403, 404].contains(&answer.status), "{}: {}", answer.status, answer.text);
        }
        let answer = alice.invite("not-a-room-id", &bob).await;
        assert!((400..405).contains(&answer.status), "{}: {}", answer.status, answer.text);
    });
}

#[test]
fn bad_bodies_are_told_apart() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        alice.act(&room, "invite", json!({})).await.refused_with_status(400);
        alice.post_empty(&["rooms", &room, "invite"]).await.refused_with_status(400);
        alice.act(&room, "invite", json!({ "user_id": 5 })).await.refused(400, "M_BAD_JSON");
        alice.act(&room, "invite", json!({ "user_id": "bob" })).await.refused_with_status(400);
        let reason = json!({ "user_id": "@bob:localhost", "reason": 5 });
        alice.act(&room, "invite", reason).await.refused(400, "M_BAD_JSON");
        let members = alice.members(&room, &[]).await.granted();
        assert_eq!(members["chunk"].as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn two_invitations_are_two_rooms() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let first = alice.private_room().await;
        let second = carol.private_room().await;
        alice.invite(&first, &bob).await.granted();
        carol.invite(&second, &bob).await.granted();
        let answer = bob.sync(Sync::initial()).await;
        assert!(has(answer.invited(&first).stripped(), "m.room.member", &alice.id));
        assert!(!has(answer.invited(&first).stripped(), "m.room.member", &carol.id));
        assert!(has(answer.invited(&second).stripped(), "m.room.member", &carol.id));
        bob.join(&second).await.granted();
        bob.leave(&first).await.granted();
        assert_eq!(bob.joined_rooms().await, [second]);
    });
}
