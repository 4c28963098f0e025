//! Tokens: how long they are good, how they are refreshed, what ends them.

use std::time::Duration;

use matryx_server::clock::Clock;
use ruma::{MilliSecondsSinceUnixEpoch, UserId, uint};
use serde_json::{Value, json};

use crate::support::{Answer, Http, SharedServer, TestServer, TestUser, runtime, v3};

static SERVER: SharedServer = SharedServer::new();

async fn log_in(http: &Http, user: &TestUser, more: Value) -> Answer {
    let mut body = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user.localpart },
        "password": user.password,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    http.post(&v3(&["login"]), &body).await
}

/// A pair of tokens.
#[derive(Debug)]
struct Pair {
    access: String,
    refresh: String,
}

impl Pair {
    fn of(answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

async fn refresh(http: &Http, token: &str) -> Answer {
    http.post(&v3(&["refresh"]), &json!({ "refresh_token": token })).await
}

async fn whoami(http: &Http, token: &str) -> Answer {
    http.with_token(token).get(&v3(&["account", "whoami"])).await
}

#[test]
fn whoami_names_user_and_device() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let answer = alice.get(&["account", "whoami"]).await.granted();
        assert_eq!(answer, json!({ "user_id": alice.id, "device_id": alice.device_id }));
        // Where old clients put it.
        let path = v3(&["account", "whoami"]);
        server.http().query(&path, &[("access_token", &alice.token)]).await.granted();
        server.http().get(&path).await.refused(401, "M_MISSING_TOKEN");
        let unknown = whoami(server.http(), "mxa_unknown").await;
        assert_ne!(unknown.body["soft_logout"], true);
        unknown.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn the_ways_to_log_in_are_listed_and_others_refused() {
    SERVER.run(async |server| {
        let http = server.http();
        let types = http.get(&v3(&["login"])).await.granted();
        assert_eq!(types, json!({ "flows": [{ "type": "m.login.password" }] }));
        let login = async |body: Value| http.post(&v3(&["login"]), &body).await;
        login(json!({ "type": "m.login.token", "token": "x" })).await.refused(400, "M_UNKNOWN");
        let service = json!({ "type": "m.login.application_service" });
        login(service).await.refused(400, "M_UNKNOWN").says("m.login.application_service");
        let nobody = json!({ "type": "m.login.password", "password": "x" });
        login(nobody).await.refused(400, "M_MISSING_PARAM").says("identifier");
        let phone = json!({ "type": "m.id.phone", "country": "GB", "phone": "0" });
        let phone = json!({ "type": "m.login.password", "password": "x", "identifier": phone });
        login(phone).await.refused(400, "M_INVALID_PARAM").says("m.id.user");
    });
}

#[test]
fn a_device_that_logs_in_is_as_the_client_wants_it() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let named = json!({ "device_id": "WONDERLAND" });
        let answer = log_in(server.http(), &alice, named).await.granted();
        assert_eq!(answer["device_id"], "WONDERLAND");
        assert_eq!(answer["home_server"], "localhost");
        assert_eq!(answer.get("refresh_token"), None);
        let long = json!({ "device_id": "x".repeat(256) });
        log_in(server.http(), &alice, long).await.refused(400, "M_INVALID_PARAM");
        // Some send it empty for none.
        let empty = log_in(server.http(), &alice, json!({ "device_id": "" })).await;
        assert_ne!(empty.granted_str("device_id"), "");
    });
}

#[test]
fn the_old_pair_is_good_until_the_next_one_is_used() {
    SERVER.run(async |server| {
        let (http, alice) = (server.http(), server.user("alice").await);
        let first = log_in(http, &alice, json!({ "refresh_token": true })).await.granted();
        let first = Pair::of(&first);
        whoami(http, &first.access).await.granted();

        let lost = Pair::of(&refresh(http, &first.refresh).await.granted());
        whoami(http, &first.access).await.granted();
        // The answer was lost, and the client asks again.
        let next = Pair::of(&refresh(http, &first.refresh).await.granted());
        whoami(http, &lost.access).await.refused(401, "M_UNKNOWN_TOKEN");
        whoami(http, &first.access).await.granted();

        whoami(http, &next.access).await.granted();
        whoami(http, &next.access).await.granted();
        whoami(http, &first.access).await.refused(401, "M_UNKNOWN_TOKEN");
        for used in [&first.refresh, &lost.refresh, &next.access] {
            refresh(http, used).await.refused(401, "M_UNKNOWN_TOKEN");
        }

        http.with_token(&next.access).post_empty(&v3(&["logout"])).await.granted();
        whoami(http, &next.access).await.refused(401, "M_UNKNOWN_TOKEN");
        refresh(http, &next.refresh).await.refused(401, "M_UNKNOWN_TOKEN");
        http.post(&v3(&["refresh"]), &json!({})).await.refused(400, "M_MISSING_PARAM");
    });
}

#[test]
fn what_can_be_refreshed_expires_and_the_rest_does_not() {
    runtime().block_on(async {
        let clock = Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(1_000_000_000)));
        let server = TestServer::start_with(clock.clone(), |_| {}).await;
        let (http, alice) = (server.http(), server.user("alice").await);
        let pair = log_in(http, &alice, json!({ "refresh_token": true })).await.granted();
        let lifetime = pair["expires_in_ms"].as_u64().unwrap();
        let pair = Pair::of(&pair);

        clock.advance(Duration::from_millis(lifetime - 1));
        whoami(http, &pair.access).await.granted();
        clock.advance(Duration::from_millis(1));
        let expired = whoami(http, &pair.access).await;
        assert_eq!(expired.body["soft_logout"], true, "{}", expired.text);
        expired.refused(401, "M_UNKNOWN_TOKEN");
        whoami(http, &alice.token).await.granted();

        let next = Pair::of(&refresh(http, &pair.refresh).await.granted());
        whoami(http, &next.access).await.granted();
    });
}

#[test]
fn a_closed_account_is_closed_at_once() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        alice.get(&["account", "whoami"]).await.granted();
        let id = UserId::parse(&alice.id).unwrap();
        server.app().users.deactivate(&id).await.unwrap();
        alice.get(&["account", "whoami"]).await.refused(401, "M_UNKNOWN_TOKEN");
        log_in(server.http(), &alice, json!({})).await.refused(403, "M_USER_DEACTIVATED");
        let body = json!({
            "username": alice.localpart, "password": "x", "auth": { "type": "m.login.dummy" },
        });
        server.http().post(&v3(&["register"]), &body).await.refused(400, "M_USER_IN_USE");
    });
}

#[test]
fn a_new_password_ends_what_the_old_one_began() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let id = UserId::parse(&alice.id).unwrap();
        let users = &server.app().users;
        users.set_password(&id, "off with her head".to_owned(), false).await.unwrap();
        alice.get(&["account", "whoami"]).await.granted();
        log_in(server.http(), &alice, json!({})).await.forbidden();
        users.set_password(&id, alice.password.clone(), true).await.unwrap();
        alice.get(&["account", "whoami"]).await.refused(401, "M_UNKNOWN_TOKEN");
        log_in(server.http(), &alice, json!({})).await.granted();
    });
}
