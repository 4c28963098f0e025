//! Knocks over the network.

use serde_json::json;

use super::stage::{Scene, agree, sees, talk};
use crate::support::{Listener, TestUser, has};

scenes!(play:
    accepted,
    denied,
    withdrawn,
    banned,
    refused,
);

/// A knock that both sides see: the host, the guest, the room, and what they listen with.
struct Knock {
    alice: TestUser,
    bob: TestUser,
    room: String,
    alices: Listener,
    bobs: Listener,
}

impl Knock {
    async fn new(scene: Scene) -> Self {
        let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
        let room = alice.room_with_rule("knock").await;
        let mut alices = alice.listens().await;
        let mut bobs = bob.listens().await;
        bob.knock_via(&room, &scene.via()).await.granted();
        let seen = bobs.until_in("knock", &room).await;
        let stripped = seen.knocked(&room).stripped();
        assert!(has(stripped, "m.room.join_rules", ""), "no rule in {stripped:#?}");
        sees(&mut alices, &room, &bob, "knock").await;
        agree(&room, &[(&alice, "join"), (&bob, "knock")]).await;
        Self { alice, bob, room, alices, bobs }
    }

    async fn ends(&self, bob: &str) {
        agree(&self.room, &[(&self.alice, "join"), (&self.bob, bob)]).await;
    }
}

async fn accepted(scene: Scene) {
    let Knock { alice, bob, room, mut alices, mut bobs } = Knock::new(scene).await;
    alice.invite(&room, &bob).await.granted();
    bobs.until_in("invite", &room).await;
    bob.join(&room).await.granted();
    bobs.until_in("join", &room).await;
    sees(&mut alices, &room, &bob, "join").await;
    talk(&room, &[&alice, &bob]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}

async fn denied(scene: Scene) {
    let mut knock = Knock::new(scene).await;
    knock.alice.kick(&knock.room, &knock.bob).await.granted();
    if scene.is_ours() {
        // Synapse does not tell those who knocked, and does not hear of it.
        knock.bobs.until_in("leave", &knock.room).await;
        knock.ends("leave").await;
    }
    // The door is where it was.
    knock.bob.knock_via(&knock.room, &scene.via()).await.granted();
    sees(&mut knock.alices, &knock.room, &knock.bob, "knock").await;
    knock.ends("knock").await;
}

async fn withdrawn(scene: Scene) {
    let mut knock = Knock::new(scene).await;
    knock.bob.leave(&knock.room).await.granted();
    knock.bobs.until_in("leave", &knock.room).await;
    if scene.away.is_matryx() {
        // Synapse forgets the knock by itself and tells nobody.
        sees(&mut knock.alices, &knock.room, &knock.bob, "leave").await;
        knock.ends("leave").await;
    }
}

async fn banned(scene: Scene) {
    let mut knock = Knock::new(scene).await;
    knock.alice.ban(&knock.room, &knock.bob).await.granted();
    if scene.is_ours() {
        knock.bobs.until_in("leave", &knock.room).await;
        knock.ends("ban").await;
    }
    assert_eq!(knock.alice.membership(&knock.room, &knock.bob).await, "ban");
    knock.bob.knock_via(&knock.room, &scene.via()).await.forbidden();
}

async fn refused(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let closed = alice.private_room().await;
    bob.knock_via(&closed, &scene.via()).await.forbidden();
    let old = alice.new_room(json!({ "room_version": "6" })).await;
    let status = bob.knock_via(&old, &scene.via()).await.status;
    assert!((400..500).contains(&status), "a version without knocks was answered {status}");
    for room in [closed, old] {
        agree(&room, &[(&alice, "join"), (&bob, "leave")]).await;
    }
}
