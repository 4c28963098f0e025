//! `/sync`: waiting, waking up, and tokens.

use ruma::UserId;
use serde_json::json;

use crate::support::{
    Answer, SharedServer, Sync, SyncAnswer, TestServer, TestUser, eventually, v3,
};

static SERVER: SharedServer = SharedServer::new();

#[test]
fn every_change_of_the_own_membership_wakes_the_waiting() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.room_with_rule("knock").await;
        let mut bobs = bob.listens().await;
        // Each answer has exactly what has just happened: nobody waits for two.
        bob.knock(&room).await.granted();
        bobs.next().await.knocked(&room);
        alice.kick(&room, &bob).await.granted();
        bobs.next().await.left(&room);
        alice.invite(&room, &bob).await.granted();
        bobs.next().await.invited(&room);
        bob.leave(&room).await.granted();
        bobs.next().await.left(&room);
        alice.invite(&room, &bob).await.granted();
        bobs.next().await.invited(&room);
        bob.join(&room).await.granted();
        bobs.next().await.joined(&room);
        alice.kick(&room, &bob).await.granted();
        bobs.next().await.left(&room);
        alice.ban(&room, &bob).await.granted();
        bobs.next().await.left(&room);
        alice.unban(&room, &bob).await.granted();
        bobs.next().await.left(&room);
    });
}

#[test]
fn a_waiting_sync_answers_when_something_happens() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        // Ten minutes: it is the message that ends the waiting.
        let (news, event_id) = futures::join!(
            bob.sync(Sync::since(&first).waiting(600_000)),
            alice.say(&room, "wake up")
        );
        assert_eq!(news.joined(&room).timeline_ids(), [event_id]);
    });
}

#[test]
fn all_devices_that_wait_are_woken() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let phone = bob.another_device().await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let first = bob.sync(Sync::initial()).await;
        let (laptops, phones, _) = futures::join!(
            bob.sync(Sync::since(&first).waiting(600_000)),
            phone.sync(Sync::since(&first).waiting(600_000)),
            alice.say(&room, "wake up")
        );
        assert_eq!(laptops.joined(&room).said(), ["wake up"]);
        assert_eq!(phones.joined(&room).said(), ["wake up"]);
    });
}

#[test]
fn what_does_not_concern_one_wakes_nobody() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.private_room().await;
        let bobs_room = bob.private_room().await;
        let first = bob.sync(Sync::initial()).await;
        let waiting = bob.sync(Sync::since(&first).waiting(600_000));
        let story = async {
            for _ in 0..5 {
                alice.say(&room, "to myself").await;
            }
            bob.say(&bobs_room, "this wakes bob").await;
        };
        let (news, ()) = futures::join!(waiting, story);
        news.silent(&room);
        assert_eq!(news.joined(&bobs_room).said(), ["this wakes bob"]);
    });
}

#[test]
fn without_news_the_time_runs_out() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let first = alice.sync(Sync::initial()).await;
        let second = alice.sync(Sync::since(&first).waiting(1)).await;
        second.silent(&room);
        // The token still leads on.
        alice.say(&room, "news").await;
        let third = alice.sync(Sync::since(&second)).await;
        assert_eq!(third.joined(&room).said(), ["news"]);
    });
}

#[test]
fn an_initial_sync_does_not_wait() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let answer = alice.sync(Sync::initial().waiting(600_000)).await;
        assert!(!answer.next_batch.is_empty());
        alice.sync(Sync::since(&answer).full_state().waiting(600_000)).await;
    });
}

#[test]
fn a_token_can_be_used_again() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let first = alice.sync(Sync::initial()).await;
        alice.say(&room, "one").await;
        let second = alice.sync(Sync::since(&first)).await;
        alice.say(&room, "two").await;
        let both = alice.sync(Sync::since(&first)).await;
        assert_eq!(both.joined(&room).said(), ["one", "two"]);
        let rest = alice.sync(Sync::since(&second)).await;
        assert_eq!(rest.joined(&room).said(), ["two"]);
    });
}

#[test]
fn what_was_answered_is_in_the_next_sync() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let mut since = bob.sync(Sync::initial()).await;
        // Read your writes, and those of others: as soon as a request is answered it shows.
        for n in 0..20 {
            if n % 2 == 0 {
                bob.join(&room).await.granted();
                since = bob.sync(Sync::since(&since)).await;
                since.joined(&room);
            } else {
                alice.kick(&room, &bob).await.granted();
                since = bob.sync(Sync::since(&since)).await;
                since.left(&room);
            }
        }
    });
}

#[test]
fn bad_parameters_are_refused() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for (key, value) in [
            ("since", "no token"),
            ("timeout", "soon"),
            ("timeout", "-1"),
            ("full_state", "perhaps"),
            ("filter", "{"),
        ] {
            let answer = alice.try_sync(Sync::initial().with(key, value)).await;
            assert_eq!(answer.status, 400, "{key}={value}: {}", answer.text);
        }
        let anonymous = server.http().get(&v3(&["sync"])).await;
        anonymous.refused(401, "M_MISSING_TOKEN");
        let nobody = server.http().with_token("nobody");
        let answer = nobody.get(&v3(&["sync"])).await;
        answer.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn a_flood_of_changes_reaches_a_listener_whole_and_in_order() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.new_room(json!({ "preset": "public_chat" })).await;
        bob.join(&room).await.granted();
        let mut since = bob.sync(Sync::initial()).await.next_batch;
        let flood = async {
            for n in 0..30 {
                alice.say(&room, &format!("number {n}")).await;
            }
        };
        let listen = async {
            let mut said = Vec::new();
            while said.len() < 30 {
                let filter = json!({ "room": { "timeline": { "limit": 50 } } });
                let options = Sync::since(&since).filter(&filter).waiting(600_000);
                let news = bob.sync(options).await;
                said.extend(news.room(&room).said().into_iter().map(str::to_owned));
                since = news.next_batch;
            }
            said
        };
        let ((), said) = futures::join!(flood, listen);
        let expected: Vec<String> = (0..30).map(|n| format!("number {n}")).collect();
        assert_eq!(said, expected);
    });
}

/// A sync of this user that waits for news of a room of theirs, while `end` happens to its session.
async fn waits_while(
    server: &TestServer,
    user: &TestUser,
    room: &str,
    end: impl AsyncFnOnce(),
) -> Answer {
    let first = user.sync(Sync::initial()).await;
    let (notifier, room) = (server.app().rooms.stream().notifier(), room.try_into().unwrap());
    let story = async {
        eventually("the wait", async || match notifier.waiting_for(room) {
            0 => Err("nobody waits".to_owned()),
            _ => Ok(()),
        })
        .await;
        end().await;
    };
    futures::join!(user.try_sync(Sync::since(&first).waiting(600_000)), story).0
}

#[test]
fn the_end_of_a_session_ends_its_waiting() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let users = &server.app().users;
        let id = UserId::parse(alice.id.as_str()).unwrap();

        let phone = alice.another_device().await;
        let logout = async || drop(phone.post_empty(&["logout"]).await.granted());
        waits_while(server, &phone, &room, logout).await.refused(401, "M_UNKNOWN_TOKEN");

        // The same device logs in again: its old token is worth nothing any more.
        let phone = alice.another_device().await;
        let again = async || {
            drop(
                server
                    .http()
                    .post(
                        &v3(&["login"]),
                        &json!({
                            "type": "m.login.password",
                            "identifier": { "type": "m.id.user", "user": alice.localpart },
                            "password": alice.password,
                            "device_id": phone.device_id,
                        }),
                    )
                    .await
                    .granted(),
            );
        };
        waits_while(server, &phone, &room, again).await.refused(401, "M_UNKNOWN_TOKEN");

        let phone = alice.another_device().await;
        let reset = async || {
            users.set_password(&id, alice.password.clone(), true).await.unwrap();
        };
        waits_while(server, &phone, &room, reset).await.refused(401, "M_UNKNOWN_TOKEN");

        let (phone, desk) = (alice.another_device().await, alice.another_device().await);
        let everywhere = async || drop(desk.post_empty(&["logout", "all"]).await.granted());
        waits_while(server, &phone, &room, everywhere).await.refused(401, "M_UNKNOWN_TOKEN");

        let phone = alice.another_device().await;
        let close = async || users.deactivate(&id).await.unwrap();
        waits_while(server, &phone, &room, close).await.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn other_sessions_and_refreshed_ones_wait_on() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = bob.public_room().await;
        alice.join(&room).await.granted();
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": alice.localpart },
            "password": alice.password,
            "refresh_token": true,
        });
        let login = server.http().post(&v3(&["login"]), &body).await.granted();
        let phone = TestUser {
            http: server.http().with_token(login["access_token"].as_str().unwrap()),
            ..alice.clone()
        };
        let story = async || {
            // Alice's other device leaves, and the phone itself gets new tokens and uses them.
            alice.post_empty(&["logout"]).await.granted();
            let body = json!({ "refresh_token": login["refresh_token"] });
            let next =
                server.http().post(&v3(&["refresh"]), &body).await.granted_str("access_token");
            server.http().with_token(&next).get(&v3(&["account", "whoami"])).await.granted();
            bob.say(&room, "still there?").await;
        };
        let news = SyncAnswer::new(waits_while(server, &phone, &room, story).await.granted());
        assert_eq!(news.joined(&room).said(), ["still there?"]);
    });
}
