//! The keys of other servers, and whom we believe about them.

use matryx_core::event::{OpenError, SigningKey};
use matryx_server::{
    clock::Clock,
    federation::{OwnKeys, keys::OldKey},
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, RoomVersionId, UInt, signatures::sign_json,
};
use serde_json::{Value, json};

use super::support::{KEYS, Peer, SharedServer, TestServer, Told, eventually, new_key, runtime};

static SERVER: SharedServer = SharedServer::befriended();

pub fn object(value: &Value) -> CanonicalJsonObject {
    serde_json::from_value(value.clone()).unwrap()
}

pub fn hours(count: u64) -> u64 {
    count * 3_600_000
}

fn time(milliseconds: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::new_saturating(milliseconds))
}

/// A document of a peer's keys, valid until some time and signed by the peer.
fn document(peer: &Peer, until: u64) -> Value {
    document_with(peer, peer.key(), until)
}

/// The same with one key, be it one that the peer had at another time.
fn document_with(peer: &Peer, key: &SigningKey, until: u64) -> Value {
    let keys = json!({ key.key_id().as_str(): { "key": key.public_key() } });
    let document = json!({
        "server_name": peer.name(), "verify_keys": keys, "old_verify_keys": {}, "valid_until_ts": until,
    });
    signed(peer, key, &document)
}

/// Adds a peer's signature.
fn signed(peer: &Peer, key: &SigningKey, document: &Value) -> Value {
    let mut document = object(document);
    sign_json(peer.name().as_str(), key, &mut document).unwrap();
    serde_json::to_value(document).unwrap()
}

/// A peer whose key has been replaced at some time, and the key that it had.
async fn replaced(at: u64) -> (Peer, SigningKey) {
    let old = new_key();
    let line = OldKey::of(&old, time(at)).to_string();
    let keys = OwnKeys::parse(&new_key().to_line(), &line).unwrap();
    (Peer::start_with(keys).await, old)
}

/// A server that asks a peer for the keys of others.
async fn trusting(notary: &Peer) -> TestServer {
    let name = notary.name().to_owned();
    TestServer::start_with(Clock::machine(), |config| {
        Peer::befriend(config);
        config.federation.key_notaries = vec![name];
    })
    .await
}

/// A message of the peer's, in a room that needs not be there.
fn message(peer: &Peer, version: &RoomVersionId, at: u64) -> Value {
    let (_, event) = peer.event(
        version,
        json!({
            "type": "m.room.message", "sender": peer.user("alice"), "content": {}, "depth": 1,
            "room_id": format!("!room:{}", peer.name()), "prev_events": [], "auth_events": [],
            "origin_server_ts": at,
        }),
    );
    event
}

/// Whether the server believes that the peer has made an event at this time.
async fn believes(server: &TestServer, peer: &Peer, at: u64) -> Result<(), String> {
    let version = RoomVersionId::V11;
    let event = object(&message(peer, &version, at));
    let opened = server.app().federation.open(event, &version.rules().unwrap()).await;
    opened.map(drop).map_err(|error| error.to_string())
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
        assert_eq!(peer.count(KEYS), 1);
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
        assert_eq!(peer.count(KEYS), 1);
    });
}

#[test]
fn a_document_must_be_the_servers_own() {
    SERVER.run(async |server| {
        let now = u64::from(server.app().clock.now().0);
        let (liar, other) = (Peer::start().await, Peer::start().await);
        let stolen = document(&other, now + hours(1));
        liar.on(KEYS, move |_| Told::ok(stolen.clone()));
        let why = believes(server, &liar, now).await.unwrap_err();
        assert!(why.contains(other.name().as_str()), "{why}");

        let thief = Peer::start().await;
        let mut changed = document(&thief, now + hours(1));
        changed["valid_until_ts"] = json!(now + hours(2));
        thief.on(KEYS, move |_| Told::ok(changed.clone()));
        let why = believes(server, &thief, now).await.unwrap_err();
        assert!(why.contains("not signed by it"), "{why}");

        let babbler = Peer::start().await;
        babbler.on(KEYS, |_| Told::Raw(200, "nonsense".into()));
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
        peer.on(KEYS, move |_| Told::Raw(200, padded.clone().into()));
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
        peer.on(KEYS, move |_| Told::ok(lasting.clone()));
        believes(server, &peer, now + hours(24 * 6)).await.unwrap();
        believes(server, &peer, now + hours(24 * 8)).await.unwrap_err();

        let short = Peer::start().await;
        let passing = document(&short, now + hours(1));
        short.on(KEYS, move |_| Told::ok(passing.clone()));
        believes(server, &short, now).await.unwrap();
        believes(server, &short, now + hours(2)).await.unwrap_err();
        // Room versions before 5 do not ask when it was.
        let version = RoomVersionId::V4;
        let event = object(&message(&short, &version, now + hours(2)));
        server.app().federation.open(event, &version.rules().unwrap()).await.unwrap();
    });
}

#[test]
fn a_key_that_was_replaced_is_good_for_what_came_before() {
    SERVER.run(async |server| {
        let now = u64::from(server.app().clock.now().0);
        let (peer, old) = replaced(now - hours(10)).await;
        let version = RoomVersionId::V11;
        let before =
            |at: u64| object(&peer.resign_event(&old, &version, message(&peer, &version, at)));
        let rules = version.rules().unwrap();
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
        let server = trusting(&notary).await;
        let now = u64::from(server.app().clock.now().0);
        gone.on(KEYS, |_| Told::error(502, "M_UNKNOWN"));
        let unsigned = document(&gone, now + hours(1));
        let signed = signed(&notary, notary.key(), &unsigned);

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
        let server = trusting(&notary).await;
        let now = u64::from(server.app().clock.now().0);
        // The key was stolen ten hours ago and replaced; the notary still has what was said of it before.
        let (peer, stolen) = replaced(now - hours(10)).await;
        believes(&server, &peer, now).await.unwrap();
        let old = document_with(&peer, &stolen, now + hours(1));
        let answer = json!({ "server_keys": [signed(&notary, notary.key(), &old)] });
        notary.on("/_matrix/key/v2/query", move |_| Told::ok(answer.clone()));

        let version = RoomVersionId::V11;
        let rules = version.rules().unwrap();
        let said =
            |at: u64| object(&peer.resign_event(&stolen, &version, message(&peer, &version, at)));
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
        let (peer, old) = replaced(now - hours(1)).await;
        let before = document_with(&peer, &old, now + hours(1));
        let after = peer.keys().document(peer.name(), server.app().clock.now()).unwrap();
        let after = serde_json::to_value(after).unwrap();
        // The answer to the first question was given before the key was replaced, and is on its way.
        let (asked, was_asked) = tokio::sync::oneshot::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let first = std::sync::Mutex::new(Some((asked, gone)));
        peer.on(KEYS, move |_| {
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
        assert_eq!(peer.count(KEYS), 2);
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
        voucher.on(KEYS, |_| Told::error(503, "M_UNKNOWN"));
        let opened = open(&event).await;
        let Err(OpenError::Key(why)) = opened else { panic!("{opened:?}") };
        assert!(why.contains(voucher.name().as_str()) && why.contains("503"), "{why}");
        let document = document(&voucher, u64::from(server.app().clock.now().0) + hours(1));
        voucher.on(KEYS, move |_| Told::ok(document.clone()));
        eventually("the key", async || open(&event).await.map_err(|error| error.to_string())).await;
        let opened = open(&event).await.unwrap();
        assert!(*opened.event_id() == id && !opened.rejected());
    });
}

#[test]
fn keys_are_remembered_over_restarts() {
    runtime().block_on(async {
        let peer = Peer::start().await;
        let server = TestServer::start_with(Clock::machine(), Peer::befriend).await;
        let now = u64::from(server.app().clock.now().0);
        believes(&server, &peer, now).await.unwrap();
        peer.on(KEYS, |_| Told::error(500, "M_UNKNOWN"));
        let server = server.restart().await;
        believes(&server, &peer, now).await.unwrap();
        assert_eq!(peer.count(KEYS), 1);
    });
}
