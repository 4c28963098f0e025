//! Our own keys: how they are published and replaced, and what we tell of others' as a notary.

use std::collections::BTreeMap;

use matryx_server::clock::Clock;
use ruma::signatures::{PublicKeyMap, verify_json};
use serde_json::{Value, json};

use super::{
    federation_keys::{hours, object},
    support::{KEYS, Peer, ServerProcess, SharedServer, TestServer, command, runtime},
};

static SERVER: SharedServer = SharedServer::befriended();

#[test]
fn our_keys_are_published_and_signed() {
    SERVER.run(async |server| {
        let answer = server.http().get(&["_matrix", "key", "v2", "server"]).await.granted();
        assert_eq!(answer["server_name"], server.name());
        assert_eq!(answer["old_verify_keys"], json!({}));
        let key = &server.app().key;
        let published = &answer["verify_keys"][key.key_id().as_str()]["key"];
        assert_eq!(*published, json!(key.public_key()));
        let now = u64::from(server.app().clock.now().0);
        assert!(answer["valid_until_ts"].as_u64().unwrap() > now + hours(1));
        let public = BTreeMap::from([(key.key_id().to_string(), key.public_key())]);
        let keys = PublicKeyMap::from([(server.name().to_owned(), public)]);
        verify_json(&keys, &object(&answer)).unwrap();
    });
}

#[test]
fn we_are_a_notary_ourselves() {
    SERVER.run(async |server| {
        let peer = Peer::start().await;
        let name = peer.name().as_str().to_owned();
        let http = server.http();
        let answer = http.get(&["_matrix", "key", "v2", "query", &name]).await.granted();
        let [document] = &answer["server_keys"].as_array().unwrap()[..] else { panic!("{answer}") };
        let key = &server.app().key;
        let keys = PublicKeyMap::from([
            (
                server.name().to_owned(),
                BTreeMap::from([(key.key_id().to_string(), key.public_key())]),
            ),
            (
                name.clone(),
                BTreeMap::from([(peer.key().key_id().to_string(), peer.key().public_key())]),
            ),
        ]);
        verify_json(&keys, &object(document)).unwrap();

        // The same by POST; whom nobody reaches is left out, and we vouch for ourselves.
        let nobody = "127.1.1.1:1";
        let query = json!({ "server_keys": { &name: {}, nobody: {}, server.name(): {} } });
        let answer = http.post(&["_matrix", "key", "v2", "query"], &query).await.granted();
        let names: Vec<_> = answer["server_keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|document| document["server_name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains(&server.name()) && names.contains(&&*name));
        let nothing = json!({ "server_keys": {} });
        let empty = http.post(&["_matrix", "key", "v2", "query"], &nothing).await;
        assert_eq!(empty.granted(), json!({ "server_keys": [] }));

        // What is valid for long enough is not asked for again; what is not, is.
        let count = peer.count(KEYS);
        http.get(&["_matrix", "key", "v2", "query", &name]).await.granted();
        assert_eq!(peer.count(KEYS), count);
    });
}

#[test]
fn nobody_makes_us_ask_the_whole_world() {
    runtime().block_on(async {
        let peer = Peer::start().await;
        let address = peer.name().to_string();
        let names: Vec<String> = (0..150).map(|number| format!("s{number}.test")).collect();
        let server = TestServer::start_with(Clock::machine(), |config| {
            Peer::befriend(config);
            config.testing.insecure_outgoing_tls = true;
            config.federation.resolve =
                names.iter().map(|name| (name.clone(), address.clone())).collect();
        })
        .await;
        let [known, many @ ..] = &names[..] else { panic!("no names") };
        let keys: serde_json::Map<String, Value> =
            many.iter().map(|name| (name.clone(), json!({}))).collect();
        // Requests that come together share what they ask, and each is bounded.
        let path = ["_matrix", "key", "v2", "query"];
        let query = json!({ "server_keys": keys });
        let (one, two) = (server.http().post(&path, &query), server.http().post(&path, &query));
        let (one, two) = futures::future::join(one, two).await;
        assert_eq!(one.granted(), json!({ "server_keys": [] }));
        two.granted();
        // A pause after which somebody is asked again is short in tests.
        assert!((100..=200).contains(&peer.count(KEYS)), "{}", peer.count(KEYS));
        server.http().get(&[&path[..], &[known]].concat()).await.granted();
    });
}

#[test]
fn our_key_is_replaced_by_command() {
    let server = ServerProcess::first_start();
    let published = |server: &ServerProcess| {
        let http = server.http();
        runtime().block_on(async { http.get(&["_matrix", "key", "v2", "server"]).await.granted() })
    };
    let before = published(&server);
    let beside = command(server.folder()).args(["generate-key", "--rotate"]).output().unwrap();
    assert!(!beside.status.success());
    assert!(String::from_utf8_lossy(&beside.stderr).contains("in use"), "{beside:?}");

    let folder = server.stop();
    let rotated = command(folder.path()).args(["generate-key", "--rotate"]).output().unwrap();
    assert!(rotated.status.success(), "{rotated:?}");
    let server = ServerProcess::start_in(folder);
    let after = published(&server);
    let (id, old) = before["verify_keys"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(after["old_verify_keys"][id]["key"], old["key"]);
    assert!(after["old_verify_keys"][id]["expired_ts"].is_u64());
    let new: Vec<_> = after["verify_keys"].as_object().unwrap().keys().collect();
    assert!(new.len() == 1 && new[0] != id, "{after}");
    server.stop();
}
