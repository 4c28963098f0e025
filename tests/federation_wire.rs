//! Being a server on the network: listeners, and how servers find each other.

use std::time::Duration;

use matryx_server::{clock::Clock, config::Config, federation::PeerError};
use ruma::{
    OwnedServerName,
    api::federation::discovery::{get_server_keys, get_server_version},
};
use serde_json::json;

use super::support::{Peer, SharedPair, TestServer, Told, ca, runtime};

static PAIR: SharedPair = SharedPair::new();

const PATIENCE: Duration = Duration::from_mins(3);

#[test]
fn servers_ask_each_other_by_tls() {
    PAIR.run(async |pair| {
        for (asker, asked) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            let name = &asked.app().server_name;
            let client = asker.app().federation.client();
            let version = get_server_version::v1::Request::new();
            let answer = client.ask(name, version, PATIENCE).await.unwrap();
            assert_eq!(answer.server.unwrap().name.as_deref(), Some("Matryx"));
            let keys = client.ask(name, get_server_keys::v2::Request::new(), PATIENCE).await;
            let keys = keys.unwrap().server_key.deserialize().unwrap();
            assert_eq!(keys.server_name, *name);
        }
    });
}

#[test]
fn the_clients_door_is_open_for_servers_too() {
    PAIR.run(async |pair| {
        let http = pair.a.http();
        let version = http.get(&["_matrix", "federation", "v1", "version"]).await.granted();
        assert_eq!(version["server"]["name"], "Matryx");
        let keys = http.get(&["_matrix", "key", "v2", "server"]).await.granted();
        assert_eq!(keys["server_name"], pair.a.name());
        http.get(&["_matrix", "federation", "v1", "nothing"]).await.refused(404, "M_UNRECOGNIZED");
        let version = http.post_empty(&["_matrix", "federation", "v1", "version"]).await;
        version.refused(405, "M_UNRECOGNIZED");
        http.get(&["_matrix", "key", "v2", "nothing"]).await.refused(404, "M_UNRECOGNIZED");
    });
}

#[test]
fn clients_have_nothing_to_do_at_the_servers_door() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let versions = peer.get(&pair.a, "/_matrix/client/versions").await;
        versions.refused(404, "M_UNRECOGNIZED");
        let version = peer.get(&pair.a, "/_matrix/federation/v1/version").await.granted();
        assert_eq!(version["server"]["name"], "Matryx");
    });
}

#[test]
fn a_refusal_is_told_as_it_came() {
    PAIR.run(async |pair| {
        let peer = Peer::start().await;
        let client = pair.a.app().federation.client();
        peer.on("/_matrix/federation/v1/version", |_| Told::error(403, "M_FORBIDDEN"));
        let version = get_server_version::v1::Request::new();
        let error = client.ask(peer.name(), version, PATIENCE).await.unwrap_err();
        assert_eq!(error.status().unwrap(), 403);
        assert_eq!(error.errcode().unwrap().as_str(), "M_FORBIDDEN");
        let sentence = error.to_string();
        assert!(sentence.contains(peer.name().as_str()), "{sentence}");
        assert!(sentence.contains("The test says so."), "{sentence}");
    });
}

/// Asks a peer for its version from a server with another configuration.
async fn asks(change: impl FnOnce(&mut Config)) -> Result<(), PeerError> {
    let peer = Peer::start().await;
    peer.on("/_matrix/federation/v1/version", |_| Told::ok(json!({ "server": {} })));
    let server = TestServer::start_with(Clock::machine(), |config| {
        Peer::befriend(config);
        change(config);
    })
    .await;
    let version = get_server_version::v1::Request::new();
    let client = server.app().federation.client();
    client.ask(peer.name(), version, PATIENCE).await.map(drop)
}

#[test]
fn whom_nobody_vouches_for_is_not_believed() {
    runtime().block_on(async {
        asks(|_| {}).await.unwrap();
        let error = asks(|config| config.federation.trusted_ca_file = None).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        asks(|config| {
            config.federation.trusted_ca_file = None;
            config.testing.insecure_outgoing_tls = true;
        })
        .await
        .unwrap();
    });
}

#[test]
fn private_addresses_are_left_alone_unless_they_are_allowed() {
    runtime().block_on(async {
        let forbid = |config: &mut Config| config.testing.allow_private_ip_destinations = false;
        let error = asks(forbid).await.unwrap_err();
        assert!(error.to_string().contains("private address"), "{error}");
    });
}

#[test]
fn names_that_are_addresses_in_disguise_are_none() {
    PAIR.run(async |pair| {
        let port = pair.b.app().config.listener.federation.port;
        for name in [format!("2130706433:{port}"), format!("0x7f.1:{port}"), "127.1".to_owned()] {
            let name: OwnedServerName = name.try_into().unwrap();
            let version = get_server_version::v1::Request::new();
            let client = pair.a.app().federation.client();
            let error = client.ask(&name, version, PATIENCE).await.unwrap_err();
            assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
        }
    });
}

#[test]
fn who_never_shakes_hands_keeps_nobody_waiting() {
    PAIR.run(async |pair| {
        let address = pair.a.federation_base().replace("https://", "");
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(tokio::net::TcpStream::connect(&address).await.unwrap());
        }
        let peer = Peer::start().await;
        peer.get(&pair.a, "/_matrix/federation/v1/version").await.granted();
    });
}

#[test]
fn clients_may_come_by_tls_too() {
    runtime().block_on(async {
        let server = TestServer::start_with(Clock::machine(), |config| {
            let (chain, key) = ca().certificate(&["127.0.0.1"]).write(&config.data_dir);
            config.listener.client.tls = true;
            config.listener.client.tls_cert = Some(chain);
            config.listener.client.tls_key = Some(key);
        })
        .await;
        let authority = std::fs::read(ca().file()).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let client = reqwest::Client::builder().tls_certs_merge([authority]).build().unwrap();
        let url = server.http().url(&["_matrix", "client", "versions"]);
        assert_eq!(url.scheme(), "https");
        assert_eq!(client.get(url).send().await.unwrap().status(), 200);
    });
}

#[test]
fn a_delegation_is_told_where_there_is_one() {
    PAIR.run(async |pair| {
        let path = &[".well-known", "matrix", "server"];
        pair.a.http().get(path).await.refused(404, "M_NOT_FOUND");
        let server = TestServer::start_with(Clock::machine(), |config| {
            config.federation.public_name = Some("matrix.example.org:443".try_into().unwrap());
        })
        .await;
        let answer = server.http().get(path).await.granted();
        assert_eq!(answer, json!({ "m.server": "matrix.example.org:443" }));
    });
}
