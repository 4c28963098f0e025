//! Which servers are there: who does not answer is left alone, who comes back is noticed.

use std::time::Duration;

use http::Method;
use matryx_server::{clock::Clock, federation::PeerError};
use ruma::{OwnedServerName, api::federation::discovery::get_server_version::v1};
use serde_json::json;

use super::support::{Peer, TestServer, Told, free_address, new_key, runtime, standing_clock};

const VERSION: &str = "/_matrix/federation/v1/version";
const PATIENCE: Duration = Duration::from_mins(3);
const MINUTE: Duration = Duration::from_mins(1);

/// A server whose clock stands still, with the patience that servers usually have.
async fn server(clock: &Clock) -> TestServer {
    TestServer::start_with(clock.clone(), |config| {
        Peer::befriend(config);
        config.testing.short_federation_backoff = false;
    })
    .await
}

async fn ask(server: &TestServer, name: &OwnedServerName) -> Result<(), PeerError> {
    let client = server.app().federation.client();
    client.ask(name, v1::Request::new(), PATIENCE).await.map(drop)
}

#[test]
fn who_is_not_there_is_left_alone_for_longer_each_time() {
    runtime().block_on(async {
        let clock = standing_clock();
        let server = server(&clock).await;
        let destinations = server.app().federation.destinations();
        let nobody: OwnedServerName = free_address().to_string().try_into().unwrap();
        assert!(destinations.is_up(&nobody));
        let mut waits = Vec::new();
        for _ in 0..20 {
            let error = ask(&server, &nobody).await.unwrap_err();
            assert!(matches!(error, PeerError::Unreachable(_)) && error.is_absent(), "{error}");
            assert!(error.to_string().contains(nobody.as_str()), "{error}");
            assert!(!destinations.is_up(&nobody));
            let error = ask(&server, &nobody).await.unwrap_err();
            let PeerError::BackingOff { until, .. } = error else { panic!("{error}") };
            let wait = u64::from(until.0) - u64::from(clock.now().0);
            waits.push(Duration::from_millis(wait));
            // Who must know asks anyway, and that is no further failure.
            let client = server.app().federation.client().anyway();
            let error = client.ask(&nobody, v1::Request::new(), PATIENCE).await.unwrap_err();
            assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
            assert_eq!(destinations.absence(&nobody).unwrap().until, until);
            clock.advance(Duration::from_millis(wait));
        }
        assert!(waits[0] < MINUTE && waits[0] > Duration::from_secs(1), "{waits:?}");
        assert!(waits[19] > 60 * MINUTE && waits[19] < 600 * MINUTE, "{waits:?}");
    });
}

#[test]
fn it_is_remembered_over_restarts_until_the_server_shows_itself() {
    runtime().block_on(async {
        let clock = standing_clock();
        let server = server(&clock).await;
        let address = free_address();
        let name: OwnedServerName = address.to_string().try_into().unwrap();
        ask(&server, &name).await.unwrap_err();
        let server = server.restart().await;
        let destinations = server.app().federation.destinations();
        let until = destinations.may_try(&name).unwrap_err();
        assert!(until > clock.now());

        let mut news = destinations.on_up();
        let peer = Peer::start_at(address, new_key()).await;
        // Still nobody knows; a request of its own says it.
        assert!(destinations.may_try(&name).is_err());
        let path = "/_matrix/federation/v1/version";
        let signed = peer.sign(&server.app().server_name, &Method::GET, path, "");
        let request = http::Request::get(path).header("authorization", signed.to_string());
        let request = request.body(bytes::Bytes::new()).unwrap();
        let origin = server.app().federation.keys().verify_request(&request).await.unwrap();
        assert_eq!(origin, name);
        let up = tokio::time::timeout(PATIENCE, news.next()).await.unwrap();
        assert_eq!(up.as_ref(), Some(&name));
        assert!(destinations.is_up(&name));
        peer.on(VERSION, |_| Told::ok(json!({ "server": {} })));
        ask(&server, &name).await.unwrap();
        let server = server.restart().await;
        assert!(server.app().federation.destinations().is_up(&name));
    });
}

#[test]
fn proxies_without_a_server_and_silence_count_as_absence() {
    runtime().block_on(async {
        let server = server(&standing_clock()).await;
        let destinations = server.app().federation.destinations();
        let peer = Peer::start().await;
        let name = peer.name().to_owned();
        peer.on(VERSION, |_| Told::error(403, "M_FORBIDDEN"));
        assert_eq!(ask(&server, &name).await.unwrap_err().status().unwrap(), 403);
        assert!(destinations.is_up(&name));
        peer.on(VERSION, |_| Told::Raw(502, "<html>".into()));
        let error = ask(&server, &name).await.unwrap_err();
        assert!(error.is_absent() && error.errcode().is_none(), "{error}");
        assert!(!destinations.is_up(&name));
    });
}

#[test]
fn who_is_only_named_is_not_written_down() {
    runtime().block_on(async {
        let clock = standing_clock();
        let server = server(&clock).await;
        let peer = Peer::start().await;
        let path = "/_matrix/federation/v1/version";
        let signed = peer.sign(&server.app().server_name, &Method::GET, path, "").to_string();
        let names: Vec<OwnedServerName> =
            (1..=20).map(|n| format!("127.1.1.{n}:1").try_into().unwrap()).collect();
        for name in &names {
            let header = signed.replace(peer.name().as_str(), name.as_str());
            let request = http::Request::get(path).header("authorization", header);
            let request = request.body(bytes::Bytes::new()).unwrap();
            server.app().federation.keys().verify_request(&request).await.unwrap_err();
        }
        let destinations = server.app().federation.destinations();
        assert!(names.iter().all(|name| destinations.may_try(name).is_err()));
        assert!(server.app().database.absences().await.unwrap().is_empty());

        // What fails of those who have something to send there is written down, for a week.
        let anyway = server.app().federation.client().anyway();
        anyway.ask(&names[0], v1::Request::new(), PATIENCE).await.unwrap_err();
        let kept = server.app().database.absences().await.unwrap();
        let kept: Vec<_> = kept.into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, [names[0].clone()]);
        let server = server.restart().await;
        assert!(!server.app().federation.destinations().is_up(&names[0]));
        clock.advance(Duration::from_hours(24 * 8));
        let server = server.restart().await;
        assert!(server.app().federation.destinations().is_up(&names[0]));
        assert!(server.app().database.absences().await.unwrap().is_empty());
    });
}

#[test]
fn patience_ends() {
    runtime().block_on(async {
        let server = TestServer::start_with(Clock::machine(), Peer::befriend).await;
        let peer = Peer::start().await;
        peer.on(VERSION, |_| Told::Hang);
        let client = server.app().federation.client();
        let short = Duration::from_millis(50);
        let error = client.ask(peer.name(), v1::Request::new(), short).await.unwrap_err();
        assert!(matches!(error, PeerError::TimedOut { .. }), "{error}");
        assert!(error.to_string().contains(peer.name().as_str()), "{error}");
        // So little patience proves nothing.
        assert!(server.app().federation.destinations().is_up(peer.name()));
    });
}
