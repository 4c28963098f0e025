//! Invites over the network.

use super::stage::{Scene, agree, sees, talk};
use crate::support::{TestUser, has};

scenes!(play:
    accepted,
    accepted_where_the_server_is_known,
    declined,
    withdrawn,
    banned_while_invited,
    again_after_leaving,
);

/// Someone at home with a room for the invited, and someone away.
async fn host_and_guest(scene: Scene) -> (TestUser, TestUser, String) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let room = alice.private_room().await;
    (alice, bob, room)
}

async fn accepted(scene: Scene) {
    let (alice, bob, room) = host_and_guest(scene).await;
    let mut alices = alice.listens().await;
    let mut bobs = bob.listens().await;
    alice.invite(&room, &bob).await.granted();
    let seen = bobs.until_in("invite", &room).await;
    let stripped = seen.invited(&room).stripped();
    assert!(has(stripped, "m.room.member", &bob.id), "the invite is not in {stripped:#?}");
    assert!(has(stripped, "m.room.create", ""), "what room it is is not in {stripped:#?}");
    agree(&room, &[(&alice, "join"), (&bob, "invite")]).await;

    bob.join(&room).await.granted();
    bobs.until_in("join", &room).await;
    sees(&mut alices, &room, &bob, "join").await;
    talk(&room, &[&alice, &bob]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}

async fn accepted_where_the_server_is_known(scene: Scene) {
    let (alice, carol, room) = host_and_guest(scene).await;
    alice.bring(&room, &carol).await;
    let bob = scene.away.user("bob").await;
    let mut carols = carol.listens().await;
    let mut bobs = bob.listens().await;
    alice.invite(&room, &bob).await.granted();
    bobs.until_in("invite", &room).await;
    if scene.away.is_matryx() {
        // Synapse tells it to the invited alone.
        sees(&mut carols, &room, &bob, "invite").await;
    }
    agree(&room, &[(&alice, "join"), (&carol, "join"), (&bob, "invite")]).await;
    bob.join(&room).await.granted();
    bobs.until_in("join", &room).await;
    sees(&mut carols, &room, &bob, "join").await;
    // Those away may invite, too.
    let dave = scene.home.user("dave").await;
    let mut daves = dave.listens().await;
    carol.invite(&room, &dave).await.granted();
    daves.until_in("invite", &room).await;
    dave.join(&room).await.granted();
    talk(&room, &[&alice, &bob, &dave]).await;
    let all = [&alice, &carol, &bob, &dave].map(|person| (person, "join"));
    agree(&room, &all).await;
}

async fn declined(scene: Scene) {
    let (alice, bob, room) = host_and_guest(scene).await;
    let mut alices = alice.listens().await;
    let mut bobs = bob.listens().await;
    alice.invite(&room, &bob).await.granted();
    bobs.until_in("invite", &room).await;
    bob.leave(&room).await.granted();
    bobs.until_in("leave", &room).await;
    sees(&mut alices, &room, &bob, "leave").await;
    agree(&room, &[(&alice, "join"), (&bob, "leave")]).await;
    bob.join_via(&room, &scene.via()).await.forbidden();
}

async fn withdrawn(scene: Scene) {
    let (alice, bob, room) = host_and_guest(scene).await;
    let mut bobs = bob.listens().await;
    alice.invite(&room, &bob).await.granted();
    bobs.until_in("invite", &room).await;
    alice.kick(&room, &bob).await.granted();
    bobs.until_in("leave", &room).await;
    agree(&room, &[(&alice, "join"), (&bob, "leave")]).await;
    bob.join_via(&room, &scene.via()).await.forbidden();
}

async fn banned_while_invited(scene: Scene) {
    let (alice, bob, room) = host_and_guest(scene).await;
    let mut bobs = bob.listens().await;
    alice.invite(&room, &bob).await.granted();
    bobs.until_in("invite", &room).await;
    alice.ban(&room, &bob).await.granted();
    if scene.is_ours() {
        // Synapse tells the invited nothing, and believes nothing of the kind.
        bobs.until_in("leave", &room).await;
        agree(&room, &[(&alice, "join"), (&bob, "ban")]).await;
    }
    assert_eq!(alice.membership(&room, &bob).await, "ban");
    bob.join_via(&room, &scene.via()).await.forbidden();
}

async fn again_after_leaving(scene: Scene) {
    let (alice, bob, room) = host_and_guest(scene).await;
    alice.bring(&room, &bob).await;
    let mut alices = alice.listens().await;
    bob.leave(&room).await.granted();
    sees(&mut alices, &room, &bob, "leave").await;
    let mut bobs = bob.listens().await;
    alice.invite(&room, &bob).await.granted();
    bobs.until_in("invite", &room).await;
    agree(&room, &[(&alice, "join"), (&bob, "invite")]).await;
    bob.join(&room).await.granted();
    bobs.until_in("join", &room).await;
    talk(&room, &[&bob, &alice]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}
