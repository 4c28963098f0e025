//! What is said, and what was said before somebody came.

use std::collections::BTreeSet;

use super::stage::{Scene, agree};
use crate::support::{TestUser, eventually};

scenes!(play:
    two_hundred_from_before,
    both_at_once,
);

/// Pages back to the room's beginning: the texts, oldest first.
pub async fn all_that_was_said(who: &TestUser, room: &str) -> Vec<String> {
    let mut said = Vec::new();
    let mut from: Option<String> = None;
    loop {
        let mut query = vec![("dir", "b"), ("limit", "40")];
        query.extend(from.as_deref().map(|from| ("from", from)));
        let page = who.query(&["rooms", room, "messages"], &query).await.granted();
        let events = page["chunk"].as_array().cloned().unwrap_or_default();
        let texts = events.iter().filter_map(|event| event["content"]["body"].as_str());
        said.extend(texts.map(str::to_owned));
        match page["end"].as_str() {
            // Some servers give a last page with nothing on it and an end that is where it began.
            Some(end) if from.as_deref() != Some(end) => from = Some(end.to_owned()),
            _ => break,
        }
    }
    said.reverse();
    said
}

async fn two_hundred_from_before(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let room = alice.public_room().await;
    let mut said = Vec::new();
    for number in 0..200 {
        let text = format!("number {number}");
        alice.say(&room, &text).await;
        said.push(text);
    }
    bob.join_via(&room, &scene.via()).await.granted();
    assert_eq!(all_that_was_said(&bob, &room).await, said);
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}

async fn both_at_once(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let room = alice.public_room().await;
    bob.join_via(&room, &scene.via()).await.granted();
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    let says = async |who: &TestUser| {
        for number in 0..15 {
            who.say(&room, &format!("{} {number}", who.localpart)).await;
        }
    };
    futures::join!(says(&alice), says(&bob));
    for who in [&alice, &bob] {
        eventually("what both have said", async || {
            let heard = all_that_was_said(who, &room).await;
            let different: BTreeSet<_> = heard.iter().collect();
            let complete = different.len() == 30 && heard.len() == 30;
            complete.then_some(()).ok_or_else(|| format!("{who:?} hears {heard:?}"))
        })
        .await;
    }
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}
