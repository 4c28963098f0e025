//! `POST /knock/{roomIdOrAlias}` and `POST /rooms/{roomId}/knock`.

use serde_json::json;

use crate::support::{SharedServer, Sync, find};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn a_knock_shows_at_both_sides_at_once() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice
            .new_room(json!({
                "name": "Tea",
                "initial_state": [{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }],
            }))
            .await;
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        let body = json!({ "reason": "I brought cake" });
        assert_eq!(bob.post(&["knock", &room], &body).await.granted(), json!({ "room_id": room }));

        let news = bobs.until_in("knock", &room).await;
        let stripped = news.knocked(&room).stripped();
        assert_eq!(find(stripped, "m.room.create", "")["content"]["room_version"], "12");
        assert_eq!(find(stripped, "m.room.name", "")["content"]["name"], "Tea");
        assert_eq!(find(stripped, "m.room.join_rules", "")["content"]["join_rule"], "knock");
        let own = find(stripped, "m.room.member", &bob.id);
        assert_eq!(own["content"]["membership"], "knock");
        assert_eq!(own["content"]["reason"], "I brought cake");

        let news = alices.until_in("join", &room).await;
        let knock = news.joined(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(knock["content"]["membership"], "knock");
        assert_eq!(knock["content"]["reason"], "I brought cake");
        bob.sync(Sync::initial()).await.knocked(&room);
    });
}

#[test]
fn every_form_knocks() {
    SERVER.run(async |server| {
        let [alice, bob, carol, dave] = server.users(["alice", "bob", "carol", "dave"]).await;
        let name = format!("knock-{}", alice.localpart);
        let room = alice
            .new_room(json!({
                "room_alias_name": name,
                "initial_state": [{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }],
            }))
            .await;
        let alias = format!("#{name}:{}", server.name());
        assert_eq!(bob.knock(&alias).await.granted(), json!({ "room_id": room }));
        carol.post_empty(&["rooms", &room, "knock"]).await.granted();
        dave.act(&room, "knock", json!({ "reason": "me too" })).await.granted();
        for user in [&bob, &carol, &dave] {
            assert_eq!(alice.membership(&room, user).await, "knock");
        }
        assert_eq!(alice.member(&room, &dave).await["reason"], "me too");
    });
}

#[test]
fn a_knock_carries_the_profile() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let name = json!({ "displayname": "Bob at the door" });
        bob.put(&["profile", &bob.id, "displayname"], &name).await.granted();
        let room = alice.room_with_rule("knock").await;
        bob.knock(&room).await.granted();
        assert_eq!(alice.member(&room, &bob).await["displayname"], "Bob at the door");
    });
}

#[test]
fn a_knock_is_accepted_by_an_invitation() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        let mut bobs = bob.listens().await;
        bob.knock(&room).await.granted();
        bobs.until_in("knock", &room).await;
        alice.invite(&room, &bob).await.granted();
        bobs.until_in("invite", &room).await;
        bob.join(&room).await.granted();
        bobs.until_in("join", &room).await;
        assert_eq!(alice.membership(&room, &bob).await, "join");
    });
}

#[test]
fn a_knock_is_denied_by_kicking() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        let mut bobs = bob.listens().await;
        bob.knock(&room).await.granted();
        bobs.until_in("knock", &room).await;
        let body = json!({ "user_id": bob.id, "reason": "not today" });
        alice.act(&room, "kick", body).await.granted();
        let news = bobs.until_in("leave", &room).await;
        let denied = news.left(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(denied["content"]["membership"], "leave");
        assert_eq!(denied["content"]["reason"], "not today");
        assert_eq!(denied["unsigned"]["prev_content"]["membership"], "knock");
        bob.sync(Sync::initial()).await.silent(&room);
        // Another try is another knock.
        bob.knock(&room).await.granted();
        bobs.until_in("knock", &room).await;
    });
}

#[test]
fn a_knock_is_withdrawn_by_leaving() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        let mut bobs = bob.listens().await;
        bob.knock(&room).await.granted();
        bobs.until_in("knock", &room).await;
        bob.leave(&room).await.granted();
        let news = bobs.until_in("leave", &room).await;
        assert_eq!(news.left(&room).membership(&bob), Some("leave"));
        assert_eq!(alice.membership(&room, &bob).await, "leave");
    });
}

#[test]
fn the_knocking_can_be_banned() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        bob.knock(&room).await.granted();
        let mut bobs = bob.listens().await;
        alice.ban(&room, &bob).await.granted();
        let news = bobs.until_in("leave", &room).await;
        assert_eq!(news.left(&room).membership(&bob), Some("ban"));
        bob.knock(&room).await.forbidden().says("ban");
    });
}

#[test]
fn knocking_again_keeps_the_knock() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        bob.knock(&room).await.granted();
        let before = alice.sync(Sync::initial()).await;
        bob.knock(&room).await.granted();
        alice.sync(Sync::since(&before)).await.silent(&room);
        // With something new to say it is a new knock.
        bob.post(&["knock", &room], &json!({ "reason": "still here" })).await.granted();
        let news = alice.sync(Sync::since(&before)).await;
        let knock = news.joined(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(knock["content"]["reason"], "still here");
    });
}

#[test]
fn the_rule_must_allow_knocking() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        for rule in ["public", "invite", "private", "restricted"] {
            let room = alice.room_with_rule(rule).await;
            bob.knock(&room).await.forbidden().says("knock");
            bob.sync(Sync::initial()).await.silent(&room);
        }
        for rule in ["knock", "knock_restricted"] {
            let room = alice.room_with_rule(rule).await;
            bob.knock(&room).await.granted();
        }
    });
}

#[test]
fn the_version_must_know_knocking() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let knock = |version: &str, rule: &str| {
            json!({
                "room_version": version,
                "initial_state": [
                    { "type": "m.room.join_rules", "content": { "join_rule": rule } },
                ],
            })
        };
        for (version, rule, allowed) in [
            ("6", "knock", false),
            ("7", "knock", true),
            ("9", "knock_restricted", false),
            ("10", "knock_restricted", true),
        ] {
            let room = alice.new_room(knock(version, rule)).await;
            let answer = bob.knock(&room).await;
            if allowed {
                answer.granted();
            } else {
                answer.forbidden();
            }
        }
    });
}

#[test]
fn the_invited_the_joined_and_the_banned_do_not_knock() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        alice.knock(&room).await.forbidden();
        alice.invite(&room, &bob).await.granted();
        bob.knock(&room).await.forbidden();
        bob.join(&room).await.granted();
        bob.knock(&room).await.forbidden();
        bob.leave(&room).await.granted();
        bob.knock(&room).await.granted();
        alice.ban(&room, &bob).await.granted();
        bob.knock(&room).await.forbidden();
        assert_eq!(alice.membership(&room, &bob).await, "ban");
    });
}

#[test]
fn the_knocking_read_nothing() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        alice.say(&room, "inside").await;
        bob.knock(&room).await.granted();
        bob.state(&room).await.forbidden();
        bob.members(&room, &[]).await.forbidden();
        bob.messages(&room).await.forbidden();
        bob.send(&room, json!({ "body": "hello" })).await.forbidden();
        bob.join(&room).await.forbidden();
    });
}

#[test]
fn unknown_rooms_and_bad_bodies_are_told_apart() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        let name = server.name();
        for unknown in [format!("!nowhere:{name}"), format!("#nowhere:{name}")] {
            bob.knock(&unknown).await.refused(404, "M_NOT_FOUND");
        }
        bob.knock("neither").await.refused_with_status(400);
        bob.post(&["knock", &room], &json!({ "reason": 5 })).await.refused(400, "M_BAD_JSON");
        bob.act(&room, "knock", json!({ "reason": [] })).await.refused(400, "M_BAD_JSON");
    });
}
