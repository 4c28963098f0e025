//! Registration: who may, by which stages, under which names.

use matryx_server::{clock::Clock, config::Secret};
use serde_json::{Value, json};

use crate::support::{Answer, Http, SharedServer, TestServer, fresh, runtime, v3};

static SERVER: SharedServer = SharedServer::new();

async fn register(http: &Http, body: Value) -> Answer {
    http.post(&v3(&["register"]), &body).await
}

/// A whole request for an account on an open server.
fn account(name: &str) -> Value {
    json!({
        "username": name, "password": "a good password", "auth": { "type": "m.login.dummy" },
    })
}

fn name(name: &str) -> String {
    format!("{name}{}", fresh())
}

/// A server where registration takes this token, and is open besides or not.
async fn with_token(token: &str, open: bool) -> TestServer {
    TestServer::start_with(Clock::machine(), |config| {
        config.registration.open = open;
        config.registration.token = Some(Secret::new(token.to_owned()));
    })
    .await
}

const VALIDITY: [&str; 6] =
    ["_matrix", "client", "v1", "register", "m.login.registration_token", "validity"];

#[test]
fn a_closed_server_takes_nobody() {
    runtime().block_on(async {
        let server = with_token("", false).await;
        let http = server.http();
        register(http, json!({})).await.forbidden().says("closed");
        register(http, account("alice")).await.forbidden();
        http.query(&v3(&["register", "available"]), &[("username", "alice")]).await.forbidden();
        http.query(&VALIDITY, &[("token", "")]).await.forbidden();
    });
}

#[test]
fn a_server_with_a_token_takes_who_has_it() {
    runtime().block_on(async {
        let server = with_token("open sesame", false).await;
        let http = server.http();
        let question = register(http, json!({})).await.refused_challenge();
        let flows = json!([{ "stages": ["m.login.registration_token", "m.login.dummy"] }]);
        assert_eq!(question["flows"], flows);
        assert_eq!(question["params"], json!({}));

        let with = |auth: Value| {
            let mut body = account("alice");
            body["auth"] = auth;
            body
        };
        let session = &question["session"];
        let dummy = json!({ "type": "m.login.dummy", "session": session });
        let stage = |token: &str| {
            json!({ "type": "m.login.registration_token", "token": token, "session": session })
        };
        // The second stage does not stand for the first.
        let still = register(http, with(dummy.clone())).await.refused_challenge();
        assert_eq!(&still["session"], session);
        assert_eq!(still["completed"], json!(["m.login.dummy"]));
        let wrong = register(http, with(stage("open barley"))).await.refused_challenge();
        assert_eq!(wrong["errcode"], "M_FORBIDDEN");
        assert_eq!(wrong["flows"], flows);
        // Nor does a stage of another session.
        let alone = json!({ "type": "m.login.registration_token", "token": "open sesame" });
        let other = register(http, with(alone)).await.refused_challenge();
        assert_ne!(&other["session"], session);
        assert_eq!(other["completed"], json!(["m.login.registration_token"]));
        register(http, with(dummy)).await.refused_challenge();
        let done = register(http, with(stage("open sesame"))).await.granted();
        assert_eq!(done["user_id"], "@alice:localhost");

        let valid = async |token: &str| http.query(&VALIDITY, &[("token", token)]).await.granted();
        assert_eq!(valid("open sesame").await, json!({ "valid": true }));
        assert_eq!(valid("open barley").await, json!({ "valid": false }));
        http.get(&VALIDITY).await.refused(400, "M_MISSING_PARAM");
    });
}

#[test]
fn where_registration_is_open_nobody_needs_the_token() {
    runtime().block_on(async {
        let server = with_token("open sesame", true).await;
        let question = register(server.http(), json!({})).await.refused_challenge();
        let flows = json!([
            { "stages": ["m.login.dummy"] },
            { "stages": ["m.login.registration_token", "m.login.dummy"] },
        ]);
        assert_eq!(question["flows"], flows);
        register(server.http(), account("alice")).await.granted();
    });
}

#[test]
fn an_auth_with_nothing_in_it_is_none() {
    SERVER.run(async |server| {
        for auth in [json!({}), json!(null)] {
            let mut body = account(&name("alice"));
            body["auth"] = auth;
            register(server.http(), body.clone()).await.refused_challenge();
            body.as_object_mut().unwrap().remove("password");
            register(server.http(), body).await.refused_challenge();
        }
        let mut body = account(&name("alice"));
        body["auth"] = json!("dummy");
        register(server.http(), body).await.refused(400, "M_BAD_JSON");
    });
}

#[test]
fn a_stage_that_nobody_asks_for_does_not_help() {
    SERVER.run(async |server| {
        for stage in ["m.login.password", "m.login.recaptcha", "org.example.handshake"] {
            let mut body = account(&name("alice"));
            body["auth"] = json!({
                "type": stage, "identifier": { "type": "m.id.user", "user": "alice" },
                "password": "x", "response": "x",
            });
            let answer = register(server.http(), body).await.refused_challenge();
            assert_eq!(answer["errcode"], "M_FORBIDDEN", "{answer}");
            assert!(answer["error"].as_str().unwrap().contains(stage), "{answer}");
        }
    });
}

#[test]
fn guests_and_application_services_are_told_no() {
    SERVER.run(async |server| {
        let http = server.http();
        let mut url = http.url(&v3(&["register"]));
        url.set_query(Some("kind=guest"));
        let request = http.request(reqwest::Method::POST, url).json(&json!({}));
        http.send(request).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
        let body = json!({ "type": "m.login.application_service", "username": name("bot") });
        register(&http.with_token("as_token"), body).await.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn capitals_become_small_and_nameless_accounts_get_a_name() {
    SERVER.run(async |server| {
        let name = name("alice");
        let done = register(server.http(), account(&name.to_uppercase())).await.granted();
        assert_eq!(done["user_id"], format!("@{name}:localhost"));
        register(server.http(), account(&name)).await.refused(400, "M_USER_IN_USE").says(&name);

        let mut nameless = account("");
        nameless.as_object_mut().unwrap().remove("username");
        let first = register(server.http(), nameless.clone()).await.granted();
        let second = register(server.http(), nameless).await.granted();
        assert_ne!(first["user_id"], second["user_id"]);
        register(server.http(), account("")).await.refused(400, "M_INVALID_USERNAME");
        let long = "a".repeat(250);
        register(server.http(), account(&long))
            .await
            .refused(400, "M_INVALID_USERNAME")
            .says("at most");
    });
}

#[test]
fn a_bad_name_is_told_before_anything_else_is_asked() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let taken = json!({ "username": alice.localpart });
        register(server.http(), taken).await.refused(400, "M_USER_IN_USE");
        let bad = json!({ "username": "a b" });
        register(server.http(), bad).await.refused(400, "M_INVALID_USERNAME").says("' '");
    });
}

#[test]
fn empty_and_endless_passwords_are_refused() {
    SERVER.run(async |server| {
        let name = name("alice");
        for password in [String::new(), "x".repeat(1025)] {
            let mut body = account(&name);
            body["password"] = json!(password);
            register(server.http(), body).await.refused(400, "M_WEAK_PASSWORD");
        }
        register(server.http(), account(&name)).await.granted();
    });
}

#[test]
fn the_first_device_is_as_the_client_wants_it() {
    SERVER.run(async |server| {
        let mut body = account(&name("alice"));
        body["device_id"] = json!("WONDERLAND");
        body["initial_device_display_name"] = json!("the looking glass");
        body["refresh_token"] = json!(true);
        let done = register(server.http(), body).await.granted();
        assert_eq!(done["device_id"], "WONDERLAND");
        assert_eq!(done["expires_in_ms"], 3_600_000);
        let refresh = json!({ "refresh_token": done["refresh_token"] });
        server.http().post(&v3(&["refresh"]), &refresh).await.granted();

        let mut body = account(&name("alice"));
        body["device_id"] = json!("x".repeat(256));
        register(server.http(), body).await.refused(400, "M_INVALID_PARAM");
    });
}

#[test]
fn of_many_at_once_one_gets_the_name() {
    SERVER.run(async |server| {
        let name = name("alice");
        let answers = (0..8).map(|_| register(server.http(), account(&name)));
        let answers = futures::future::join_all(answers).await;
        let (done, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 200);
        assert_eq!(done.len(), 1);
        for answer in refused {
            answer.refused(400, "M_USER_IN_USE");
        }
    });
}
