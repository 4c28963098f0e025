//! SIGKILL in the middle of load: whatever was acknowledged is there.

use std::{
    collections::HashMap,
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tokio::sync::Notify;

use crate::support::{ServerProcess, Sync, TestUser, runtime, v3};

/// How many acknowledgements there are before the server is killed.
const ENOUGH: usize = 120;

/// Counts what was acknowledged, and tells when that is enough.
#[derive(Default)]
struct Acknowledged {
    count: AtomicUsize,
    enough: Notify,
}

impl Acknowledged {
    fn one(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 >= ENOUGH {
            self.enough.notify_one();
        }
    }
}

/// What a client knows when the connection breaks.
#[derive(Default)]
struct Known {
    /// Transaction ids, with the event where it was acknowledged.
    sent: HashMap<String, Option<String>>,
    /// The membership that was acknowledged last, when nothing was asked for after it.
    membership: Option<&'static str>,
}

/// Sends, leaves and comes back until the connection breaks.
async fn load(user: &TestUser, room: &str, acknowledged: &Acknowledged) -> Known {
    let mut known = Known::default();
    for n in 0.. {
        let txn = format!("{}-{n}", user.localpart);
        let path = v3(&["rooms", room, "send", "m.room.message", &txn]);
        known.sent.insert(txn.clone(), None);
        let Some(answer) = user.http.try_put(&path, &json!({ "body": txn })).await else { break };
        known.sent.insert(txn, Some(answer.event_id()));
        acknowledged.one();
        if n % 3 != 2 {
            continue;
        }
        for (verb, membership) in [("leave", "leave"), ("join", "join")] {
            known.membership = None;
            let path = v3(&["rooms", room, verb]);
            let Some(answer) = user.http.try_post(&path, &json!({})).await else { return known };
            answer.granted();
            known.membership = Some(membership);
            acknowledged.one();
        }
    }
    known
}

#[test]
fn what_was_acknowledged_survives() {
    runtime().block_on(async {
        let server = ServerProcess::open();
        let http = server.http();
        let owner = TestUser::register(&http, "owner").await;
        let common = owner.public_room().await;
        let mut users = Vec::new();
        for n in 0..6 {
            let user = TestUser::register(&http, &format!("user{n}")).await;
            user.join(&common).await.granted();
            // Half of them in one room, the other half in rooms of their own: lanes side by side.
            let room = if n % 2 == 0 { common.clone() } else { user.public_room().await };
            users.push((user, room));
        }
        let before = owner.sync(Sync::initial()).await;

        let acknowledged = Acknowledged::default();
        let clients = users.iter().map(|(user, room)| load(user, room, &acknowledged));
        let killing = async {
            acknowledged.enough.notified().await;
            server.crash_and_restart()
        };
        let (known, server) = futures::join!(futures::future::join_all(clients), killing);

        let http = server.http();
        for ((user, room), known) in users.iter().zip(known) {
            let user = user.at(&http);
            if let Some(membership) = known.membership {
                assert_eq!(user.membership(room, &user).await, membership);
            }
            user.join(room).await.granted();
            for (txn, event_id) in known.sent {
                // Asked again as a client would: the same event where there was one, otherwise a new one.
                let content = json!({ "body": txn });
                let again = user.send_as(room, "m.room.message", &txn, content).await.event_id();
                if let Some(event_id) = event_id {
                    assert_eq!(again, event_id, "{txn} was acknowledged");
                }
                let event = user.event(room, &again).await.granted();
                assert_eq!(event["content"]["body"], txn.as_str());
            }
        }
        // Nothing is there twice, and sync goes on from a token of before.
        let owner = owner.at(&http);
        let read = all_texts(&owner, &common).await;
        let mut once = read.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), read.len(), "{read:?}");
        let news = owner.sync(Sync::since(&before)).await;
        assert!(!news.joined(&common).said().is_empty());
        server.stop();
    });
}

/// The engine begins a new file of its log with what no longer fits into the memory of the old one.
#[test]
fn what_was_acknowledged_survives_also_where_the_log_goes_on_in_another_file() {
    runtime().block_on(async {
        let mut server = ServerProcess::start_in(ServerProcess::folder_of_many_files());
        let owner = TestUser::register(&server.http(), "owner").await;
        let room = owner.public_room().await;
        let mut said = Vec::new();
        let long = "x".repeat(30_000);
        // From one round to the next the file has grown full at another place, and what was put back is there again.
        for round in 0..3 {
            let owner = owner.at(&server.http());
            let clients = (0..4).map(async |client| {
                let mut said = Vec::new();
                for n in 0..15 {
                    said.push(owner.say(&room, &format!("{round} {client} {n} {long}")).await);
                }
                said
            });
            said.extend(futures::future::join_all(clients).await.into_iter().flatten());
            for _ in 0..2 {
                server = server.crash_and_restart();
                let owner = owner.at(&server.http());
                for event in &said {
                    owner.event(&room, event).await.granted();
                }
            }
        }
        let server = server.restart();
        let texts = all_texts(&owner.at(&server.http()), &room).await;
        assert_eq!(texts.len(), said.len());
        // Nothing is left of it where it is not needed any more.
        let folder = server.stop();
        let kept = fs::read_dir(folder.path().join("data/database/kept")).unwrap();
        assert_eq!(kept.count(), 0);
    });
}

/// Every message of a room, page by page.
async fn all_texts(user: &TestUser, room: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut from = String::new();
    loop {
        let mut query = vec![("dir", "b"), ("limit", "100")];
        if !from.is_empty() {
            query.push(("from", &from));
        }
        let page = user.query(&["rooms", room, "messages"], &query).await.granted();
        let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
        texts.extend(chunk.iter().filter_map(|e| e["content"]["body"].as_str().map(str::to_owned)));
        match page["end"].as_str() {
            Some(end) => end.clone_into(&mut from),
            None => return texts,
        }
    }
}

#[test]
fn a_full_disk_ends_the_server_and_loses_nothing() {
    runtime().block_on(async {
        let folder = ServerProcess::open().stop();
        let server = ServerProcess::start_cramped(folder, 600);
        let http = server.http();
        let user = TestUser::register(&http, "user").await;
        let room = user.public_room().await;
        let mut said = Vec::new();
        let long = "x".repeat(3000);
        let refused = loop {
            let txn = said.len().to_string();
            let path = v3(&["rooms", &room, "send", "m.room.message", &txn]);
            match user.http.try_put(&path, &json!({ "body": long })).await {
                Some(answer) if answer.status == 200 => said.push(answer.event_id()),
                other => break other,
            }
        };
        if let Some(answer) = refused {
            assert_eq!(answer.status, 500);
        }
        let (folder, code, words) = server.ends_by_itself();
        assert_eq!(code, Some(1), "{words:#?}");
        assert!(words.iter().any(|line| line.contains("could not be written")), "{words:#?}");

        // There is space again. What is written now survives the next crash, too.
        let mut server = ServerProcess::start_in(folder);
        for n in 0..2 {
            let user = user.at(&server.http());
            said.push(user.say(&room, &format!("after {n}")).await);
            server = server.crash_and_restart();
        }
        let user = user.at(&server.http());
        for event in &said {
            user.event(&room, event).await.granted();
        }
        server.stop();
    });
}

#[test]
fn accounts_and_rooms_survive() {
    runtime().block_on(async {
        let mut server = ServerProcess::open();
        // Killed as soon as the last of several steps is acknowledged, whichever that is.
        for steps in 1..=4 {
            let http = server.http();
            let localpart = format!("user{steps}");
            let user = TestUser::register(&http, &localpart).await;
            let mut room = None;
            if steps >= 2 {
                room = Some(user.new_room(json!({ "name": localpart })).await);
            }
            if let (Some(room), 3..) = (&room, steps) {
                user.say(room, "hello").await;
            }
            if let (Some(room), 4..) = (&room, steps) {
                user.leave(room).await.granted();
            }
            server = server.crash_and_restart();
            let user = user.at(&server.http());
            let expected = if steps == 4 { None } else { room.clone() };
            assert_eq!(user.joined_rooms().await, Vec::from_iter(expected));
            if let (Some(room), 3..) = (&room, steps) {
                assert_eq!(user.reads(room).await, ["hello"]);
            }
            TestUser::log_in(&server.http(), &localpart, &user.password).await;
        }
        server.stop();
    });
}
