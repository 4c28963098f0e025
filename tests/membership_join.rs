//! `POST /join/{roomIdOrAlias}` and `POST /rooms/{roomId}/join`.

use serde_json::{Value, json};

use crate::support::{SharedServer, Sync, TestUser, find, has, v3};

static SERVER: SharedServer = SharedServer::new();

/// A room that members of `others` may join.
async fn restricted_room(owner: &TestUser, version: &str, rule: &str, others: &[&str]) -> String {
    let allow: Vec<Value> =
        others.iter().map(|room| json!({ "type": "m.room_membership", "room_id": room })).collect();
    owner
        .new_room(json!({
            "room_version": version,
            "initial_state": [{
                "type": "m.room.join_rules",
                "content": { "join_rule": rule, "allow": allow },
            }],
        }))
        .await
}

#[test]
fn anyone_joins_a_public_room() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
        assert_eq!(bob.join(&room).await.granted(), json!({ "room_id": room }));

        let news = bobs.until_in("join", &room).await;
        let there = news.joined(&room);
        let events = [there.state(), there.timeline()].concat();
        assert!(has(&events, "m.room.create", ""), "a new member gets all of the state");
        assert_eq!(there.membership(&bob), Some("join"));
        let news = alices.until_in("join", &room).await;
        assert_eq!(news.joined(&room).membership(&bob), Some("join"));
        assert_eq!(bob.joined_rooms().await, [room]);
    });
}

#[test]
fn both_forms_and_the_alias_join() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let name = format!("door-{}", alice.localpart);
        let room =
            alice.new_room(json!({ "preset": "public_chat", "room_alias_name": name })).await;
        assert_eq!(bob.join_by(&room).await.granted(), json!({ "room_id": room }));
        let alias = format!("#{name}:{}", server.name());
        assert_eq!(carol.join_by(&alias).await.granted(), json!({ "room_id": room }));
        let via = carol.http.url(&v3(&["join", &room]));
        let request = carol.http.request(reqwest::Method::POST, via);
        let query = [("via", "elsewhere"), ("server_name", "elsewhere")];
        assert_eq!(
            carol.http.send(request.query(&query)).await.granted(),
            json!({ "room_id": room })
        );
    });
}

#[test]
fn the_member_event_has_the_profile_the_reason_and_what_else_was_sent() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let name = json!({ "displayname": "Bob" });
        bob.put(&["profile", &bob.id, "displayname"], &name).await.granted();
        let avatar = json!({ "avatar_url": "mxc://localhost/bob" });
        bob.put(&["profile", &bob.id, "avatar_url"], &avatar).await.granted();
        let room = alice.public_room().await;
        let body = json!({ "reason": "curious", "org.example.mood": { "glad": true } });
        bob.act(&room, "join", body).await.granted();
        let member = alice.member(&room, &bob).await;
        assert_eq!(member["membership"], "join");
        assert_eq!(member["displayname"], "Bob");
        assert_eq!(member["avatar_url"], "mxc://localhost/bob");
        assert_eq!(member["reason"], "curious");
        assert_eq!(member["org.example.mood"], json!({ "glad": true }));
    });
}

#[test]
fn a_client_cannot_name_its_own_authoriser_or_membership() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let body = json!({ "join_authorised_via_users_server": alice.id, "membership": "ban" });
        bob.act(&room, "join", body).await.granted();
        let member = alice.member(&room, &bob).await;
        assert_eq!(member["membership"], "join");
        assert!(member.get("join_authorised_via_users_server").is_none(), "{member}");
    });
}

#[test]
fn joining_twice_makes_no_second_event() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let before = alice.sync(Sync::initial()).await;
        assert_eq!(bob.join(&room).await.granted(), json!({ "room_id": room }));
        alice.sync(Sync::since(&before)).await.silent(&room);
    });
}

#[test]
fn joining_accepts_an_invitation() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.invite(&room, &bob).await.granted();
        let mut bobs = bob.listens().await;
        bob.join(&room).await.granted();
        let news = bobs.until_in("join", &room).await;
        let join = news.joined(&room).happened("m.room.member", &bob.id).unwrap();
        assert_eq!(join["unsigned"]["prev_content"]["membership"], "invite");
        assert_eq!(bob.membership(&room, &alice).await, "join");
    });
}

#[test]
fn a_private_room_is_for_the_invited() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        bob.join(&room).await.forbidden().says("invit");
        bob.join_by(&room).await.forbidden().says("invit");
        bob.sync(Sync::initial()).await.silent(&room);
        alice.members(&room, &[]).await.granted();
    });
}

#[test]
fn the_banned_cannot_join_even_a_public_room() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        alice.ban(&room, &bob).await.granted();
        bob.join(&room).await.forbidden().says("ban");
        assert_eq!(alice.membership(&room, &bob).await, "ban");
    });
}

#[test]
fn who_left_a_public_room_may_come_back() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        let before = bob.sync(Sync::initial()).await;
        bob.join(&room).await.granted();
        let answer = bob.sync(Sync::since(&before)).await;
        let there = answer.joined(&room);
        assert!(has(&[there.state(), there.timeline()].concat(), "m.room.create", ""));
    });
}

#[test]
fn a_knock_rule_needs_an_invitation() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        bob.join(&room).await.forbidden();
        alice.invite(&room, &bob).await.granted();
        bob.join(&room).await.granted();
    });
}

#[test]
fn nobody_joins_under_an_unknown_rule() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        for rule in ["private", "org.example.new"] {
            let room = alice.room_with_rule(rule).await;
            alice.invite(&room, &bob).await.granted();
            bob.join(&room).await.forbidden();
            assert_eq!(alice.membership(&room, &bob).await, "invite");
        }
    });
}

#[test]
fn a_restricted_room_is_open_to_the_members_of_another() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let club = alice.public_room().await;
        for (version, rule) in [
            ("8", "restricted"),
            ("9", "restricted"),
            ("10", "knock_restricted"),
            ("12", "restricted"),
            ("12", "knock_restricted"),
        ] {
            let room = restricted_room(&alice, version, rule, &[&club]).await;
            carol.join(&room).await.forbidden();
            bob.join(&club).await.granted();
            bob.join(&room).await.granted();
            let member = alice.member(&room, &bob).await;
            assert_eq!(member["membership"], "join");
            assert_eq!(member["join_authorised_via_users_server"], alice.id.as_str());
            // Once in, one stays in; and leaving the club closes the door only for coming back.
            bob.leave(&club).await.granted();
            bob.join(&room).await.granted();
            bob.leave(&room).await.granted();
            bob.join(&room).await.forbidden();
        }
    });
}

#[test]
fn the_invited_need_no_other_room() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let club = alice.private_room().await;
        let room = restricted_room(&alice, "12", "restricted", &[&club]).await;
        alice.invite(&room, &bob).await.granted();
        bob.join(&room).await.granted();
        let member = alice.member(&room, &bob).await;
        assert!(member.get("join_authorised_via_users_server").is_none(), "{member}");
    });
}

#[test]
fn a_profile_change_does_not_copy_the_authoriser() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let club = alice.public_room().await;
        let room = restricted_room(&alice, "12", "restricted", &[&club]).await;
        bob.join(&club).await.granted();
        bob.act(&room, "join", json!({ "reason": "the club" })).await.granted();
        let name = json!({ "displayname": "Robert" });
        bob.put(&["profile", &bob.id, "displayname"], &name).await.granted();
        let member = alice.member(&room, &bob).await;
        assert_eq!(member["displayname"], "Robert");
        assert!(member.get("join_authorised_via_users_server").is_none(), "{member}");
        assert!(member.get("reason").is_none(), "{member}");
    });
}

#[test]
fn a_restricted_room_without_someone_to_vouch_is_closed() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let club = alice.public_room().await;
        bob.join(&club).await.granted();
        let options = json!({
            "room_version": "11",
            "power_level_content_override": { "invite": 100 },
            "initial_state": [{
                "type": "m.room.join_rules",
                "content": {
                    "join_rule": "restricted",
                    "allow": [{ "type": "m.room_membership", "room_id": club }],
                },
            }],
        });
        let room = alice.new_room(options).await;
        alice.bring(&room, &carol).await;
        alice.leave(&room).await.granted();
        // Carol is there and may not invite.
        let answer = bob.join(&room).await;
        assert!([400, 403].contains(&answer.status), "{}: {}", answer.status, answer.text);
        assert_eq!(bob.joined_rooms().await, [club]);
    });
}

#[test]
fn broken_conditions_let_nobody_in() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let club = alice.public_room().await;
        bob.join(&club).await.granted();
        for allow in [
            json!([]),
            json!("everyone"),
            json!({}),
            json!([{ "type": "m.room_membership" }]),
            json!([{ "type": "m.room_membership", "room_id": 5 }]),
            json!([{ "type": "org.example.other", "room_id": club }]),
            json!(["club", 5, null]),
        ] {
            let rules = json!({ "join_rule": "restricted", "allow": allow });
            let state = json!([{ "type": "m.room.join_rules", "content": rules }]);
            let answer = alice.create_room(json!({ "initial_state": state })).await;
            if answer.status == 400 {
                continue; // refused as bad input: nobody gets in either
            }
            let room = answer.granted_str("room_id");
            bob.join(&room).await.forbidden();
        }
        // A broken entry does not spoil the good one beside it.
        let good = json!({ "type": "m.room_membership", "room_id": club });
        let rules = json!({ "join_rule": "restricted", "allow": [{ "type": 1 }, good] });
        let state = json!([{ "type": "m.room.join_rules", "content": rules }]);
        let answer = alice.create_room(json!({ "initial_state": state })).await;
        if answer.status == 200 {
            bob.join(&answer.granted_str("room_id")).await.granted();
        }
    });
}

#[test]
fn rooms_and_aliases_that_nobody_knows_are_not_found() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let name = server.name();
        for unknown in [format!("!nowhere:{name}"), format!("#nowhere:{name}")] {
            alice.join_by(&unknown).await.refused(404, "M_NOT_FOUND");
        }
        let version_12 = "!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        alice.join_by(version_12).await.refused(404, "M_NOT_FOUND");
        alice.join_by("neither").await.refused_with_status(400);
        alice.join(&format!("#alias:{name}")).await.refused_with_status(400);
    });
}

#[test]
fn bad_bodies_are_told_apart() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.act(&room, "join", json!({ "reason": 5 })).await.refused(400, "M_BAD_JSON");
        bob.act(&room, "join", json!([])).await.refused(400, "M_BAD_JSON");
        assert_eq!(bob.joined_rooms().await, Vec::<String>::new());
    });
}

#[test]
fn the_stripped_state_of_an_invitation_ends_with_the_join() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.invite(&room, &bob).await.granted();
        let invited = bob.sync(Sync::initial()).await;
        find(invited.invited(&room).stripped(), "m.room.create", "");
        bob.join(&room).await.granted();
        bob.sync(Sync::since(&invited)).await.joined(&room);
        bob.sync(Sync::initial()).await.joined(&room);
    });
}
