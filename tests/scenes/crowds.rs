//! Rooms of four servers.

use serde_json::json;

use super::stage::{Scene, agree, sees, talk};
use crate::support::{Homeserver, TestUser};

scenes!(play_with_others:
    everybody_hears_everybody,
    after_the_founder_has_left,
    the_second_server_may_let_them_in,
);

/// Somebody of each server: of home, of away, and of the two others.
async fn people(scene: Scene, others: [&Homeserver; 2]) -> [TestUser; 4] {
    let [third, fourth] = others;
    [
        scene.home.user("alice").await,
        scene.away.user("bob").await,
        third.user("carol").await,
        fourth.user("dave").await,
    ]
}

async fn everybody_hears_everybody(scene: Scene, others: [&Homeserver; 2]) {
    let [alice, bob, carol, dave] = people(scene, others).await;
    let room = alice.public_room().await;
    bob.join_via(&room, &scene.via()).await.granted();
    // Anyone who is there may let others in. Synapse does so when it knows all who are.
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    carol.join_via(&room, &[scene.away.name()]).await.granted();
    agree(&room, &[(&alice, "join"), (&bob, "join"), (&carol, "join")]).await;
    dave.join_via(&room, &[others[0].name()]).await.granted();
    let all = [&alice, &bob, &carol, &dave].map(|person| (person, "join"));
    agree(&room, &all).await;
    talk(&room, &[&alice, &bob, &carol, &dave]).await;

    let mut bobs = bob.listens().await;
    let mut daves = dave.listens().await;
    alice.ban(&room, &bob).await.granted();
    bobs.until_in("leave", &room).await;
    sees(&mut daves, &room, &bob, "ban").await;
    let rest = [&alice, &carol, &dave].map(|person| (person, "join"));
    agree(&room, &[&rest[..], &[(&bob, "ban")]].concat()).await;
    // Nobody lets the banned in, whoever is asked.
    for server in [scene.home, others[0], others[1]] {
        bob.join_via(&room, &[server.name()]).await.refused_with_status(403);
    }
    alice.unban(&room, &bob).await.granted();
    sees(&mut daves, &room, &bob, "leave").await;
    bob.join_via(&room, &[others[1].name()]).await.granted();
    talk(&room, &[&dave, &bob]).await;
    agree(&room, &all).await;
}

async fn after_the_founder_has_left(scene: Scene, others: [&Homeserver; 2]) {
    let [alice, bob, carol, dave] = people(scene, others).await;
    let levels = json!({ "invite": 0 });
    let options = json!({ "preset": "public_chat", "power_level_content_override": levels });
    let room = alice.new_room(options).await;
    bob.join_via(&room, &scene.via()).await.granted();
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    let mut bobs = bob.listens().await;
    alice.leave(&room).await.granted();
    sees(&mut bobs, &room, &alice, "leave").await;
    carol.join_via(&room, &[scene.home.name(), scene.away.name()]).await.granted();
    sees(&mut bobs, &room, &carol, "join").await;
    let mut daves = dave.listens().await;
    bob.invite(&room, &dave).await.granted();
    daves.until_in("invite", &room).await;
    dave.join(&room).await.granted();
    talk(&room, &[&bob, &carol, &dave]).await;
    let stayed = [&bob, &carol, &dave].map(|person| (person, "join"));
    agree(&room, &[&stayed[..], &[(&alice, "leave")]].concat()).await;
}

async fn the_second_server_may_let_them_in(scene: Scene, others: [&Homeserver; 2]) {
    let [alice, bob, carol, _] = people(scene, others).await;
    let club = alice.public_room().await;
    for person in [&bob, &carol] {
        person.join_via(&club, &scene.via()).await.granted();
    }
    let rule = json!({
        "type": "m.room.join_rules",
        "state_key": "",
        "content": {
            "join_rule": "restricted",
            "allow": [{ "type": "m.room_membership", "room_id": club }],
        },
    });
    let levels = json!({ "invite": 50 });
    let options = json!({ "initial_state": [rule], "power_level_content_override": levels });
    let room = alice.new_room(options).await;
    bob.join_via(&room, &scene.via()).await.granted();
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    // Nobody of Bob's server may invite: it says so, and the next one is asked.
    carol.join_via(&room, &[scene.away.name(), scene.home.name()]).await.granted();
    let all = [&alice, &bob, &carol].map(|person| (person, "join"));
    agree(&room, &all).await;
    let join = bob.member(&room, &carol).await;
    assert_eq!(join["join_authorised_via_users_server"], alice.id.as_str());
}
