//! The glue, with routes made for it: what a handler sees, and what a client is told when no handler sees anything.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode};
use ruma::{
    MilliSecondsSinceUnixEpoch,
    api::client::{
        account::check_registration_token_validity as check_token, alias::get_alias, membership,
        session::refresh_token, state,
    },
    uint,
};
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::{ApiError, BODY_LIMIT, Matrix, endpoint, layers};
use crate::{
    app::App,
    clock::Clock,
    config::Config,
    federation::Network,
    lifecycle,
    random::Random,
    user::{NewAccount, NewDevice},
};

/// Runs a test on threads with as much stack as the binary's: the database wants it.
pub(crate) fn with_app(test: impl AsyncFnOnce(App) + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = move || {
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
            config.database.url = Some(format!("{}?sync=never", config.database_url()));
            let (database, keys) = lifecycle::open(&config).await.unwrap();
            let (clock, random) =
                (Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(1_000_000))), Random::machine());
            let network = Network::new(&config, clock.clone(), random.clone()).unwrap();
            let app = App::open(config, clock, keys, database, Arc::new(network), random);
            let app = app.await.unwrap();
            test(app).await;
        });
    };
    std::thread::Builder::new().stack_size(10 << 20).spawn(run).unwrap().join().unwrap();
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
}

impl Answer {
    fn errcode(&self) -> (u16, &str) {
        (self.status.as_u16(), self.json["errcode"].as_str().unwrap_or("none"))
    }

    fn sentence(&self) -> &str {
        self.json["error"].as_str().unwrap_or("none")
    }
}

async fn ask(app: &App, routes: Router<App>, request: Request<Body>) -> Answer {
    let routes = layers::surround(routes).with_state(app.clone());
    let (parts, body) = routes.oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, json }
}

fn request(method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(method).uri(path).body(body.into()).unwrap()
}

fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, Body::empty())
}

const REFRESH: &str = "/_matrix/client/v3/refresh";

async fn refresh(
    _: App,
    matrix: Matrix<refresh_token::v3::Request>,
) -> Result<refresh_token::v3::Response, ApiError> {
    Ok(refresh_token::v3::Response::new(matrix.request.refresh_token))
}

async fn no_alias(
    _: App,
    matrix: Matrix<get_alias::v3::Request>,
) -> Result<get_alias::v3::Response, ApiError> {
    Err(ApiError::not_found(matrix.request.room_alias.as_str()))
}

async fn valid(
    _: App,
    matrix: Matrix<check_token::v1::Request>,
) -> Result<check_token::v1::Response, ApiError> {
    Ok(check_token::v1::Response::new(matrix.request.token == "a+b/c"))
}

async fn set_state(
    _: App,
    _: Matrix<state::send_state_event::v3::Request>,
) -> Result<state::send_state_event::v3::Response, ApiError> {
    Err(ApiError::forbidden("set"))
}

async fn join(
    _: App,
    _: Matrix<membership::join_room_by_id::v3::Request>,
) -> Result<membership::join_room_by_id::v3::Response, ApiError> {
    Err(ApiError::forbidden("joined"))
}

#[test]
fn bodies_are_told_apart() {
    with_app(async |app| {
        let post = async |body: &str| {
            let request = request(Method::POST, REFRESH, body.to_owned());
            ask(&app, endpoint(refresh), request).await
        };
        let answer = post(r#"{"refresh_token": "r"}"#).await;
        assert_eq!((answer.status.as_u16(), &answer.json["access_token"]), (200, &"r".into()));
        for (body, code) in [
            ("", "M_MISSING_PARAM"),
            ("{}", "M_MISSING_PARAM"),
            ("hello", "M_NOT_JSON"),
            (r#"{"refresh_token": "r"#, "M_NOT_JSON"),
            (r#"{"refresh_token": 5, hello}"#, "M_NOT_JSON"),
            ("\u{feff}{}", "M_NOT_JSON"),
            (r#"{"refresh_token": 5}"#, "M_BAD_JSON"),
            (r#"["r"]"#, "M_BAD_JSON"),
            ("null", "M_BAD_JSON"),
        ] {
            assert_eq!(post(body).await.errcode(), (400, code), "{body}");
        }
        assert!(post("{}").await.sentence().contains("refresh_token"));
        let large = format!(r#"{{"refresh_token": "{}"}}"#, "r".repeat(BODY_LIMIT));
        assert_eq!(post(&large).await.errcode(), (413, "M_TOO_LARGE"));
    });
}

#[test]
fn paths_and_queries_are_decoded_once_and_checked() {
    with_app(async |app| {
        let alias = async |path: &str| {
            let path = format!("/_matrix/client/v3/directory/room/{path}");
            ask(&app, endpoint(no_alias), get(&path)).await
        };
        let answer = alias("%23a%2Fb%252Fc%3Ahere.example").await;
        assert_eq!(
            (answer.errcode(), answer.sentence()),
            ((404, "M_NOT_FOUND"), "#a/b%2Fc:here.example")
        );
        assert_eq!(alias("%23a+b:here.example").await.sentence(), "#a+b:here.example");
        assert_eq!(alias("a").await.errcode(), (400, "M_INVALID_PARAM"));
        assert_eq!(alias("%ff").await.errcode(), (400, "M_INVALID_PARAM"));

        let token = async |query: &str| {
            let path = "/_matrix/client/v1/register/m.login.registration_token/validity";
            ask(&app, endpoint(valid), get(&format!("{path}{query}"))).await
        };
        assert_eq!(token("?token=a%2Bb%2Fc").await.json["valid"], true);
        assert_eq!(token("?token=x&access_token=y&_cacheBuster=1").await.json["valid"], false);
        assert_eq!(token("").await.errcode(), (400, "M_MISSING_PARAM"));
        assert_eq!(token("?").await.errcode(), (400, "M_MISSING_PARAM"));
    });
}

#[test]
fn tokens_that_are_missing_or_unknown_are_refused_before_the_body_is_looked_at() {
    with_app(async |app| {
        let path = "/_matrix/client/v3/rooms/!r:x/join";
        let join = async |authorization: Option<&str>, query: &str| {
            let mut request = request(Method::POST, &format!("{path}{query}"), "not json");
            if let Some(value) = authorization {
                request.headers_mut().insert("authorization", value.parse().unwrap());
            }
            ask(&app, endpoint(join), request).await
        };
        assert_eq!(join(None, "").await.errcode(), (401, "M_MISSING_TOKEN"));
        assert_eq!(join(Some("Basic eA=="), "").await.errcode(), (401, "M_MISSING_TOKEN"));
        for unknown in [join(Some("Bearer x"), "").await, join(None, "?access_token=x").await] {
            assert_eq!(unknown.errcode(), (401, "M_UNKNOWN_TOKEN"));
            assert_ne!(unknown.json["soft_logout"], true);
        }
    });
}

#[test]
fn a_good_token_is_its_user_and_an_expired_one_a_soft_logout() {
    with_app(async |app| {
        let account = NewAccount { name: Some("alice".to_owned()), ..NewAccount::default() };
        let device = NewDevice { refresh: true, ..NewDevice::default() };
        let alice = app.users.register(account, Some(device)).await.unwrap().login.unwrap();
        let body = r#"{"reason": "r", "extra": 1}"#;
        let handler = {
            let device_id = alice.device_id.clone();
            move |app: App, matrix: Matrix<membership::join_room_by_id::v3::Request>| {
                assert_eq!(matrix.identity.user_id, "@alice:localhost");
                assert_eq!(matrix.identity.device_id.as_ref(), Some(&device_id));
                assert_eq!(matrix.request.reason.as_deref(), Some("r"));
                assert_eq!(matrix.body, body);
                join(app, matrix)
            }
        };
        let path = "/_matrix/client/v3/rooms/!r:x/join";
        let query = format!("{path}?access_token={}", alice.access_token);
        for (path, header) in [(path, Some(&alice.access_token)), (&query, None)] {
            let mut request = request(Method::POST, path, body);
            if let Some(token) = header {
                let value = format!("Bearer {token}").parse().unwrap();
                request.headers_mut().insert("authorization", value);
            }
            let answer = ask(&app, endpoint(handler.clone()), request).await;
            assert_eq!((answer.errcode(), answer.sentence()), ((403, "M_FORBIDDEN"), "joined"));
        }

        app.clock.advance(alice.expires_in.unwrap());
        let answer = ask(&app, endpoint(handler), request(Method::POST, &query, body)).await;
        assert_eq!(answer.errcode(), (401, "M_UNKNOWN_TOKEN"));
        assert_eq!(answer.json["soft_logout"], true);
    });
}

#[test]
fn state_has_a_route_with_a_key_an_empty_one_and_none() {
    with_app(async |app| {
        for prefix in ["r0", "v3"] {
            for form in ["", "/", "/key"] {
                let path = format!("/_matrix/client/{prefix}/rooms/!r:x/state/m.room.topic{form}");
                let answer =
                    ask(&app, endpoint(set_state), request(Method::PUT, &path, "{}")).await;
                assert_eq!(answer.errcode(), (401, "M_MISSING_TOKEN"), "{path}");
            }
        }
    });
}

#[test]
fn what_is_not_there_is_unrecognized_in_json_and_with_the_headers_of_cors() {
    with_app(async |app| {
        let routes = || endpoint(refresh).merge(endpoint(no_alias));
        let answers = [
            (ask(&app, routes(), get("/_matrix/client/v3/nothing")).await, (404, "M_UNRECOGNIZED")),
            (ask(&app, routes(), get("/")).await, (404, "M_UNRECOGNIZED")),
            (ask(&app, routes(), get(REFRESH)).await, (405, "M_UNRECOGNIZED")),
            (
                ask(&app, routes(), request(Method::POST, REFRESH, "{}")).await,
                (400, "M_MISSING_PARAM"),
            ),
        ];
        for (answer, code) in answers {
            assert_eq!(answer.errcode(), code);
            assert_eq!(answer.headers["access-control-allow-origin"], "*");
            assert_eq!(answer.headers["content-type"], "application/json");
        }
        for path in [REFRESH, "/_matrix/client/v3/nothing"] {
            let answer = ask(&app, routes(), request(Method::OPTIONS, path, "")).await;
            assert!(answer.status.is_success());
            let allowed = answer.headers["access-control-allow-headers"].to_str().unwrap();
            assert!(allowed.contains("Authorization") && allowed.contains("Content-Type"));
            let methods = answer.headers["access-control-allow-methods"].to_str().unwrap();
            assert!(methods.contains("PUT") && methods.contains("DELETE"));
        }
        let path = "/_matrix/client/v3/directory/room/%23a:x";
        let head = ask(&app, routes(), request(Method::HEAD, path, "")).await;
        assert_eq!((head.status.as_u16(), head.json), (404, Value::Null));
    });
}

#[test]
fn what_goes_wrong_inside_stays_inside() {
    with_app(async |app| {
        let panics = async |_: App, _: Matrix<get_alias::v3::Request>| {
            assert_eq!(1, 2, "reading");
            Err(ApiError::unrecognized())
        };
        let panics_apart = async |_: App, _: Matrix<refresh_token::v3::Request>| {
            assert_eq!(1, 2, "writing");
            Err(ApiError::unrecognized())
        };
        let fails = async |_: App, _: Matrix<check_token::v1::Request>| {
            Err(ApiError::internal("the secret cause"))
        };
        let routes = || {
            let reading = endpoint(panics);
            let writing = endpoint(panics_apart);
            reading.merge(writing).merge(endpoint(fails))
        };
        let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=x";
        for request in [
            get("/_matrix/client/v3/directory/room/%23a:x"),
            request(Method::POST, REFRESH, r#"{"refresh_token": "r"}"#),
            get(validity),
        ] {
            let answer = ask(&app, routes(), request).await;
            assert_eq!(answer.errcode(), (500, "M_UNKNOWN"));
            assert!(answer.sentence().contains("log"), "{}", answer.sentence());
            assert!(!answer.sentence().contains("secret"));
        }
    });
}

#[test]
fn a_request_that_changes_something_outlives_its_connection() {
    with_app(async |app| {
        let begun = Arc::new(Notify::new());
        let go_on = Arc::new(Notify::new());
        let finished = Arc::new(AtomicBool::new(false));
        let handler = {
            let (begun, go_on, finished) = (begun.clone(), go_on.clone(), finished.clone());
            move |app: App, matrix| {
                let (begun, go_on, finished) = (begun.clone(), go_on.clone(), finished.clone());
                async move {
                    begun.notify_one();
                    go_on.notified().await;
                    finished.store(true, Ordering::SeqCst);
                    refresh(app, matrix).await
                }
            }
        };
        let request = request(Method::POST, REFRESH, r#"{"refresh_token": "r"}"#);
        tokio::select! {
            _ = ask(&app, endpoint(handler), request) => panic!("it waits for us"),
            () = begun.notified() => {} // and here the connection is dropped
        }
        go_on.notify_one();
        // What works in the background ends with the server; the request is not asked to.
        app.shutdown.cancel();
        app.tasks.close();
        app.tasks.wait().await;
        assert!(finished.load(Ordering::SeqCst));
    });
}
