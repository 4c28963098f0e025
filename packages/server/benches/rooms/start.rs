//! Starting on 100,000 events, and what they take in memory: the real binary on a real data directory.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    figures::Figures,
    world::{Client, Syncing, World},
};

const EVENTS: usize = 100_000;
const ROOMS: usize = 100;

pub(crate) async fn measure(figures: &mut Figures) {
    let world = World::start(Syncing::Off).await;
    let alice = world.user("alice").await;
    for _ in 0..ROOMS {
        let room = alice.create_room().await;
        let said = (0..EVENTS / ROOMS).map(|number| {
            let content =
                json!({"msgtype": "m.text", "body": format!("{number} {}", "x".repeat(200))});
            world.say(&room, &alice.user_id, "m.room.message", None, content)
        });
        futures::future::join_all(said).await;
    }
    let folder = world.into_folder().await;

    let port = free_port();
    let begun = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_matryx"))
        .current_dir(folder.path())
        .env("MATRYX_DATA_DIR", folder.path())
        .env("MATRYX_DATABASE__URL", format!("surrealkv://{}/database", folder.path().display()))
        .env("MATRYX_LISTENER__CLIENT__PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let http = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{port}/_matrix/client/versions");
    while http.get(&url).send().await.is_err() {
        if let Ok(Some(status)) = server.try_wait() {
            let log = server.stderr.take().map(BufReader::new);
            let log: Vec<_> = log.into_iter().flat_map(BufRead::lines).flatten().collect();
            panic!("{status}: {}", log.join("\n"));
        }
        tokio::task::yield_now().await;
    }
    let started = begun.elapsed();
    figures.ratio(
        "start-up on 100,000 events, against 500 ms",
        started,
        Duration::from_millis(500),
        1.0,
    );
    figures.at_most("resident memory after it, MiB", resident(&server), 384.0);
    let mut client = Client::new(&format!("http://127.0.0.1:{port}"));
    client.log_in("alice").await;
    client.sync(None).await;
    figures.at_most("… and after an initial sync of all rooms, MiB", resident(&server), 384.0);
    server.kill().expect("it dies");
    drop(server.wait());
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// MiB of memory that a process has resident.
fn resident(server: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    kib / 1024.0
}
