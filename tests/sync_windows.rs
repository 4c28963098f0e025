//! `/sync`: several changes of one's own membership between two answers.

use serde_json::json;

use crate::support::{SharedServer, Sync, find, has};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn who_left_and_came_back_is_there() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let first = bob.sync(Sync::initial()).await;
        bob.join(&room).await.granted();
        bob.leave(&room).await.granted();
        bob.join(&room).await.granted();
        let answer = bob.sync(Sync::since(&first)).await;
        answer.joined(&room);
        // The same for one who was there before.
        bob.leave(&room).await.granted();
        bob.join(&room).await.granted();
        let answer = bob.sync(Sync::since(&answer)).await;
        let there = answer.joined(&room);
        assert!(
            has(&[there.state(), there.timeline()].concat(), "m.room.create", ""),
            "the room is as good as new: {:#}",
            answer.body
        );
    });
}

#[test]
fn who_was_away_hears_of_the_members_that_changed_even_when_lazy() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let lazy = json!({
            "room": { "state": { "lazy_load_members": true }, "timeline": { "limit": 5 } },
        });
        for visibility in ["shared", "joined"] {
            let content = json!({ "history_visibility": visibility });
            let state = json!([{ "type": "m.room.history_visibility", "content": content }]);
            let options = json!({ "preset": "public_chat", "initial_state": state });
            let room = alice.new_room(options).await;
            bob.join(&room).await.granted();
            carol.join(&room).await.granted();
            carol.say(&room, "so Bob knows me").await;
            let first = bob.sync(Sync::initial().filter(&lazy)).await;
            bob.leave(&room).await.granted();
            carol.leave(&room).await.granted();
            bob.join(&room).await.granted();
            for n in 0..6 {
                alice.say(&room, &format!("{n}")).await;
            }
            for question in [Sync::since(&first), Sync::since(&first).full_state()] {
                let question = question.filter(&lazy);
                let before = bob.sync(question.clone()).await;
                let after = bob.sync(question.state_after()).await;
                for state in [before.joined(&room).state(), after.joined(&room).state_after()] {
                    let member = find(state, "m.room.member", &carol.id);
                    assert_eq!(member["content"]["membership"], "leave", "{visibility}");
                }
            }
        }
    });
}

#[test]
fn who_came_and_left_finds_the_room_under_leave() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let first = bob.sync(Sync::initial()).await;
        bob.join(&room).await.granted();
        alice.say(&room, "while you were there").await;
        bob.leave(&room).await.granted();
        alice.say(&room, "when you had gone").await;
        let answer = bob.sync(Sync::since(&first)).await;
        let left = answer.left(&room);
        assert_eq!(left.said(), ["while you were there"]);
        assert!(has(&[left.state(), left.timeline()].concat(), "m.room.create", ""));
    });
}

#[test]
fn an_invitation_that_was_declined_is_a_leave() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.say(&room, "not for bob").await;
        let first = bob.sync(Sync::initial()).await;
        alice.invite(&room, &bob).await.granted();
        bob.leave(&room).await.granted();
        let answer = bob.sync(Sync::since(&first)).await;
        let left = answer.left(&room);
        assert_eq!(left.membership(&bob), Some("leave"));
        assert!(left.said().is_empty(), "what was never for them: {:#}", answer.body);
    });
}

#[test]
fn declined_and_then_accepted_after_all() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let first = bob.sync(Sync::initial()).await;
        alice.invite(&room, &bob).await.granted();
        bob.leave(&room).await.granted();
        bob.join(&room).await.granted();
        bob.sync(Sync::since(&first)).await.joined(&room);
    });
}

#[test]
fn a_knock_that_was_denied_and_repeated_is_a_knock() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        let first = bob.sync(Sync::initial()).await;
        bob.knock(&room).await.granted();
        alice.kick(&room, &bob).await.granted();
        let answer = bob.sync(Sync::since(&first)).await;
        assert_eq!(answer.left(&room).membership(&bob), Some("leave"));
        bob.knock(&room).await.granted();
        bob.sync(Sync::since(&answer)).await.knocked(&room);
        bob.sync(Sync::since(&first)).await.knocked(&room);
        alice.invite(&room, &bob).await.granted();
        bob.sync(Sync::since(&first)).await.invited(&room);
    });
}

#[test]
fn a_kick_and_a_new_invitation_is_an_invitation() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        alice.bring(&room, &bob).await;
        let first = bob.sync(Sync::initial()).await;
        alice.kick(&room, &bob).await.granted();
        alice.invite(&room, &bob).await.granted();
        let answer = bob.sync(Sync::since(&first)).await;
        let stripped = answer.invited(&room).stripped();
        assert_eq!(find(stripped, "m.room.member", &bob.id)["content"]["membership"], "invite");
    });
}

#[test]
fn a_ban_behind_a_gap_is_in_the_state() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        carol.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        alice.ban(&room, &carol).await.granted();
        for n in 0..12 {
            alice.say(&room, &format!("number {n}")).await;
        }
        let answer = bob.sync(Sync::since(&first)).await;
        let there = answer.joined(&room);
        assert!(there.limited());
        let ban = find(there.state(), "m.room.member", &carol.id);
        assert_eq!(ban["content"]["membership"], "ban");
    });
}

#[test]
fn a_leave_without_a_timeline_is_in_the_state() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        bob.leave(&room).await.granted();
        alice.say(&room, "later").await;
        let filter = json!({ "room": { "timeline": { "limit": 0 } } });
        let answer = bob.sync(Sync::since(&first).filter(&filter)).await;
        let left = answer.left(&room);
        assert!(left.timeline().is_empty());
        let leave = find(left.state(), "m.room.member", &bob.id);
        assert_eq!(leave["content"]["membership"], "leave");
        let options = Sync::since(&first).filter(&filter).state_after();
        let answer = bob.sync(options).await;
        let leave = find(answer.left(&room).state_after(), "m.room.member", &bob.id);
        assert_eq!(leave["content"]["membership"], "leave");
    });
}

#[test]
fn the_own_leave_shows_whatever_the_visibility_of_history() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        for visibility in ["joined", "invited", "shared", "world_readable"] {
            let content = json!({ "history_visibility": visibility });
            let state = json!([{ "type": "m.room.history_visibility", "content": content }]);
            let options = json!({ "preset": "public_chat", "initial_state": state });
            let room = alice.new_room(options).await;
            bob.join(&room).await.granted();
            carol.join(&room).await.granted();
            let bobs = bob.sync(Sync::initial()).await;
            let carols = carol.sync(Sync::initial()).await;
            bob.leave(&room).await.granted();
            alice.kick(&room, &carol).await.granted();
            let answer = bob.sync(Sync::since(&bobs)).await;
            assert_eq!(answer.left(&room).membership(&bob), Some("leave"), "{visibility}");
            let answer = carol.sync(Sync::since(&carols)).await;
            assert_eq!(answer.left(&room).membership(&carol), Some("leave"), "{visibility}");
        }
    });
}

#[test]
fn banned_and_unbanned_while_away_is_a_leave() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        alice.ban(&room, &bob).await.granted();
        alice.unban(&room, &bob).await.granted();
        let answer = bob.sync(Sync::since(&first)).await;
        assert_eq!(answer.section(&room), Some("leave"));
        bob.sync(Sync::since(&answer)).await.silent(&room);
    });
}
