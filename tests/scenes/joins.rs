//! Joins over the network: by id, by alias, through servers that are and are not there, and under conditions.

use serde_json::{Value, json};

use super::stage::{Scene, agree, sees, talk};
use crate::support::{Sync, TestUser, fresh};

scenes!(play:
    public,
    by_alias,
    by_the_second_via,
    restricted_to_members_of_another_room,
    restricted_and_not_a_member,
    restricted_with_nobody_here_who_may_invite,
    knock_restricted,
    leave_of_the_last_and_return,
    with_the_room_in_every_version,
);

async fn public(scene: Scene) {
    let ([alice], [bob, carol]) =
        (scene.home.users(["alice"]).await, scene.away.users(["bob", "carol"]).await);
    let room = alice.public_room().await;
    alice.say(&room, "before anybody came").await;
    let mut alices = alice.listens().await;
    let mut bobs = bob.listens().await;
    bob.join_via(&room, &scene.via()).await.granted();
    bobs.until_in("join", &room).await;
    sees(&mut alices, &room, &bob, "join").await;
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    // The next one of the same server needs no other.
    carol.join(&room).await.granted();
    sees(&mut alices, &room, &carol, "join").await;
    talk(&room, &[&alice, &bob, &carol]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join"), (&carol, "join")]).await;
}

async fn by_alias(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let local = format!("place{}", fresh());
    let options = json!({ "preset": "public_chat", "room_alias_name": local });
    let room = alice.new_room(options).await;
    let alias = format!("#{local}:{}", scene.home.name());
    let joined = bob.join_by(&alias).await.granted_str("room_id");
    assert_eq!(joined, room);
    talk(&room, &[&alice, &bob]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}

async fn by_the_second_via(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let room = alice.public_room().await;
    // Nobody has ever listened on the first.
    bob.join_via(&room, &["localhost:1", scene.home.name()]).await.granted();
    talk(&room, &[&alice, &bob]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}

/// A room with this rule, which lets in members of the other room.
async fn room_beside(host: &TestUser, rule: &str, other: &str, version: &str) -> String {
    let content = json!({
        "join_rule": rule,
        "allow": [{ "type": "m.room_membership", "room_id": other }],
    });
    let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": content });
    host.new_room(json!({ "room_version": version, "initial_state": [rule] })).await
}

/// The content of the join that somebody else sees.
async fn join_of(whom: &TestUser, room: &str, witness: &TestUser) -> Value {
    witness.member(room, whom).await
}

async fn restricted_to_members_of_another_room(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let club = alice.public_room().await;
    bob.join_via(&club, &scene.via()).await.granted();
    for version in ["8", "9", "11", "12"] {
        let room = room_beside(&alice, "restricted", &club, version).await;
        bob.join_via(&room, &scene.via()).await.granted();
        talk(&room, &[&alice, &bob]).await;
        agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
        let join = join_of(&bob, &room, &alice).await;
        assert_eq!(join["join_authorised_via_users_server"], alice.id.as_str());
    }
}

async fn restricted_and_not_a_member(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let club = alice.public_room().await;
    let room = room_beside(&alice, "restricted", &club, "11").await;
    bob.join_via(&room, &scene.via()).await.forbidden();
    agree(&room, &[(&alice, "join"), (&bob, "leave")]).await;
    // The invited need no condition.
    let mut bobs = bob.listens().await;
    alice.invite(&room, &bob).await.granted();
    bobs.until_in("invite", &room).await;
    bob.join(&room).await.granted();
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    let join = join_of(&bob, &room, &alice).await;
    assert_eq!(join["join_authorised_via_users_server"], Value::Null);
}

async fn restricted_with_nobody_here_who_may_invite(scene: Scene) {
    let ([alice], [bob, carol]) =
        (scene.home.users(["alice"]).await, scene.away.users(["bob", "carol"]).await);
    let club = alice.public_room().await;
    for person in [&bob, &carol] {
        person.join_via(&club, &scene.via()).await.granted();
    }
    let room = room_beside(&alice, "restricted", &club, "11").await;
    let mut levels = alice.state_event(&room, "m.room.power_levels", "").await.granted();
    levels["invite"] = json!(50);
    alice.put_state(&room, "m.room.power_levels", "", levels).await.granted();
    bob.join_via(&room, &scene.via()).await.granted();
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    // Carol's server has the room, but only home may let her in.
    carol.join_via(&room, &scene.via()).await.granted();
    talk(&room, &[&alice, &bob, &carol]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join"), (&carol, "join")]).await;
    let join = join_of(&carol, &room, &alice).await;
    assert_eq!(join["join_authorised_via_users_server"], alice.id.as_str());
}

async fn knock_restricted(scene: Scene) {
    let ([alice], [bob, carol]) =
        (scene.home.users(["alice"]).await, scene.away.users(["bob", "carol"]).await);
    let club = alice.public_room().await;
    bob.join_via(&club, &scene.via()).await.granted();
    for version in ["10", "12"] {
        let room = room_beside(&alice, "knock_restricted", &club, version).await;
        bob.join_via(&room, &scene.via()).await.granted();
        carol.join_via(&room, &scene.via()).await.forbidden();
        let mut alices = alice.listens().await;
        let mut carols = carol.listens().await;
        carol.knock_via(&room, &scene.via()).await.granted();
        carols.until_in("knock", &room).await;
        sees(&mut alices, &room, &carol, "knock").await;
        agree(&room, &[(&alice, "join"), (&bob, "join"), (&carol, "knock")]).await;
        alice.invite(&room, &carol).await.granted();
        carols.until_in("invite", &room).await;
        // Synapse tells it to the invited first, and to the room later.
        agree(&room, &[(&alice, "join"), (&bob, "join"), (&carol, "invite")]).await;
        carol.join_via(&room, &scene.via()).await.granted();
        talk(&room, &[&alice, &bob, &carol]).await;
        agree(&room, &[(&alice, "join"), (&bob, "join"), (&carol, "join")]).await;
    }
}

async fn leave_of_the_last_and_return(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let room = alice.public_room().await;
    let mut alices = alice.listens().await;
    bob.join_via(&room, &scene.via()).await.granted();
    sees(&mut alices, &room, &bob, "join").await;
    talk(&room, &[&alice, &bob]).await;
    let mut bobs = bob.listens().await;
    bob.leave(&room).await.granted();
    bobs.until_in("leave", &room).await;
    sees(&mut alices, &room, &bob, "leave").await;
    agree(&room, &[(&alice, "join"), (&bob, "leave")]).await;
    // What happens now is not told to a server that has nobody in the room.
    let topic = json!({ "topic": "while nobody listened" });
    alice.put_state(&room, "m.room.topic", "", topic).await.granted();
    alice.say(&room, "to nobody").await;
    bob.join_via(&room, &scene.via()).await.granted();
    bobs.until_in("join", &room).await;
    sees(&mut alices, &room, &bob, "join").await;
    talk(&room, &[&alice, &bob]).await;
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    let seen = bob.sync(Sync::initial()).await;
    assert!(seen.joined(&room).value.to_string().contains("while nobody listened"));
}

async fn with_the_room_in_every_version(scene: Scene) {
    let ([alice], [bob, carol]) =
        (scene.home.users(["alice"]).await, scene.away.users(["bob", "carol"]).await);
    for version in ["6", "7", "8", "9", "10", "11", "12"] {
        let options = json!({ "preset": "public_chat", "room_version": version });
        let room = alice.new_room(options).await;
        let mut alices = alice.listens().await;
        let mut bobs = bob.listens().await;
        let mut carols = carol.listens().await;
        bob.join_via(&room, &scene.via()).await.granted();
        bobs.until_in("join", &room).await;
        sees(&mut alices, &room, &bob, "join").await;
        alice.invite(&room, &carol).await.granted();
        carols.until_in("invite", &room).await;
        carol.join(&room).await.granted();
        sees(&mut alices, &room, &carol, "join").await;
        talk(&room, &[&alice, &bob]).await;
        alice.ban(&room, &carol).await.granted();
        carols.until_in("leave", &room).await;
        let secret = bob.say(&room, "what nobody should read").await;
        alices.until("it", |told| told.room(&room).timeline_ids().contains(&&*secret)).await;
        alice.redact(&room, &secret).await.granted();
        let redacted = |told: &crate::support::SyncAnswer| {
            told.room(&room).timeline().iter().any(|event| event["type"] == "m.room.redaction")
        };
        bobs.until("the redaction", redacted).await;
        assert!(!bob.reads(&room).await.contains(&"what nobody should read".to_owned()));
        agree(&room, &[(&alice, "join"), (&bob, "join"), (&carol, "ban")]).await;
    }
}
