//! `/_synapse/admin/v1/register`: accounts by a shared secret.

use std::time::Duration;

use hmac::{Hmac, Mac};
use matryx_server::{clock::Clock, config::Secret};
use ruma::{MilliSecondsSinceUnixEpoch, UserId, uint};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::support::{Answer, Http, TestServer, runtime, v3};

const PATH: [&str; 4] = ["_synapse", "admin", "v1", "register"];
const SECRET: &str = "the cat's grin";

async fn start(clock: Clock, secret: Option<&str>) -> TestServer {
    TestServer::start_with(clock, |config| {
        config.registration.open = false;
        config.registration.token = Some(Secret::new(String::new()));
        config.registration.shared_secret = secret.map(|secret| Secret::new(secret.to_owned()));
    })
    .await
}

/// What is signed: HMAC-SHA1 over the parts, in hexadecimal digits.
fn sign(secret: &str, parts: &[&str]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(parts.join("\0").as_bytes());
    let mac: [u8; 20] = mac.finalize().into_bytes().into();
    mac.map(|byte| format!("{byte:02x}")).concat()
}

async fn nonce(http: &Http) -> String {
    http.get(&PATH).await.granted_str("nonce")
}

/// A signed request of a script.
async fn request(http: &Http, name: &str, admin: bool) -> Value {
    let nonce = nonce(http).await;
    let role = if admin { "admin" } else { "notadmin" };
    let mac = sign(SECRET, &[&nonce, name, "a good password", role]);
    json!({
        "nonce": nonce, "username": name, "password": "a good password", "admin": admin, "mac": mac,
    })
}

async fn post(http: &Http, body: &Value) -> Answer {
    http.post(&PATH, body).await
}

#[test]
fn a_script_makes_accounts_where_registration_is_closed() {
    runtime().block_on(async {
        let server = start(Clock::machine(), Some(SECRET)).await;
        let (http, users) = (server.http(), &server.app().users);
        let is_admin =
            async |user: &str| users.is_admin(&UserId::parse(user).unwrap()).await.unwrap();

        let body = request(http, "alice", false).await;
        let alice = post(http, &body).await.granted();
        assert_eq!(alice["user_id"], "@alice:localhost");
        assert_eq!(alice["home_server"], "localhost");
        assert!(!is_admin("@alice:localhost").await);
        let session = http.with_token(alice["access_token"].as_str().unwrap());
        let whoami = session.get(&v3(&["account", "whoami"])).await.granted();
        assert_eq!(whoami["device_id"], alice["device_id"]);

        let mut body = request(http, "queen", true).await;
        body["displayname"] = json!("The Queen");
        body["inhibit_login"] = json!(true);
        let queen = post(http, &body).await.granted();
        assert_eq!(queen, json!({ "user_id": "@queen:localhost", "home_server": "localhost" }));
        assert!(is_admin("@queen:localhost").await);
        let profile = http.get(&v3(&["profile", "@queen:localhost"])).await.granted();
        assert_eq!(profile, json!({ "displayname": "The Queen" }));

        let nonce = nonce(http).await;
        let mac = sign(SECRET, &[&nonce, "Bot", "pw", "notadmin", "bot"]);
        let bot = json!({
            "nonce": nonce, "username": "Bot", "password": "pw", "user_type": "bot", "mac": mac,
        });
        assert_eq!(post(http, &bot).await.granted()["user_id"], "@bot:localhost");
    });
}

#[test]
fn who_does_not_know_the_secret_is_refused() {
    runtime().block_on(async {
        let server = start(Clock::machine(), Some(SECRET)).await;
        let http = server.http();
        let body = request(http, "alice", false).await;
        let mut wrong = body.clone();
        wrong["admin"] = json!(true);
        post(http, &wrong).await.forbidden().says("mac");
        // A nonce is used up by whoever shows it.
        post(http, &body).await.refused(400, "M_UNKNOWN").says("nonce");

        let mut wrong = request(http, "alice", false).await;
        wrong["mac"] = json!(sign("another secret", &["x"]));
        post(http, &wrong).await.forbidden();
        let mut wrong = request(http, "alice", false).await;
        wrong["nonce"] = json!("never given out");
        post(http, &wrong).await.refused(400, "M_UNKNOWN");
    });
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    runtime().block_on(async {
        let server = start(Clock::machine(), Some(SECRET)).await;
        let http = server.http();
        for field in ["nonce", "username", "password", "mac"] {
            let mut body = request(http, "alice", false).await;
            body.as_object_mut().unwrap().remove(field);
            post(http, &body).await.refused(400, "M_MISSING_PARAM").says(field);
            let mut body = request(http, "alice", false).await;
            body[field] = json!(5);
            post(http, &body).await.refused(400, "M_BAD_JSON");
        }
        let body = request(http, "a b", false).await;
        post(http, &body).await.refused(400, "M_INVALID_USERNAME");
        let body = request(http, "alice", false).await;
        post(http, &body).await.granted();
        let body = request(http, "alice", false).await;
        post(http, &body).await.refused(400, "M_USER_IN_USE");
    });
}

#[test]
fn a_nonce_is_good_for_a_minute() {
    runtime().block_on(async {
        let clock = Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(1_000_000_000)));
        let server = start(clock.clone(), Some(SECRET)).await;
        let http = server.http();
        let body = request(http, "alice", false).await;
        clock.advance(Duration::from_millis(60_001));
        post(http, &body).await.refused(400, "M_UNKNOWN").says("minute");
        let body = request(http, "alice", false).await;
        clock.advance(Duration::from_mins(1));
        post(http, &body).await.granted();
    });
}

#[test]
fn without_a_secret_the_endpoint_is_closed() {
    runtime().block_on(async {
        for secret in [None, Some("")] {
            let server = start(Clock::machine(), secret).await;
            server.http().get(&PATH).await.refused(400, "M_UNKNOWN").says("shared_secret");
            let body = json!({ "nonce": "x", "username": "x", "password": "x", "mac": "x" });
            post(server.http(), &body).await.refused(400, "M_UNKNOWN").says("shared_secret");
        }
    });
}
