//! Keys: ours and how they are replaced, those of others and whom we believe about them.

use std::collections::BTreeMap;

use matryx_core::event::OpenError;
use matryx_server::{
    clock::Clock,
    federation::{OwnKeys, keys::OldKey},
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, RoomVersionId, UInt,
    signatures::{PublicKeyMap, sign_json, verify_json},
};
use serde_json::{Value, json};

use super::support::{
    Peer, ServerProcess, SharedServer, TestServer, Told, command, eventually, new_key, runtime,
};

static SERVER: SharedServer = SharedServer::befriended();

const OWN: &str = "/_matrix/key/v2/server";

fn object(value: &Value) -> CanonicalJsonObject {
    serde_json::from_value(value.clone()).unwrap()
}

fn hours(count: u64) -> u64 {
    count * 3_600_000
}

fn time(milliseconds: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::new_saturating(milliseconds))
}

/// A document of a peer's keys, valid until some time and signed by the peer.
fn document(peer: &Peer, until: u64) -> Value {
    let key = peer.key();
    let keys = json!({ key.key_id().as_str(): { "key": key.public_key() } });
    let mut document = object(&json!({
        "server_name": peer.name(), "verify_keys": keys, "old_verify_keys": {}, "valid_until_ts": until,
    }));
    sign_json(peer.name().as_str(), key, &mut document).unwrap();
    serde_json::to_value(document).unwrap()
}

/// A message of the peer's, in a room that needs not be there.
fn message(peer: &Peer, version: &RoomVersionId, at: u64) -> CanonicalJsonObject {
    let (_, event) = peer.event(
        version,
        json!({
            "type": "m.room.message", "sender": peer.user("alice"), "content": {}, "depth": 1,
            "room_id": format!("!room:{}", peer.name()), "prev_events": [], "auth_events": [],
            "origin_server_ts": at,
        }),
    );
    object(&event)
}

/// Whether the server believes that the peer has made an event at this time.
async fn believes(server: &TestServer, peer: &Peer, at: u64) -> Result<(), String> {
    let version = RoomVersionId::V11;
    let event = message(peer, &version, at);
    let opened = server.app().federation.open(event, &version.rules().unwrap()).await;
    opened.map(drop).map_err(|error| error.to_string())
}

#[test]
fn our_keys_are_published_and_signed() {
    SERVER.run(async |server| {
        let answer = server.http().get(&["_matrix", "key", "v2", "server"]).await.ok();
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
fn a_servers_keys_are_asked_for_once() {
    SERVER.run(async |server| {
        let peer = Peer::start().await;
        let now = u64::from(server.app().clock.now().0);
        let asked = (0..20).map(|_| believes(server, &peer, now));
        for believed in futures::future::join_all(asked).await {
            believed.unwrap();
        }
        assert_eq!(peer.count(OWN), 1);
        let version = RoomVersionId::V11;
        let events = (0..40).map(|n| {
            let event = message(&peer, &version, now + n);
            serde_json::value::to_raw_value(&event).unwrap()
        });
        let mut events: Vec<_> = events.collect();
        events.push(serde_json::value::to_raw_value(&json!({ "depth": 1.5 })).unwrap());
        let rules = version.rules().unwrap();
        let opened = server.app().federation.open_all(events, &rules).await;
        assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 40);
        assert!(opened.last().unwrap().is_err());
        let times: Vec<_> = opened.iter().flatten().map(|pdu| pdu.origin_server_ts().0).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert_eq!(peer.count(OWN), 1);
    });
}

#[test]
fn a_document_must_be_the_servers_own() {
    SERVER.run(async |server| {
        let now = u64::from(server.app().clock.now().0);
        let (liar, other) = (Peer::start().await, Peer::start().await);
        let stolen = document(&other, now + hours(1));
        liar.on(OWN, move |_| Told::ok(stolen.clone()));
        let why = believes(server, &liar, now).await.unwrap_err();
        assert!(why.contains(other.name().as_str()), "{why}");

        let thief = Peer::start().await;
        let mut changed = document(&thief, now + hours(1));
        changed["valid_until_ts"] = json!(now + hours(2));
        thief.on(OWN, move |_| Told::ok(changed.clone()));
        let why = believes(server, &thief, now).await.unwrap_err();
        assert!(why.contains("not signed by it"), "{why}");

        let babbler = Peer::start().await;
        babbler.on(OWN, |_| Told::Raw(200, "nonsense".into()));
        believes(server, &babbler, now).await.unwrap_err();
    });
}

#[test]
fn a_document_that_is_too_large_is_not_read() {
    SERVER.run(async |server| {
        let now = u64::from(server.app().clock.now().0);
        let peer = Peer::start().await;
        let document = document(&peer, now + hours(1)).to_string();
        let padded = format!("{document}{}", " ".repeat(1 << 20));
        peer.on(OWN, move |_| Told::Raw(200, padded.clone().into()));
        let why = believes(server, &peer, now).await.unwrap_err();
        assert!(why.contains("more than 131072 bytes"), "{why}");
    });
}

#[test]
fn a_key_is_believed_while_it_is_valid_and_seven_days_at_most() {
    SERVER.run(async |server| {
        let now = u64::from(server.app().clock.now().0);
        let peer = Peer::start().await;
        let lasting = document(&peer, now + hours(24 * 30));
        peer.on(OWN, move |_| Told::ok(lasting.clone()));
        believes(server, &peer, now + hours(24 * 6)).await.unwrap();
        believes(server, &peer, now + hours(24 * 8)).await.unwrap_err();

        let short = Peer::start().await;
        let passing = document(&short, now + hours(1));
        short.on(OWN, move |_| Told::ok(passing.clone()));
        believes(server, &short, now).await.unwrap();
        believes(server, &short, now + hours(2)).await.unwrap_err();
        // Room versions before 5 do not ask when it was.
        let version = RoomVersionId::V4;
        let event = message(&short, &version, now + hours(2));
        server.app().federation.open(event, &version.rules().unwrap()).await.unwrap();
    });
}

#[test]
fn a_key_that_was_replaced_is_good_for_what_came_before() {
    SERVER.run(async |server| {
        let now = u64::from(server.app().clock.now().0);
        let old = new_key();
        let replaced = OldKey::of(&old, time(now - hours(10)));
        let keys = OwnKeys::parse(&new_key().to_line(), &replaced.to_string()).unwrap();
        let peer = Peer::start_with(keys).await;
        // One that still signs with the old key, at the other's address.
        let before = |at: u64| {
            let name = peer.name().as_str();
            let version = RoomVersionId::V11;
            let mut event = message(&peer, &version, at);
            event.remove("signatures");
            let rules = version.rules().unwrap();
            ruma::signatures::hash_and_sign_event(name, &old, &mut event, &rules.redaction)
                .unwrap();
            event
        };
        let rules = RoomVersionId::V11.rules().unwrap();
        let federation = &server.app().federation;
        federation.open(before(now - hours(11)), &rules).await.unwrap();
        let error = federation.open(before(now - hours(9)), &rules).await.unwrap_err();
        assert!(error.to_string().contains("signature"), "{error}");
        believes(server, &peer, now).await.unwrap();
    });
}

#[test]
fn notaries_are_asked_when_a_server_does_not_answer() {
    runtime().block_on(async {
        let (notary, gone) = (Peer::start().await, Peer::start().await);
        let name = notary.name().to_owned();
        let server = TestServer::start_with(Clock::machine(), |config| {
            Peer::befriend(config);
            config.federation.key_notaries = vec![name];
        })
        .await;
        let now = u64::from(server.app().clock.now().0);
        gone.on(OWN, |_| Told::error(502, "M_UNKNOWN"));
        let unsigned = document(&gone, now + hours(1));
        let mut signed = object(&unsigned);
        sign_json(notary.name().as_str(), notary.key(), &mut signed).unwrap();

        let answer = json!({ "server_keys": [unsigned] });
        notary.on("/_matrix/key/v2/query", move |_| Told::ok(answer.clone()));
        believes(&server, &gone, now).await.unwrap_err();

        let answer = json!({ "server_keys": [signed] });
        notary.on("/_matrix/key/v2/query", move |_| Told::ok(answer.clone()));
        eventually("the key", async || believes(&server, &gone, now).await).await;
        let asked = notary.hears("/_matrix/key/v2/query").await;
        let criteria = &asked.body["server_keys"][gone.name().as_str()];
        let wanted = &criteria[gone.key().key_id().as_str()]["minimum_valid_until_ts"];
        assert_eq!(wanted.as_u64(), Some(now));
    });
}

#[test]
fn an_older_document_takes_nothing_back() {
    runtime().block_on(async {
        let notary = Peer::start().await;
        let name = notary.name().to_owned();
        let server = TestServer::start_with(Clock::machine(), |config| {
            Peer::befriend(config);
            config.federation.key_notaries = vec![name];
        })
        .await;
        let now = u64::from(server.app().clock.now().0);
        // The key was stolen ten hours ago and replaced; the notary still has what was said of it before.
        let stolen = new_key();
        let replaced = OldKey::of(&stolen, time(now - hours(10)));
        let keys = OwnKeys::parse(&new_key().to_line(), &replaced.to_string()).unwrap();
        let peer = Peer::start_with(keys).await;
        believes(&server, &peer, now).await.unwrap();
        let mut old = object(&json!({
            "server_name": peer.name(), "old_verify_keys": {}, "valid_until_ts": now + hours(1),
            "verify_keys": { stolen.key_id().as_str(): { "key": stolen.public_key() } },
        }));
        sign_json(peer.name().as_str(), &stolen, &mut old).unwrap();
        sign_json(notary.name().as_str(), notary.key(), &mut old).unwrap();
        let answer = json!({ "server_keys": [serde_json::to_value(old).unwrap()] });
        notary.on("/_matrix/key/v2/query", move |_| Told::ok(answer.clone()));

        let version = RoomVersionId::V11;
        let rules = version.rules().unwrap();
        let said = |at: u64| {
            let mut event = message(&peer, &version, at);
            event.remove("signatures");
            let name = peer.name().as_str();
            ruma::signatures::hash_and_sign_event(name, &stolen, &mut event, &rules.redaction)
                .unwrap();
            event
        };
        // The key does not do for this time, so that everybody is asked for it; more than once, as memory might go.
        eventually("the notary's word", async || {
            server.app().federation.open(said(now), &rules).await.unwrap_err();
            if notary.count("/_matrix/key/v2/query") < 2 {
                Err("not asked".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
        server.app().federation.open(said(now), &rules).await.unwrap_err();
        let server = server.restart().await;
        server.app().federation.open(said(now), &rules).await.unwrap_err();
        server.app().federation.open(said(now - hours(11)), &rules).await.unwrap();
        believes(&server, &peer, now).await.unwrap();
    });
}

#[test]
fn who_asks_beside_others_gets_the_keys_of_its_own() {
    SERVER.run(async |server| {
        let now = u64::from(server.app().clock.now().0);
        let old = new_key();
        let replaced = OldKey::of(&old, time(now - hours(1)));
        let keys = OwnKeys::parse(&new_key().to_line(), &replaced.to_string()).unwrap();
        let peer = Peer::start_with(keys).await;
        let mut before = object(&json!({
            "server_name": peer.name(), "old_verify_keys": {}, "valid_until_ts": now + hours(1),
            "verify_keys": { old.key_id().as_str(): { "key": old.public_key() } },
        }));
        sign_json(peer.name().as_str(), &old, &mut before).unwrap();
        let (before, after) = (serde_json::to_value(before).unwrap(), {
            let document = peer.keys().document(peer.name(), server.app().clock.now()).unwrap();
            serde_json::to_value(document).unwrap()
        });
        // The answer to the first question was given before the key was replaced, and is on its way.
        let (asked, was_asked) = tokio::sync::oneshot::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let first = std::sync::Mutex::new(Some((asked, gone)));
        peer.on(OWN, move |_| {
            let first = first.lock().unwrap().take();
            let Some((asked, gone)) = first else { return Told::ok(after.clone()) };
            asked.send(()).unwrap();
            // Blocks one thread of the runtime until the second question is there.
            gone.recv().unwrap();
            Told::ok(before.clone())
        });
        let mut one = std::pin::pin!(believes(server, &peer, now));
        tokio::select! {
            early = &mut one => panic!("{early:?}"),
            asked = was_asked => asked.unwrap(),
        }
        let mut two = std::pin::pin!(believes(server, &peer, now));
        assert!(futures::poll!(&mut two).is_pending());
        go.send(()).unwrap();
        let (one, two) = tokio::join!(one, two);
        one.unwrap_err();
        two.unwrap();
        assert_eq!(peer.count(OWN), 2);
    });
}

#[test]
fn who_vouches_may_be_away_for_a_while() {
    SERVER.run(async |server| {
        let (peer, voucher) = (Peer::start().await, Peer::start().await);
        let (version, user) = (RoomVersionId::V11, peer.user("alice"));
        let (id, event) = peer.event(
            &version,
            json!({
                "type": "m.room.member", "sender": user, "state_key": user, "depth": 1,
                "room_id": format!("!room:{}", peer.name()), "prev_events": [], "auth_events": [],
                "content": {
                    "membership": "join", "join_authorised_via_users_server": voucher.user("bob"),
                },
            }),
        );
        let open = async |event: &Value| {
            let rules = version.rules().unwrap();
            server.app().federation.open(object(event), &rules).await
        };
        // Nobody vouches: that is the event's own fault, and it is kept as rejected.
        let opened = open(&event).await;
        assert!(matches!(opened, Err(OpenError::Rejected { .. })), "{opened:?}");
        // Somebody does who can't be asked now: it is as if the event had not come.
        let event = voucher.sign_event(&version, event);
        voucher.on(OWN, |_| Told::error(503, "M_UNKNOWN"));
        let opened = open(&event).await;
        let Err(OpenError::Key(why)) = opened else { panic!("{opened:?}") };
        assert!(why.contains(voucher.name().as_str()) && why.contains("503"), "{why}");
        let document = document(&voucher, u64::from(server.app().clock.now().0) + hours(1));
        voucher.on(OWN, move |_| Told::ok(document.clone()));
        eventually("the key", async || open(&event).await.map_err(|error| error.to_string())).await;
        let opened = open(&event).await.unwrap();
        assert!(*opened.event_id() == id && !opened.rejected());
    });
}

#[test]
fn we_are_a_notary_ourselves() {
    SERVER.run(async |server| {
        let peer = Peer::start().await;
        let name = peer.name().as_str().to_owned();
        let http = server.http();
        let answer = http.get(&["_matrix", "key", "v2", "query", &name]).await.ok();
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
        let answer = http.post(&["_matrix", "key", "v2", "query"], &query).await.ok();
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
        assert_eq!(empty.ok(), json!({ "server_keys": [] }));

        // What is valid for long enough is not asked for again; what is not, is.
        let count = peer.count(OWN);
        http.get(&["_matrix", "key", "v2", "query", &name]).await.ok();
        assert_eq!(peer.count(OWN), count);
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
        assert_eq!(one.ok(), json!({ "server_keys": [] }));
        two.ok();
        // A pause after which somebody is asked again is short in tests.
        assert!((100..=200).contains(&peer.count(OWN)), "{}", peer.count(OWN));
        server.http().get(&[&path[..], &[known]].concat()).await.ok();
    });
}

#[test]
fn keys_are_remembered_over_restarts() {
    runtime().block_on(async {
        let peer = Peer::start().await;
        let server = TestServer::start_with(Clock::machine(), Peer::befriend).await;
        let now = u64::from(server.app().clock.now().0);
        believes(&server, &peer, now).await.unwrap();
        peer.on(OWN, |_| Told::error(500, "M_UNKNOWN"));
        let server = server.restart().await;
        believes(&server, &peer, now).await.unwrap();
        assert_eq!(peer.count(OWN), 1);
    });
}

#[test]
fn our_key_is_replaced_by_command() {
    let server = ServerProcess::first_start();
    let published = |server: &ServerProcess| {
        let http = server.http();
        runtime().block_on(async { http.get(&["_matrix", "key", "v2", "server"]).await.ok() })
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
