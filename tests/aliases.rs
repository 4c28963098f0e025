//! `/directory/room/{roomAlias}` and `/rooms/{roomId}/aliases`.

use serde_json::json;

use crate::support::{SharedServer, Sync, TestUser, fresh, v3};

static SERVER: SharedServer = SharedServer::new();

fn alias(name: &str) -> String {
    format!("#{name}-{}:localhost", fresh())
}

async fn name(user: &TestUser, alias: &str, room: &str) -> crate::support::Answer {
    user.put(&["directory", "room", alias], &json!({ "room_id": room })).await
}

#[test]
fn an_alias_leads_to_its_room() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        let alias = alias("door");
        assert_eq!(name(&alice, &alias, &room).await.granted(), json!({}));
        let found = bob.get(&["directory", "room", &alias]).await.granted();
        assert_eq!(found["room_id"], room.as_str());
        assert_eq!(found["servers"], json!(["localhost"]));
        let aliases = alice.get(&["rooms", &room, "aliases"]).await.granted();
        assert_eq!(aliases["aliases"], json!([alias]));
        bob.get(&["rooms", &room, "aliases"]).await.forbidden();
        let everybody = json!({ "history_visibility": "world_readable" });
        alice.put_state(&room, "m.room.history_visibility", "", everybody).await.granted();
        let aliases = bob.get(&["rooms", &room, "aliases"]).await.granted();
        assert_eq!(aliases["aliases"], json!([alias]));
        bob.join_by(&alias).await.granted();
        alice.delete(&["directory", "room", &alias]).await.granted();
        bob.get(&["directory", "room", &alias]).await.refused(404, "M_NOT_FOUND");
        bob.join_by(&alias).await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn an_alias_is_given_once() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let first = alice.public_room().await;
        let second = alice.public_room().await;
        let alias = alias("door");
        name(&alice, &alias, &first).await.granted();
        name(&alice, &alias, &second).await.refused(409, "M_UNKNOWN");
    });
}

#[test]
fn only_its_maker_and_moderators_take_it_away() {
    SERVER.run(async |server| {
        let [alice, bob, carol] = server.users(["alice", "bob", "carol"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        carol.join(&room).await.granted();
        let bobs = alias("bobs");
        name(&bob, &bobs, &room).await.granted();
        carol.delete(&["directory", "room", &bobs]).await.forbidden();
        alice.delete(&["directory", "room", &bobs]).await.granted();
        let bobs = alias("bobs");
        name(&bob, &bobs, &room).await.granted();
        bob.delete(&["directory", "room", &bobs]).await.granted();
    });
}

#[test]
fn a_canonical_alias_must_lead_here() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.public_room().await;
        let other = alice.public_room().await;
        let (good, elsewhere) = (alias("good"), alias("elsewhere"));
        name(&alice, &good, &room).await.granted();
        name(&alice, &elsewhere, &other).await.granted();
        let put = async |alias: &str| {
            let content = json!({ "alias": alias });
            alice.put_state(&room, "m.room.canonical_alias", "", content).await
        };
        put(&good).await.granted();
        put(&elsewhere).await.refused(400, "M_BAD_ALIAS");
        put(&alias("nowhere")).await.refused(400, "M_BAD_ALIAS");
        put("not an alias").await.refused_with_status(400);
    });
}

#[test]
fn a_room_does_not_keep_the_name_of_an_alias_that_is_gone() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let [first, second, third] = ["first", "second", "third"].map(alias);
        for alias in [&first, &second] {
            name(&alice, alias, &room).await.granted();
        }
        name(&bob, &third, &room).await.granted();
        let kind = "m.room.canonical_alias";
        let named = json!({ "alias": first, "alt_aliases": [second, third], "other": 1 });
        alice.put_state(&room, kind, "", named).await.granted();
        let stands = async || alice.state_event(&room, kind, "").await.granted();

        alice.delete(&["directory", "room", &first]).await.granted();
        assert_eq!(stands().await, json!({ "alt_aliases": [second, third], "other": 1 }));
        // Its maker may take it away, and may not say what the room is called.
        bob.delete(&["directory", "room", &third]).await.granted();
        bob.get(&["directory", "room", &third]).await.refused(404, "M_NOT_FOUND");
        assert_eq!(stands().await["alt_aliases"], json!([second, third]));
        alice.delete(&["directory", "room", &second]).await.granted();
        assert_eq!(stands().await["alt_aliases"], json!([third]));
        // What is not named is taken away without a word.
        let other = alias("other");
        name(&alice, &other, &room).await.granted();
        let before = alice.sync(Sync::initial()).await;
        alice.delete(&["directory", "room", &other]).await.granted();
        // The server is other tests' too: its position moves, Alice's rooms do not.
        let news = alice.sync(Sync::since(&before)).await;
        assert!(news.body["rooms"].is_null(), "{:#}", news.body);
    });
}

#[test]
fn bad_aliases_are_refused() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.public_room().await;
        for bad in ["no-sigil:localhost", "#no-server", &format!("#{}:localhost", "x".repeat(300))]
        {
            name(&alice, bad, &room).await.refused_with_status(400);
        }
        let foreign = name(&alice, "#door:elsewhere", &room).await;
        assert!([400, 403].contains(&foreign.status), "{}", foreign.text);
        let alias = alias("body");
        alice.put(&["directory", "room", &alias], &json!({})).await.refused_with_status(400);
        let answer = alice.put(&["directory", "room", &alias], &json!({ "room_id": 5 })).await;
        answer.refused_with_status(400);
        server.http().get(&v3(&["directory", "room", &alias])).await.refused(404, "M_NOT_FOUND");
    });
}
