//! What goes to other servers: in order, not lost, and repeated for as long as nobody has acknowledged it.

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use matryx_server::clock::Clock;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{
    Guest, Peer, ServerProcess, TestServer, TestUser, Told, ca, fresh, runtime, v3,
};

const SEND: &str = "/_matrix/federation/v1/send/";

/// How many messages are acknowledged before the server is killed.
const ENOUGH: usize = 40;

/// A server, a peer with a user in a room of it, and whether the peer is up.
struct Scene {
    server: TestServer,
    peer: Peer,
    up: Arc<AtomicBool>,
    alice: TestUser,
    room: String,
}

impl Scene {
    async fn new() -> Self {
        let server = TestServer::start_with(Clock::machine(), Peer::befriend).await;
        let peer = Peer::start().await;
        let up = Arc::new(AtomicBool::new(true));
        peer.on(SEND, {
            let up = Arc::clone(&up);
            move |_| {
                if up.load(Ordering::Relaxed) {
                    Told::ok(json!({ "pdus": {} }))
                } else {
                    Told::error(503, "M_UNKNOWN")
                }
            }
        });
        let alice = server.user("alice").await;
        let room = alice.public_room().await;
        let scene = Self { server, peer, up, alice, room };
        scene.guest("guest").join(&scene.room).await;
        scene
    }

    fn guest(&self, name: &str) -> Guest<'_> {
        let name = format!("{name}{}", fresh());
        Guest { peer: &self.peer, server: &self.server, id: self.peer.user(&name) }
    }

    fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    async fn say(&self, texts: impl IntoIterator<Item = usize>) {
        for text in texts {
            self.alice.say(&self.room, &text.to_string()).await;
        }
    }

    /// Waits until the peer has heard this text.
    async fn hears(&self, text: &str) -> Value {
        hears(&self.peer, |pdu| pdu["content"]["body"] == text).await
    }
}

/// Waits until a peer has heard such an event, and gives it.
async fn hears(peer: &Peer, wanted: impl Fn(&Value) -> bool) -> Value {
    let asked = peer.hears_one(|asked| pdus(&asked.body).any(&wanted)).await;
    pdus(&asked.body).find(|pdu| wanted(pdu)).unwrap().clone()
}

fn pdus(body: &Value) -> impl Iterator<Item = &Value> {
    body["pdus"].as_array().into_iter().flatten()
}

/// The texts that a peer has heard, each where it was heard first.
fn texts(peer: &Peer) -> Vec<String> {
    let mut known = HashSet::new();
    let asked = peer.asked();
    let all = asked.iter().flat_map(|asked| pdus(&asked.body));
    all.filter_map(|pdu| pdu["content"]["body"].as_str())
        .filter(|text| known.insert((*text).to_owned()))
        .map(str::to_owned)
        .collect()
}

fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| number.to_string()).collect()
}

#[test]
fn events_come_in_order_and_as_the_specification_wants_them() {
    runtime().block_on(async {
        let scene = Scene::new().await;
        // What is said while the first is on its way goes together.
        let (first, said) = (AtomicBool::new(true), Arc::new(Notify::new()));
        scene.peer.on(SEND, {
            let said = Arc::clone(&said);
            move |_| {
                if first.swap(false, Ordering::Relaxed) {
                    Told::Held(Arc::clone(&said), json!({ "pdus": {} }))
                } else {
                    Told::ok(json!({ "pdus": { "$some": { "error": "no" } } }))
                }
            }
        });
        scene.say(0..70).await;
        said.notify_one();
        scene.hears("69").await;
        assert_eq!(texts(&scene.peer), numbers(0, 70));
        let asked: Vec<_> =
            scene.peer.asked().into_iter().filter(|asked| asked.path.starts_with(SEND)).collect();
        let ids: HashSet<_> = asked.iter().map(|asked| &asked.path).collect();
        assert_eq!(ids.len(), asked.len(), "nothing was repeated");
        for asked in &asked {
            assert_eq!(asked.body["origin"], scene.server.name());
            assert!(asked.body["origin_server_ts"].is_u64());
            assert!((1..=50).contains(&pdus(&asked.body).count()));
            for pdu in pdus(&asked.body) {
                assert_eq!(pdu["room_id"], scene.room.as_str());
                assert!(pdu["signatures"][scene.server.name()].is_object());
                assert!(pdu.get("unsigned").is_none() && pdu.get("event_id").is_none());
            }
        }
    });
}

#[test]
fn what_is_not_acknowledged_is_repeated_under_the_same_id() {
    runtime().block_on(async {
        let scene = Scene::new().await;
        let tries = AtomicUsize::new(0);
        scene.peer.on(SEND, move |_| match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Told::error(500, "M_UNKNOWN"),
            1 => Told::Raw(502, "not there".into()),
            2 => Told::error(429, "M_LIMIT_EXCEEDED"),
            _ => Told::ok(json!({})),
        });
        scene.say(0..2).await;
        scene.hears("1").await;
        let asked: Vec<_> =
            scene.peer.asked().into_iter().filter(|asked| asked.path.starts_with(SEND)).collect();
        let [first, second, third, fourth, ..] = asked.as_slice() else { panic!("{asked:?}") };
        for again in [second, third, fourth] {
            assert_eq!((&again.path, &again.body["pdus"]), (&first.path, &first.body["pdus"]));
        }
        assert_eq!(texts(&scene.peer), ["0", "1"]);
    });
}

#[test]
fn what_was_said_while_a_server_was_away_is_there_after_restarts() {
    runtime().block_on(async {
        let mut scene = Scene::new().await;
        scene.set_up(false);
        scene.say(0..60).await;
        let redacted = scene.alice.say(&scene.room, "secret").await;
        scene.alice.redact(&scene.room, &redacted).await.granted();
        scene.server = scene.server.restart().await;
        scene.alice = scene.alice.at(scene.server.http());
        scene.say(60..62).await;
        let heard = texts(&scene.peer);
        assert!(heard.len() <= 50, "only what was tried: {heard:?}");
        let seen = scene.peer.asked().len();
        scene.peer.on(SEND, |_| Told::ok(json!({ "pdus": {} })));
        scene.hears("61").await;
        let asked = scene.peer.asked();
        let texts: Vec<_> = asked[seen..]
            .iter()
            .flat_map(|asked| pdus(&asked.body))
            .filter_map(|pdu| pdu["content"]["body"].as_str())
            .collect();
        // What waits is told from its beginning, once; the redacted message comes without its text.
        let mut known = HashSet::new();
        let once: Vec<_> = texts.into_iter().filter(|text| known.insert(*text)).collect();
        assert_eq!(once, numbers(0, 62));
        assert!(
            asked
                .iter()
                .flat_map(|asked| pdus(&asked.body))
                .any(|pdu| { pdu["type"] == "m.room.message" && pdu["content"] == json!({}) })
        );
    });
}

#[test]
fn whose_knock_is_denied_hears_of_it_though_not_in_the_room() {
    runtime().block_on(async {
        let scene = Scene::new().await;
        let room = scene.alice.room_with_rule("knock").await;
        let is_about = |id: &str, membership: &str| {
            let (id, membership) = (id.to_owned(), membership.to_owned());
            move |pdu: &Value| {
                pdu["state_key"] == *id && pdu["content"]["membership"] == *membership
            }
        };
        for (verb, membership) in [("kick", "leave"), ("ban", "ban"), ("unban", "leave")] {
            let guest = scene.guest("knocker");
            let ready = guest.ready("knock", &room, |_| {}).await;
            guest.hand_in("v1/send_knock", &room, &ready).await.granted();
            let body = json!({ "user_id": guest.id });
            if verb == "unban" {
                scene.alice.act(&room, "ban", body.clone()).await.granted();
                hears(&scene.peer, is_about(guest.id.as_str(), "ban")).await;
            }
            scene.alice.act(&room, verb, body).await.granted();
            let pdu = hears(&scene.peer, is_about(guest.id.as_str(), membership)).await;
            assert_eq!(pdu["sender"], scene.alice.id.as_str());
        }
    });
}

#[test]
fn what_was_acknowledged_to_a_client_reaches_the_servers_though_the_process_is_killed() {
    runtime().block_on(async {
        let Scene { server, peer, alice, room, .. } = Scene::new().await;
        let folder = server.stop().await.into_folder();
        let text = format!(
            "data_dir = \".\"\n[registration]\nopen = true\n[federation]\ntrusted_ca_file = {:?}\n\
             [testing]\ncheap_password_hashing = true\nallow_private_ip_destinations = true\n\
             short_federation_backoff = true\n",
            ca().file()
        );
        fs::write(folder.path().join("matryx.toml"), text).unwrap();
        let process = ServerProcess::start_in(folder);
        let user = alice.at(&process.http());
        let count = AtomicUsize::new(0);
        let enough = tokio::sync::Notify::new();
        let sending = async {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                let text = n.to_string();
                let path = v3(&["rooms", &room, "send", "m.room.message", &text]);
                let sent = user.http.try_put(&path, &json!({ "body": text })).await;
                if sent.is_none() {
                    break;
                }
                acknowledged.push(text);
                if count.fetch_add(1, Ordering::Relaxed) + 1 >= ENOUGH {
                    enough.notify_one();
                }
            }
            acknowledged
        };
        let killing = async {
            enough.notified().await;
            process.crash_and_restart()
        };
        let (acknowledged, process) = futures::join!(sending, killing);
        alice.at(&process.http()).say(&room, "after").await;
        hears(&peer, |pdu| pdu["content"]["body"] == "after").await;
        let mut heard = texts(&peer);
        assert_eq!(heard.pop().as_deref(), Some("after"), "in order");
        // One more may have been written and not been acknowledged.
        assert!(heard.len() <= acknowledged.len() + 1);
        heard.truncate(acknowledged.len());
        assert_eq!(heard, acknowledged);
        process.stop();
    });
}
