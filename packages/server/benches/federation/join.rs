//! Joining a room of ten thousand members through another server: against parsing and verifying the same bytes, and no more.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use ruma::{
    CanonicalJsonObject, RoomVersionId,
    signatures::{PublicKeyMap, verify_event},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    crowded::{Crowded, MEMBERS},
    figures::{Figures, median},
    support::{Hosted, Peer, ServerProcess, TestUser, ca, empty_folder},
};

/// How often it is repeated, each time by a new server.
const TIMES: usize = 3;

/// How much memory it may take above what the server takes at rest, in MiB.
const LIMIT: f64 = 200.0;

pub(crate) async fn measure(figures: &mut Figures) {
    let peer = Peer::start().await;
    let crowded = Crowded::new(&peer);
    let (mut floors, mut joins) = (Vec::with_capacity(TIMES), Vec::with_capacity(TIMES));
    let mut most: f64 = 0.0;
    for _ in 0..TIMES {
        floors.push(floor(&peer, &crowded.answer));
        let (taken, above) = join(&peer, &crowded).await;
        joins.push(taken);
        most = most.max(above);
    }
    let (floor, join) = (median(&mut floors), median(&mut joins));
    figures
        .note(format!("the floor: parsing and verifying the state of a room of {MEMBERS}"), floor);
    let ratio = join.as_secs_f64() / floor.as_secs_f64();
    let text = format!("{} ms ({ratio:.2} : 1)", join.as_millis());
    figures.say(format!("a join of a room of {MEMBERS} through its server"), text);
    figures.at_most("… memory above the rest, MiB", most, LIMIT);
}

/// All cores parse the events and verify their signatures and hashes.
fn floor(peer: &Peer, answer: &[u8]) -> Duration {
    #[derive(Deserialize)]
    struct Answer {
        state: Vec<Box<RawValue>>,
        auth_chain: Vec<Box<RawValue>>,
    }
    let rules = RoomVersionId::V11.rules().expect("a known version");
    let key = peer.key();
    let of_peer = BTreeMap::from([(key.key_id().to_string(), key.public_key())]);
    let keys = PublicKeyMap::from([(peer.name().to_string(), of_peer)]);
    let begun = Instant::now();
    let Answer { mut state, auth_chain } = serde_json::from_slice(answer).expect("an answer");
    state.extend(auth_chain);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for part in state.chunks(state.len().div_ceil(cores)) {
            let (keys, rules) = (&keys, &rules);
            scope.spawn(move || {
                for event in part {
                    let event: CanonicalJsonObject =
                        serde_json::from_str(event.get()).expect("an event");
                    verify_event(keys, &event, rules).expect("a signature");
                }
            });
        }
    });
    begun.elapsed()
}

/// How long a user of a server that has just started waits for their join, and how many MiB it takes above the rest.
async fn join(peer: &Peer, crowded: &Crowded) -> (Duration, f64) {
    let folder = empty_folder();
    let text = format!(
        "[registration]\nopen = true\n\
         [federation]\ntrusted_ca_file = \"{}\"\n\
         [testing]\ncheap_password_hashing = true\nallow_private_ip_destinations = true\n",
        ca().file().display()
    );
    fs::write(folder.path().join("matryx.toml"), text).expect("a configuration file");
    let start = tokio::task::spawn_blocking(move || ServerProcess::start_in(folder));
    let server = start.await.expect("a server");
    let user = TestUser::register(&server.http(), "alice").await;
    // By a small room the servers get to know each other.
    let small = Hosted::public(peer);
    small.open(peer);
    user.join_via(&small.id, &[peer.name().as_str()]).await.granted();
    crowded.open(peer);
    let rest = memory(&server, "VmRSS");
    // From here on the peak counts anew.
    fs::write(format!("/proc/{}/clear_refs", server.id()), "5").expect("a process of ours");
    let begun = Instant::now();
    user.join_via(&crowded.hosted.id, &[peer.name().as_str()]).await.granted();
    let taken = begun.elapsed();
    let above = memory(&server, "VmHWM") - rest;
    let look = user.query(&["rooms", &crowded.hosted.id, "joined_members"], &[]).await.granted();
    let joined = look["joined"].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(joined, MEMBERS + 2, "the members, the creator and who has joined");
    tokio::task::spawn_blocking(move || drop(server.stop())).await.expect("an end");
    (taken, above)
}

/// MiB of memory of a process, by a name of `/proc/…/status`.
fn memory(server: &ServerProcess, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.expect("its memory").trim().trim_end_matches(" kB");
    kib.parse::<f64>().expect("a number") / 1024.0
}
