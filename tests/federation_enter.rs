//! Joining rooms between two servers of this kind.

use serde_json::{Value, json};

use super::support::{SharedPair, TestUser, has};

static PAIR: SharedPair = SharedPair::new();

/// A room of `owner` that members of others may join, and into which only `owner` lets anybody.
async fn restricted(owner: &TestUser, version: &str, others: &[&str]) -> String {
    let allow: Vec<Value> =
        others.iter().map(|room| json!({ "type": "m.room_membership", "room_id": room })).collect();
    let content = json!({ "join_rule": "restricted", "allow": allow });
    owner
        .new_room(json!({
            "room_version": version,
            "power_level_content_override": { "invite": 50 },
            "initial_state": [{ "type": "m.room.join_rules", "content": content }],
        }))
        .await
}

/// `POST /join/{room}` by way of another user's server.
async fn join_at(user: &TestUser, room: &str, other: &TestUser) -> super::support::Answer {
    let server = other.id.split_once(':').unwrap().1;
    let url = user.http.url(&super::support::v3(&["join", room]));
    let request = user.http.request(reqwest::Method::POST, url);
    user.http.send(request.query(&[("server_name", server)])).await
}

fn ids(state: &Value) -> Vec<String> {
    let events = state.as_array().unwrap();
    let mut ids: Vec<String> =
        events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn a_room_is_joined_by_its_alias_and_is_the_same_at_both() {
    PAIR.run(async |pair| {
        for version in ["6", "9", "11", "12"] {
            let (alice, bob) = (pair.a.user("alice").await, pair.b.user("bob").await);
            let name = format!("door-{}", alice.localpart);
            let room = alice
                .new_room(json!({
                    "preset": "public_chat", "room_alias_name": name, "room_version": version,
                    "topic": "doors",
                }))
                .await;
            let alias = format!("#{name}:{}", pair.a.name());
            let (mut alices, mut bobs) = (alice.listens().await, bob.listens().await);
            assert_eq!(bob.join_by(&alias).await.granted(), json!({ "room_id": room }));

            let news = bobs.until_in("join", &room).await;
            let there = news.joined(&room);
            assert!(has(there.state(), "m.room.topic", ""), "{version}");
            assert_eq!(there.membership(&bob), Some("join"));
            let news = alices.until_in("join", &room).await;
            assert_eq!(news.joined(&room).membership(&bob), Some("join"));
            let (hers, his) =
                (alice.state(&room).await.granted(), bob.state(&room).await.granted());
            assert_eq!(ids(&hers), ids(&his), "{version}");
        }
    });
}

#[test]
fn restricted_rooms_let_in_who_fulfils_a_condition() {
    PAIR.run(async |pair| {
        for version in ["9", "11", "12"] {
            let (alice, bob) = (pair.a.user("alice").await, pair.b.user("bob").await);
            let (space, other) = (alice.public_room().await, alice.public_room().await);
            let room = restricted(&alice, version, &[&space, &other]).await;
            join_at(&bob, &room, &alice).await.forbidden().says("make_join");
            join_at(&bob, &space, &alice).await.granted();
            join_at(&bob, &room, &alice).await.granted();
            let member = bob.member(&room, &bob).await;
            assert_eq!(member["join_authorised_via_users_server"], json!(alice.id));

            // The server is in the room now, and nobody of it may let others in: it asks again.
            let carol = pair.b.user("carol").await;
            carol.join_by(&room).await.forbidden();
            join_at(&carol, &other, &alice).await.granted();
            carol.join_by(&room).await.granted();
            let member = bob.member(&room, &carol).await;
            assert_eq!(member["join_authorised_via_users_server"], json!(alice.id));
            assert_eq!(alice.membership(&room, &carol).await, "join");
        }
    });
}

#[test]
fn who_is_banned_does_not_come_in() {
    PAIR.run(async |pair| {
        let (alice, bob) = (pair.a.user("alice").await, pair.b.user("bob").await);
        let room = alice.public_room().await;
        alice.ban(&room, &bob).await.granted();
        join_at(&bob, &room, &alice).await.forbidden().says("banned");
        let closed = alice.private_room().await;
        join_at(&bob, &closed, &alice).await.forbidden();
        assert!(bob.joined_rooms().await.is_empty());
    });
}
