//! Whether all cores verify.

use std::time::Instant;

use matryx_server::{clock::Clock, federation::parse};
use ruma::RoomVersionId;
use serde_json::{json, value::RawValue};

use crate::{
    figures::{Figures, median},
    support::{Peer, TestServer},
    thread::{Says, Thread},
};

/// How many events are verified.
const EVENTS: usize = 2_000;
/// How often.
const TIMES: usize = 5;
/// How much faster all cores must be than one, on two.
const LIMIT: f64 = 1.6;

pub(crate) async fn measure(figures: &mut Figures) {
    let (server, peer) =
        (TestServer::start_with(Clock::machine(), Peer::befriend).await, Peer::start().await);
    let rules = RoomVersionId::V11.rules().expect("a known version");
    let events = said(&peer);
    let federation = &server.app().federation;
    let (mut alone, mut together) = (Vec::with_capacity(TIMES), Vec::with_capacity(TIMES));
    for round in 0..=TIMES {
        let events = events.clone();
        let begun = Instant::now();
        for event in &events {
            let event = parse(event).expect("an event");
            federation.open(event, &rules).await.expect("an event that can be believed");
        }
        let one = begun.elapsed();
        let begun = Instant::now();
        let opened = federation.open_all(events, &rules).await;
        let all = begun.elapsed();
        assert!(opened.iter().all(Result::is_ok));
        // The first round fetches the key.
        if round > 0 {
            alone.push(one);
            together.push(all);
        }
    }
    let (alone, together) = (median(&mut alone), median(&mut together));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    figures.note(format!("{EVENTS} events verified, one after another"), alone);
    figures.note("… all at once", together);
    let speed_up = alone.as_secs_f64() / together.as_secs_f64();
    figures.at_least(format!("… times as fast, on {cores} cores"), speed_up, LIMIT);
    drop(server.stop().await);
}

fn said(peer: &Peer) -> Vec<Box<RawValue>> {
    let room = format!("!room:{}", peer.name());
    let (user, version) = (peer.user("bob"), RoomVersionId::V11);
    let tips = vec!["$before".try_into().expect("an event id")];
    let mut thread = Thread { peer, version, room, tips, depth: 1 };
    let allowing: Vec<_> =
        ["$create", "$levels", "$join"].map(|id| id.try_into().expect("an event id")).into();
    let event = |_| {
        let (_, event) = thread.say(Says {
            sender: user.as_str(),
            kind: "m.room.message",
            key: None,
            content: json!({ "msgtype": "m.text", "body": "x".repeat(200) }),
            auth_events: &allowing,
        });
        serde_json::value::to_raw_value(&event).expect("JSON")
    };
    (0..EVENTS).map(event).collect()
}
