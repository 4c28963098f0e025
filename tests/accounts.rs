//! Registration, login, logout and tokens.

use serde_json::{Value, json};

use crate::support::{Answer, Http, ServerProcess, SharedServer, TestUser, fresh, runtime, v3};

static SERVER: SharedServer = SharedServer::new();

async fn register(http: &Http, body: Value) -> Answer {
    http.post(&v3(&["register"]), &body).await
}

async fn log_in(http: &Http, user: &str, password: &str) -> Answer {
    let body = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password,
    });
    http.post(&v3(&["login"]), &body).await
}

/// The 401 that says what to do next; its session.
fn session(answer: &Answer) -> String {
    assert_eq!(answer.status, 401, "{}", answer.text);
    assert!(answer.body["flows"].is_array(), "{}", answer.text);
    answer.body["session"].as_str().expect("a session").to_owned()
}

fn name(name: &str) -> String {
    format!("{name}{}", fresh())
}

#[test]
fn an_open_server_asks_for_the_dummy_stage() {
    SERVER.run(async |server| {
        let http = server.http();
        let username = name("stages");
        // The form opens, then name and password, then the stage.
        session(&register(http, json!({})).await);
        let body = json!({ "username": username, "password": "a good password" });
        let session = session(&register(http, body.clone()).await);
        let mut body = body;
        body["auth"] = json!({ "session": session });
        assert_eq!(register(http, body.clone()).await.status, 401);
        body["auth"] = json!({ "type": "m.login.dummy", "session": session });
        let done = register(http, body).await.granted();
        assert_eq!(done["user_id"], format!("@{username}:{}", server.name()));
        assert!(done["access_token"].is_string() && done["device_id"].is_string(), "{done}");
        log_in(http, &username, "a good password").await.granted();
    });
}

#[test]
fn a_name_belongs_to_one_account() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let body = json!({
            "username": alice.localpart, "password": "another", "auth": { "type": "m.login.dummy" },
        });
        register(server.http(), body).await.refused(400, "M_USER_IN_USE");
        for bad in ["with space", "col:on", "ä", "@sigil"] {
            let auth = json!({ "type": "m.login.dummy" });
            let body = json!({ "username": bad, "password": "a good password", "auth": auth });
            register(server.http(), body).await.refused(400, "M_INVALID_USERNAME");
        }
        let available = v3(&["register", "available"]);
        let ask = async |name: &str| server.http().query(&available, &[("username", name)]).await;
        ask(&alice.localpart).await.refused(400, "M_USER_IN_USE");
        ask("with space").await.refused(400, "M_INVALID_USERNAME");
        assert_eq!(ask(&name("free")).await.granted(), json!({ "available": true }));
    });
}

#[test]
fn registration_without_login_gives_no_token() {
    SERVER.run(async |server| {
        let body = json!({
            "username": name("quiet"), "password": "a good password", "inhibit_login": true,
            "auth": { "type": "m.login.dummy" },
        });
        let done = register(server.http(), body).await.granted();
        assert!(done["access_token"].is_null() && done["device_id"].is_null(), "{done}");
    });
}

#[test]
fn one_logs_in_by_name_or_id_and_right_password_only() {
    SERVER.run(async |server| {
        let (alice, http) = (server.user("alice").await, server.http());
        for user in [&alice.localpart, &alice.id] {
            let answer = log_in(http, user, &alice.password).await.granted();
            assert_eq!(answer["user_id"], alice.id.as_str());
        }
        log_in(http, &alice.localpart, "wrong").await.forbidden();
        log_in(http, "nobody-of-this-name", "wrong").await.forbidden();
        log_in(http, "@alice:elsewhere", "wrong").await.forbidden();
        let old = json!({
            "type": "m.login.password", "user": alice.localpart, "password": alice.password,
        });
        http.post(&v3(&["login"]), &old).await.granted();
    });
}

#[test]
fn logging_in_again_on_a_device_replaces_its_token() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": alice.localpart },
            "password": alice.password,
            "device_id": alice.device_id,
        });
        let again = server.http().post(&v3(&["login"]), &body).await.granted();
        assert_eq!(again["device_id"], alice.device_id.as_str());
        assert_ne!(again["access_token"], alice.token.as_str());
        alice.get(&["account", "whoami"]).await.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn logging_out_ends_one_device_or_all() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let (phone, tablet) = (alice.another_device().await, alice.another_device().await);
        alice.post_empty(&["logout"]).await.granted();
        alice.get(&["account", "whoami"]).await.refused(401, "M_UNKNOWN_TOKEN");
        phone.get(&["account", "whoami"]).await.granted();
        phone.post_empty(&["logout", "all"]).await.granted();
        phone.get(&["account", "whoami"]).await.refused(401, "M_UNKNOWN_TOKEN");
        tablet.get(&["account", "whoami"]).await.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn a_refresh_token_gives_the_next_pair() {
    SERVER.run(async |server| {
        let (alice, http) = (server.user("alice").await, server.http());
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": alice.localpart },
            "password": alice.password,
            "refresh_token": true,
        });
        let login = http.post(&v3(&["login"]), &body).await.granted();
        let refresh = login["refresh_token"].as_str().expect("a refresh token");
        assert!(login["expires_in_ms"].is_u64(), "{login}");
        let body = json!({ "refresh_token": refresh });
        let next = http.post(&v3(&["refresh"]), &body).await.granted();
        assert_ne!(next["access_token"], login["access_token"]);
        let next = http.with_token(next["access_token"].as_str().expect("a token"));
        next.get(&v3(&["account", "whoami"])).await.granted();
        let unknown = json!({ "refresh_token": "never given" });
        http.post(&v3(&["refresh"]), &unknown).await.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn bad_input_is_told_apart() {
    SERVER.run(async |server| {
        let http = server.http();
        let login = v3(&["login"]);
        http.post(&login, &json!({})).await.refused(400, "M_MISSING_PARAM");
        http.post(&login, &json!({ "type": 5 })).await.refused(400, "M_BAD_JSON");
        let other = json!({ "type": "org.example.login" });
        http.post(&login, &other).await.refused_with_status(400);
        let no_password = json!({ "type": "m.login.password", "user": "alice" });
        http.post(&login, &no_password).await.refused_with_status(400);
        register(http, json!({ "username": 5 })).await.refused(400, "M_BAD_JSON");
        let stage = json!({ "username": name("x"), "auth": { "type": "m.login.dummy" } });
        register(http, stage).await.refused(400, "M_MISSING_PARAM");
    });
}

#[test]
fn a_closed_server_takes_the_token_that_it_printed() {
    runtime().block_on(async {
        let mut server = ServerProcess::first_start();
        let token = server.registration_token();
        let http = server.http();
        let body = |auth: Value| json!({ "username": "first", "password": "a good password", "auth": auth });
        register(&http, body(json!({ "type": "m.login.dummy" }))).await.refused_challenge();
        let session = session(&register(&http, json!({})).await);
        let stage = |token: &str| {
            json!({ "type": "m.login.registration_token", "token": token, "session": session })
        };
        register(&http, body(stage("a wrong guess"))).await.refused_challenge();
        register(&http, body(stage(&token))).await.refused_challenge();
        let dummy = json!({ "type": "m.login.dummy", "session": session });
        let done = register(&http, body(dummy)).await.granted();
        assert_eq!(done["user_id"], "@first:localhost");
        TestUser::log_in(&http, "first", "a good password").await;
        server.stop();
    });
}
