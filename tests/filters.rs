//! `/user/{userId}/filter`.

use serde_json::{Value, json};

use crate::support::{Answer, SharedServer, TestUser};

static SERVER: SharedServer = SharedServer::new();

async fn put(user: &TestUser, owner: &TestUser, filter: &Value) -> Answer {
    user.post(&["user", &owner.id, "filter"], filter).await
}

async fn get(user: &TestUser, owner: &TestUser, id: &str) -> Answer {
    user.get(&["user", &owner.id, "filter", id]).await
}

#[test]
fn a_filter_is_kept_and_has_always_the_same_id() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let filter = json!({
            "room": { "state": { "lazy_load_members": true }, "timeline": { "limit": 20 } },
            "event_fields": ["content.body"],
        });
        let id = put(&alice, &alice, &filter).await.granted_str("filter_id");
        assert!(!id.starts_with('{'), "{id} would be taken for a filter");
        assert_eq!(get(&alice, &alice, &id).await.granted(), filter);
        assert_eq!(get(&alice, &alice, &id).await.granted(), filter);
        assert_eq!(put(&alice, &alice, &filter).await.granted_str("filter_id"), id);
        let phone = alice.another_device().await;
        assert_eq!(get(&phone, &alice, &id).await.granted(), filter);

        let other = put(&alice, &alice, &json!({})).await.granted_str("filter_id");
        assert_ne!(other, id);
        assert_eq!(get(&alice, &alice, &other).await.granted(), json!({}));
        get(&bob, &bob, &id).await.refused(404, "M_NOT_FOUND").says(&id);
        assert_eq!(put(&bob, &bob, &filter).await.granted_str("filter_id"), id);
    });
}

#[test]
fn filters_are_ones_own() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        put(&alice, &bob, &json!({})).await.forbidden().says(&bob.id);
        let id = put(&bob, &bob, &json!({})).await.granted_str("filter_id");
        get(&alice, &bob, &id).await.forbidden();
        get(&alice, &alice, "unknown").await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn what_is_no_filter_is_refused() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for bad in [
            json!({ "room": 5 }),
            json!({ "room": { "timeline": { "limit": "many" } } }),
            json!({ "event_format": 5 }),
            json!([]),
        ] {
            put(&alice, &alice, &bad).await.refused(400, "M_BAD_JSON");
        }
        alice.post(&["user", "alice", "filter"], &json!({})).await.refused(400, "M_INVALID_PARAM");
    });
}
