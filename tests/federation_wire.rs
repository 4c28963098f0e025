//! Being a server on the network: listeners, and how servers find each other.

use std::time::Duration;

use ruma::api::federation::discovery::{get_server_keys, get_server_version};

use super::support::{Peer, SharedPair, Told};

static PAIR: SharedPair = SharedPair::new();

const PATIENCE: Duration = Duration::from_secs(30);

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
        let version = http.get(&["_matrix", "federation", "v1", "version"]).await.ok();
        assert_eq!(version["server"]["name"], "Matryx");
        let keys = http.get(&["_matrix", "key", "v2", "server"]).await.ok();
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
        let version = peer.get(&pair.a, "/_matrix/federation/v1/version").await.ok();
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
