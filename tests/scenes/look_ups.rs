//! Profiles and aliases of other servers.

use serde_json::json;

use super::stage::{Scene, agree};
use crate::support::{TestUser, fresh};

scenes!(play:
    profiles,
    aliases,
    a_new_name,
);

async fn calls_herself(person: &TestUser, name: &str) {
    let body = json!({ "displayname": name });
    person.put(&["profile", &person.id, "displayname"], &body).await.granted();
}

async fn profiles(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    calls_herself(&alice, "Alice in the Chains").await;
    let profile = bob.get(&["profile", &alice.id]).await.granted();
    assert_eq!(profile["displayname"], "Alice in the Chains");
    let name = bob.get(&["profile", &alice.id, "displayname"]).await.granted();
    assert_eq!(name["displayname"], "Alice in the Chains");
    let nobody = format!("@nobody{}:{}", fresh(), scene.home.name());
    bob.get(&["profile", &nobody]).await.refused(404, "M_NOT_FOUND");
}

async fn aliases(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let local = format!("place{}", fresh());
    let room = alice.new_room(json!({ "room_alias_name": local })).await;
    let alias = format!("#{local}:{}", scene.home.name());
    let found = bob.get(&["directory", "room", &alias]).await.granted();
    assert_eq!(found["room_id"], room.as_str());
    let servers = found["servers"].as_array().cloned().unwrap_or_default();
    assert!(servers.contains(&json!(scene.home.name())), "{found}");
    let nothing = format!("#nothing{}:{}", fresh(), scene.home.name());
    bob.get(&["directory", "room", &nothing]).await.refused(404, "M_NOT_FOUND");
}

async fn a_new_name(scene: Scene) {
    let ([alice], [bob]) = (scene.home.users(["alice"]).await, scene.away.users(["bob"]).await);
    let room = alice.public_room().await;
    bob.join_via(&room, &scene.via()).await.granted();
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
    for (who, witness) in [(&bob, &alice), (&alice, &bob)] {
        let mut witnesses = witness.listens().await;
        calls_herself(who, "somebody else").await;
        let changed = |answer: &crate::support::SyncAnswer| {
            let member = answer.room(&room).happened("m.room.member", &who.id);
            member.is_some_and(|member| member["content"]["displayname"] == "somebody else")
        };
        witnesses.until("the new name", changed).await;
    }
    agree(&room, &[(&alice, "join"), (&bob, "join")]).await;
}
