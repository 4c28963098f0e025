//! Profiles field by field. How they get into rooms is in `profile`.

use reqwest::Method;
use ruma::UserId;
use serde_json::{Value, json};

use crate::support::{Answer, SharedServer, TestUser, v3};

static SERVER: SharedServer = SharedServer::new();

async fn set(user: &TestUser, field: &str, value: Value) -> Answer {
    user.put(&["profile", &user.id, field], &json!({ field: value })).await
}

async fn get(user: &TestUser, field: &str) -> Answer {
    user.get(&["profile", &user.id, field]).await
}

#[test]
fn a_profile_has_the_fields_that_were_set() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let whole = async || alice.get(&["profile", &alice.id]).await.granted();
        assert_eq!(whole().await, json!({}));
        set(&alice, "displayname", json!("Alice \u{1F407}")).await.granted();
        set(&alice, "m.tz", json!("Europe/London")).await.granted();
        set(&alice, "org.example.likes", json!({ "tea": [1, null, "late"] })).await.granted();
        let expected = json!({
            "displayname": "Alice \u{1F407}",
            "m.tz": "Europe/London",
            "org.example.likes": { "tea": [1, null, "late"] },
        });
        assert_eq!(whole().await, expected);
        assert_eq!(get(&alice, "m.tz").await.granted(), json!({ "m.tz": "Europe/London" }));
        let more = json!({ "also": 1, "m.tz": "Europe/Paris", "displayname": 5 });
        alice.put(&["profile", &alice.id, "m.tz"], &more).await.granted();
        assert_eq!(get(&alice, "m.tz").await.granted(), json!({ "m.tz": "Europe/Paris" }));
        set(&alice, "m.tz", json!("Europe/London")).await.granted();
        // Anyone may read, without a token.
        let path = v3(&["profile", &alice.id]);
        assert_eq!(server.http().get(&path).await.granted(), expected);

        alice.delete(&["profile", &alice.id, "m.tz"]).await.granted();
        alice.delete(&["profile", &alice.id, "m.tz"]).await.granted();
        get(&alice, "m.tz").await.refused(404, "M_NOT_FOUND").says("m.tz");
    });
}

#[test]
fn a_name_that_is_empty_or_null_is_none() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for field in ["displayname", "avatar_url"] {
            assert_eq!(get(&alice, field).await.granted(), json!({}));
            for nothing in [json!(""), json!(null)] {
                set(&alice, field, json!("something")).await.granted();
                assert_eq!(get(&alice, field).await.granted(), json!({ field: "something" }));
                set(&alice, field, nothing).await.granted();
                assert_eq!(get(&alice, field).await.granted(), json!({}));
            }
            set(&alice, field, json!("something")).await.granted();
            alice.delete(&["profile", &alice.id, field]).await.granted();
            assert_eq!(get(&alice, field).await.granted(), json!({}));
        }
    });
}

#[test]
fn values_and_names_have_limits() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        set(&alice, "displayname", json!("é".repeat(256))).await.granted();
        let refused = |answer: Answer, code: &str| answer.refused(400, code);
        refused(set(&alice, "displayname", json!("é".repeat(257))).await, "M_INVALID_PARAM");
        refused(set(&alice, "avatar_url", json!("x".repeat(1001))).await, "M_INVALID_PARAM");
        refused(set(&alice, "displayname", json!({})).await, "M_INVALID_PARAM");
        refused(set(&alice, "m.tz", json!(5)).await, "M_INVALID_PARAM");
        refused(set(&alice, "Not a name", json!(5)).await, "M_INVALID_PARAM").says("Not a name");
        refused(set(&alice, &"a".repeat(256), json!(5)).await, "M_KEY_TOO_LARGE");
        let large = json!("x".repeat(65_000));
        refused(set(&alice, "org.example.a", large.clone()).await, "M_PROFILE_TOO_LARGE");
        set(&alice, "displayname", json!("A")).await.granted();
        set(&alice, "org.example.a", large).await.granted();
        let one_more = set(&alice, "org.example.b", json!("x".repeat(600))).await;
        refused(one_more, "M_PROFILE_TOO_LARGE").says("65536");
        let path = ["profile", &alice.id, "displayname"];
        refused(alice.put(&path, &json!({ "avatar_url": "x" })).await, "M_MISSING_PARAM");
        refused(alice.put(&["profile", "alice", "m.tz"], &json!({})).await, "M_INVALID_PARAM");
    });
}

#[test]
fn a_profile_is_changed_by_its_user_only() {
    SERVER.run(async |server| {
        let [alice, bob] = server.users(["alice", "bob"]).await;
        let path = ["profile", &alice.id, "m.tz"];
        bob.put(&path, &json!({ "m.tz": "Europe/London" })).await.forbidden().says(&alice.id);
        bob.delete(&path).await.forbidden();
        let url = server.http().url(&v3(&path));
        for method in [Method::PUT, Method::DELETE] {
            let request = server.http().request(method, url.clone()).json(&json!({}));
            server.http().send(request).await.refused(401, "M_MISSING_TOKEN");
        }
    });
}

#[test]
fn who_is_not_here_has_no_profile() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        server.app().users.deactivate(&UserId::parse(&alice.id).unwrap()).await.unwrap();
        for user in [&alice.id, "@nobody:localhost"] {
            for path in [&["profile", user][..], &["profile", user, "displayname"]] {
                server.http().get(&v3(path)).await.refused(404, "M_NOT_FOUND").says(user);
            }
        }
        // A server that can't be asked is no proof that nobody is there.
        let user = "@alice:elsewhere.example";
        server.http().get(&v3(&["profile", user])).await.refused(502, "M_UNKNOWN").says(user);
        server.http().get(&v3(&["profile", "alice"])).await.refused(400, "M_INVALID_PARAM");
    });
}
