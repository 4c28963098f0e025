//! The outbox on the real store, with a network of the tests' own.

mod post;

use std::{collections::HashSet, time::Duration};

use ruma::{ServerName, api::federation::transactions::edu::Edu, serde::Raw, server_name};
use serde_json::json;

use self::post::{Heard, Post};
use crate::{federation::Backoff, room::tests::world::run};

fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| number.to_string()).collect()
}

/// What a server has acknowledged, in order.
fn said(heard: &[Heard], server: &ServerName) -> Vec<String> {
    heard
        .iter()
        .filter(|heard| heard.answered && heard.server == server)
        .flat_map(|heard| heard.said.clone())
        .collect()
}

fn typing() -> Raw<Edu> {
    Raw::new(&json!({"edu_type": "m.typing", "content": {}})).unwrap().cast_unchecked()
}

#[test]
fn who_fails_is_tried_again_when_it_shows_itself() {
    run(async {
        let far = server_name!("far");
        let post = Post::new().await;
        let room = post.room(&["@r:far"]).await;
        post.wire.failing.lock().unwrap().insert(far.to_owned());
        post.say(&room, numbers(0, 1)).await;
        let begun = post.clock.now();
        post.pass(|heard| heard.len() == 8).await;
        let waited = post.clock.now().get() - begun.get();
        let doubled = (0..7).map(|failures| 1 << failures).sum::<u64>();
        let first = Backoff::USUAL.first.as_millis();
        assert!(
            u128::from(u64::from(waited)) >= first * u128::from(doubled),
            "its no wakes nobody"
        );
        // The next attempt would be far away.
        post.wire.failing.lock().unwrap().clear();
        let answered = || post.wire.wait(|heard| heard.iter().any(|heard| heard.answered));
        let mut shown = 0;
        let heard = loop {
            post.clock.advance(Backoff::USUAL.first);
            post.destinations.succeeded(far).await;
            shown += 1;
            assert!(shown < 100, "it has shown itself often enough");
            // Between one showing and the next: nobody may have heard this one.
            let look = tokio::time::timeout(Duration::from_secs(1), answered());
            if let Ok(heard) = look.await {
                break heard;
            }
        };
        assert_eq!((heard.len(), said(&heard, far)), (9, numbers(0, 1)));
    });
}

#[test]
fn what_waits_for_a_server_comes_in_order_and_is_repeated_under_the_same_id() {
    run(async {
        let far = server_name!("far");
        let post = Post::new().await;
        let room = post.room(&["@r:far"]).await;
        post.wire.set_down(far, true);
        post.say(&room, numbers(0, 1)).await;
        let first = post.wire.wait(|heard| !heard.is_empty()).await.remove(0);
        assert_eq!(first.said, ["0"]);
        post.say(&room, numbers(1, 120)).await;
        assert_eq!(post.wire.heard.borrow().len(), 1, "it is left alone");
        // Tried again when its time has come.
        post.pass(|heard| heard.len() == 2).await;
        let again = post.wire.wait(|heard| heard.len() == 2).await.remove(1);
        assert_eq!((&again.id, &again.said), (&first.id, &first.said));
        // And at once when it shows itself.
        post.dealt(far).await;
        post.bring_up(far).await;
        let heard = post.wire.wait_for(far, "119").await;
        assert_eq!(said(&heard, far), numbers(0, 120));
        let sizes: Vec<_> = heard.iter().map(|heard| heard.said.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 50, 50, 19]);
        assert_eq!(heard[2].id, first.id);
        let ids: HashSet<_> = heard.iter().map(|heard| &heard.id).collect();
        assert_eq!(ids.len(), 4);
        post.settled().await;
    });
}

#[test]
fn a_restart_goes_on_where_each_server_is() {
    run(async {
        let (far, near) = (server_name!("far"), server_name!("near"));
        let post = Post::new().await;
        post.wire.set_down(far, true);
        let room = post.room(&["@r:far", "@s:near"]).await;
        // The join of the second is the first that goes out.
        let first = post.wire.wait(|heard| !heard.is_empty()).await.remove(0);
        assert_eq!((&*first.server, first.said), (far, vec!["m.room.member".to_owned()]));
        post.say(&room, numbers(0, 5)).await;
        post.wire.wait_for(near, "4").await;
        post.noted(near).await;

        let post = post.restart().await;
        post.say(&room, numbers(5, 7)).await;
        post.wire.set_down(far, false);
        post.pass(|heard| said(heard, far).contains(&"6".to_owned())).await;
        let heard = post.wire.wait_for(far, "6").await;
        let all: Vec<String> =
            std::iter::once("m.room.member".to_owned()).chain(numbers(0, 7)).collect();
        assert_eq!(said(&heard, far), all);
        let heard = post.wire.wait_for(near, "6").await;
        assert_eq!(said(&heard, near), numbers(0, 7), "nothing is repeated that was acknowledged");
        post.settled().await;

        // And nothing is left to do.
        let count = heard.len();
        let post = post.restart().await;
        post.say(&room, numbers(7, 8)).await;
        let heard = post.wire.wait_for(far, "7").await;
        post.wire.wait_for(near, "7").await;
        assert!(heard.len() <= count + 2);
    });
}

#[test]
fn who_was_away_for_long_gets_the_newest_of_each_room() {
    run(async {
        let far = server_name!("far");
        let post = Post::new().await;
        let rooms = [post.room(&["@r:far"]).await, post.room(&["@r:far"]).await];
        post.wire.set_down(far, true);
        post.say(&rooms[0], ["first".to_owned()]).await;
        post.wire.wait(|heard| !heard.is_empty()).await;
        post.say(&rooms[1], ["quiet".to_owned()]).await;
        post.say(&rooms[0], numbers(0, 600)).await;
        post.dealt(far).await;
        post.bring_up(far).await;
        let heard = post.wire.wait_for(far, "599").await;
        let heard = said(&heard, far);
        assert!(heard.len() <= 110, "{}", heard.len());
        assert_eq!(heard[0], "quiet");
        let last: Vec<_> = heard[1..].to_vec();
        assert_eq!(last, numbers(600 - last.len(), 600), "in order, to the newest");
        post.settled().await;
    });
}

#[test]
fn an_edu_goes_with_the_next_transaction() {
    run(async {
        let (far, near) = (server_name!("far"), server_name!("near"));
        let post = Post::new().await;
        let room = post.room(&["@r:far"]).await;
        let all = || [far.to_owned(), near.to_owned(), server_name!("x").to_owned()];
        post.outbox.edu(all(), &typing());
        let heard = post.wire.wait(|heard| heard.len() == 2).await;
        assert!(heard.iter().all(|heard| heard.edus == 1 && heard.said.is_empty()));
        assert!(heard.iter().all(|heard| heard.server != "x"));
        post.wire.set_down(far, true);
        post.say(&room, numbers(0, 1)).await;
        post.wire.wait(|heard| heard.len() == 3).await;
        for _ in 0..500 {
            post.outbox.edu([far.to_owned()], &typing());
        }
        post.say(&room, numbers(1, 2)).await;
        post.dealt(far).await;
        post.bring_up(far).await;
        let heard = post.wire.wait_for(far, "1").await;
        let last = heard.last().unwrap();
        assert_eq!((last.edus, last.said.as_slice()), (100, numbers(1, 2).as_slice()));
        post.settled().await;
        let ids: HashSet<_> = heard.iter().map(|heard| (&heard.server, &heard.id)).collect();
        assert_eq!(ids.len(), 4, "the same EDU twice is two transactions");
    });
}

#[test]
fn what_a_server_will_not_take_does_not_hold_the_rest() {
    run(async {
        let far = server_name!("far");
        let post = Post::new().await;
        let room = post.room(&["@r:far"]).await;
        *post.wire.refused.lock().unwrap() = Some("1".to_owned());
        post.wire.set_down(far, true);
        post.say(&room, numbers(0, 1)).await;
        post.wire.wait(|heard| !heard.is_empty()).await;
        post.say(&room, numbers(1, 4)).await;
        post.bring_up(far).await;
        post.pass(|heard| heard.last().is_some_and(|last| last.said.ends_with(&numbers(3, 4))))
            .await;
        post.pass(|heard| {
            heard.last().is_some_and(|last| {
                !last.said.contains(&"1".to_owned()) && last.said.contains(&"3".to_owned())
            })
        })
        .await;
        post.settled().await;
    });
}

#[test]
fn a_sender_does_not_pay_for_two_hundred_servers() {
    run(async {
        let post = Post::new().await;
        let members: Vec<String> = (0..200).map(|number| format!("@r:s{number}")).collect();
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        let room = post.room(&members).await;
        post.settled().await;
        let before = post.world.rooms.tally().read();
        post.say(&room, numbers(0, 1)).await;
        let after = post.world.rooms.tally().read();
        // The event, its line, the room's head, and one row for all servers.
        assert_eq!(after.rows - before.rows, 4);
        let there = |heard: &[Heard]| {
            heard.iter().filter(|heard| heard.said.iter().any(|said| said == "0")).count() == 200
        };
        post.wire.wait(there).await;
        post.settled().await;
    });
}
