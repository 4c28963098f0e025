//! Kicks, bans and server ACLs over the network, and what those away may do.

use serde_json::json;

use super::stage::{Scene, agree, sees, talk};
use crate::support::{Listener, TestUser, eventually};

scenes!(play:
    kicked,
    banned_and_let_in_again,
    by_a_moderator_away,
    denied_by_the_acl,
);

/// Alice at home, and two away: Bob, who things happen to, and Carol, who stays and sees it.
struct Company {
    alice: TestUser,
    bob: TestUser,
    carol: TestUser,
    room: String,
    bobs: Listener,
    carols: Listener,
}

impl Company {
    async fn new(scene: Scene, preset: &str) -> Self {
        let ([alice], [bob, carol]) =
            (scene.home.users(["alice"]).await, scene.away.users(["bob", "carol"]).await);
        let room = alice.new_room(json!({ "preset": preset })).await;
        for person in [&bob, &carol] {
            let mut listener = person.listens().await;
            alice.invite(&room, person).await.granted();
            listener.until_in("invite", &room).await;
            person.join(&room).await.granted();
        }
        let this = Self {
            bobs: bob.listens().await,
            carols: carol.listens().await,
            alice,
            bob,
            carol,
            room,
        };
        this.agrees("join").await;
        this
    }

    async fn agrees(&self, bob: &str) {
        let Self { alice, carol, room, .. } = self;
        agree(room, &[(alice, "join"), (carol, "join"), (&self.bob, bob)]).await;
    }

    /// Both those away see what Bob has become.
    async fn see(&mut self, membership: &str, section: &str) {
        self.bobs.until_in(section, &self.room).await;
        sees(&mut self.carols, &self.room, &self.bob, membership).await;
        self.agrees(membership).await;
    }
}

async fn kicked(scene: Scene) {
    let mut company = Company::new(scene, "private_chat").await;
    company.alice.kick(&company.room, &company.bob).await.granted();
    company.see("leave", "leave").await;
    company.bob.join_via(&company.room, &scene.via()).await.forbidden();
    company.alice.invite(&company.room, &company.bob).await.granted();
    company.see("invite", "invite").await;
    company.bob.join(&company.room).await.granted();
    company.see("join", "join").await;
    talk(&company.room, &[&company.alice, &company.bob, &company.carol]).await;
}

async fn banned_and_let_in_again(scene: Scene) {
    let mut company = Company::new(scene, "private_chat").await;
    company.alice.ban(&company.room, &company.bob).await.granted();
    company.see("ban", "leave").await;
    company.bob.join_via(&company.room, &scene.via()).await.refused_with_status(403);
    company.alice.invite(&company.room, &company.bob).await.refused_with_status(403);
    company.alice.unban(&company.room, &company.bob).await.granted();
    sees(&mut company.carols, &company.room, &company.bob, "leave").await;
    company.agrees("leave").await;
    // Synapse may tell of the unban and of the invite in one answer.
    company.bobs = company.bob.listens().await;
    company.alice.invite(&company.room, &company.bob).await.granted();
    company.see("invite", "invite").await;
    company.bob.join(&company.room).await.granted();
    company.see("join", "join").await;
    talk(&company.room, &[&company.alice, &company.bob]).await;
}

async fn by_a_moderator_away(scene: Scene) {
    let Company { alice, bob, carol, room, .. } = Company::new(scene, "public_chat").await;
    let dave = scene.home.user("dave").await;
    dave.join(&room).await.granted();
    agree(&room, &[(&alice, "join"), (&carol, "join"), (&dave, "join")]).await;
    // Nobody has made her a moderator yet.
    carol.kick(&room, &dave).await.forbidden();
    let mut levels = alice.state_event(&room, "m.room.power_levels", "").await.granted();
    levels["users"][&carol.id] = json!(60);
    alice.put_state(&room, "m.room.power_levels", "", levels).await.granted();
    agree(&room, &[(&alice, "join"), (&carol, "join")]).await;
    let mut daves = dave.listens().await;
    let mut bobs = bob.listens().await;
    carol.ban(&room, &dave).await.granted();
    daves.until_in("leave", &room).await;
    carol.kick(&room, &bob).await.granted();
    bobs.until_in("leave", &room).await;
    agree(&room, &[(&alice, "join"), (&carol, "join"), (&dave, "ban"), (&bob, "leave")]).await;
    carol.unban(&room, &dave).await.granted();
    agree(&room, &[(&alice, "join"), (&carol, "join"), (&dave, "leave")]).await;
    dave.join(&room).await.granted();
    talk(&room, &[&alice, &carol, &dave]).await;
}

async fn denied_by_the_acl(scene: Scene) {
    let Company { alice, bob, carol, room, mut carols, .. } =
        Company::new(scene, "public_chat").await;
    // Where Bob's server may go on speaking: what is said there comes after what was said before.
    let elsewhere = alice.public_room().await;
    bob.join_via(&elsewhere, &scene.via()).await.granted();
    talk(&elsewhere, &[&alice, &bob]).await;

    let denied = json!({ "allow": ["*"], "deny": [scene.away.host()], "allow_ip_literals": true });
    alice.put_state(&room, "m.room.server_acl", "", denied).await.granted();
    let told = |answer: &crate::support::SyncAnswer| {
        answer.room(&room).happened("m.room.server_acl", "").is_some()
    };
    carols.until("the ACL", told).await;
    // Dave's server may not ask home to let him in, and has nobody else to ask.
    let dave = scene.away.user("dave").await;
    let private = alice.public_room().await;
    let nobody = json!({ "allow": [format!("{}*", scene.home.host())], "allow_ip_literals": true });
    alice.put_state(&private, "m.room.server_acl", "", nobody).await.granted();
    dave.join_via(&private, &scene.via()).await.forbidden();

    bob.say(&room, "unheard").await;
    talk(&elsewhere, &[&bob, &alice]).await;
    alice.say(&room, "still here").await;
    eventually("what the denied are told", async || {
        let read = bob.reads(&room).await;
        read.contains(&"still here".to_owned()).then_some(()).ok_or(format!("{read:?}"))
    })
    .await;
    let read = alice.reads(&room).await;
    assert!(!read.contains(&"unheard".to_owned()), "home heard {read:?}");

    let open = json!({ "allow": ["*"], "allow_ip_literals": true });
    alice.put_state(&room, "m.room.server_acl", "", open).await.granted();
    let told = |answer: &crate::support::SyncAnswer| {
        let acl = answer.room(&room).happened("m.room.server_acl", "");
        acl.is_some_and(|acl| acl["content"]["deny"].is_null())
    };
    carols.until("the end of the ACL", told).await;
    talk(&room, &[&alice, &bob]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join"), (&carol, "join")]).await;
}
