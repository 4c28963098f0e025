//! Servers that are down, and the network between them when it is cut.

use serde_json::json;

use super::{
    messages::all_that_was_said,
    stage::{Scene, agree, sees, talk},
};
use crate::support::eventually;

scenes!(play_alone:
    declined_while_home_is_down,
    fifty_messages_while_away_is_down,
    a_fork_heals,
);

async fn declined_while_home_is_down(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let room = alice.private_room().await;
    let mut bobs = bob.listens().await;
    alice.invite(&room, &bob).await.granted();
    bobs.until_in("invite", &room).await;
    scene.home.stop().await;
    bob.leave(&room).await.granted();
    bobs.until_in("leave", &room).await;
    scene.home.start().await;
    if scene.away.is_matryx() {
        agree(&room, &[(&alice, "join"), (&bob, "leave")]).await;
    } else {
        // Synapse tells its own user, and nobody else.
        assert_eq!(alice.membership(&room, &bob).await, "invite");
    }
}

async fn fifty_messages_while_away_is_down(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let room = alice.public_room().await;
    bob.join_via(&room, &scene.via()).await.granted();
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    scene.away.crash().await;
    let said: Vec<_> = (0..50).map(|number| format!("number {number}")).collect();
    for text in &said {
        alice.say(&room, text).await;
    }
    scene.away.start().await;
    // A word of the one that was down shows the other that it is back.
    bob.say(&room, "back").await;
    eventually("all that was said", async || {
        let mut read = all_that_was_said(&bob, &room).await;
        read.retain(|text| text != "back");
        (read == said).then_some(()).ok_or_else(|| format!("only {read:?}"))
    })
    .await;
    talk(&room, &[&alice, &bob]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}

async fn a_fork_heals(scene: Scene) {
    let ([alice, dave], [bob, carol]) =
        (scene.home.users(["alice", "dave"]).await, scene.away.users(["bob", "carol"]).await);
    let levels = json!({ "events": { "m.room.name": 0, "m.room.topic": 0 } });
    let options = json!({ "preset": "public_chat", "power_level_content_override": levels });
    let room = alice.new_room(options).await;
    dave.join(&room).await.granted();
    for person in [&bob, &carol] {
        person.join_via(&room, &scene.via()).await.granted();
    }
    let all = [&alice, &dave, &bob, &carol].map(|person| (person, "join"));
    agree(&room, &all).await;
    let mut carols = carol.listens().await;

    scene.home.cut_off().await;
    scene.away.cut_off().await;
    // At home Carol is banned. Away she goes on, and both sides change the same thing.
    alice.ban(&room, &carol).await.granted();
    alice.put_state(&room, "m.room.topic", "", json!({ "topic": "of home" })).await.granted();
    alice.say(&room, "said at home").await;
    carol.put_state(&room, "m.room.name", "", json!({ "name": "of the banned" })).await.granted();
    bob.put_state(&room, "m.room.topic", "", json!({ "topic": "of those away" })).await.granted();
    bob.say(&room, "said away").await;
    scene.home.rejoin();
    scene.away.rejoin();

    let mut alices = alice.listens().await;
    alice.say(&room, "is anybody there").await;
    bob.say(&room, "is anybody back").await;
    carols.until_in("leave", &room).await;
    alices
        .until("the other side", |told| told.room(&room).said().contains(&"is anybody back"))
        .await;
    let after = [(&alice, "join"), (&dave, "join"), (&bob, "join"), (&carol, "ban")];
    agree(&room, &after).await;
    talk(&room, &[&alice, &bob, &dave]).await;
    for person in [&alice, &bob] {
        let said = all_that_was_said(person, &room).await;
        for text in ["said at home", "said away"] {
            assert!(said.iter().any(|found| found == text), "{person:?} reads only {said:?}");
        }
    }
    dave.leave(&room).await.granted();
    sees(&mut alices, &room, &dave, "leave").await;
    agree(&room, &[(&alice, "join"), (&dave, "leave"), (&bob, "join")]).await;
}
