//! A server in this process, and the clients that call it over HTTP.

use std::{
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use matryx_core::event::Draft;
use matryx_server::{
    clock::Clock,
    config::Config,
    lifecycle::{RunningServer, Server},
    room::{Intent, Proposal, Totals},
};
use reqwest::Method;
use ruma::{CanonicalJsonObject, RoomId};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::figures::{Figures, round};

pub(crate) const MEMTABLE: u64 = 64 << 20;
pub(crate) const BLOCK_CACHE: u64 = 64 << 20;

/// Whether commits are synced to disk.
#[derive(Clone, Copy)]
pub(crate) enum Syncing {
    On,
    Off,
}

impl Syncing {
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::On => "",
            Self::Off => "?sync=never",
        }
    }
}

pub(crate) struct World {
    server: RunningServer,
    folder: TempDir,
}

/// What was written: counts from the committer, bytes from the disk.
pub(crate) struct Reading {
    totals: Totals,
    bytes: u64,
}

/// What one operation writes on average.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) statements: f64,
    pub(crate) rows: f64,
    pub(crate) bytes: f64,
    pub(crate) syncs: f64,
}

impl Reading {
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    pub(crate) fn since(&self, before: &Self) -> Written {
        let appends = (self.totals.appends - before.totals.appends) as f64;
        let of = |now: u64, then: u64| now.saturating_sub(then) as f64 / appends;
        Written {
            statements: of(self.totals.statements, before.totals.statements),
            rows: of(self.totals.rows, before.totals.rows),
            bytes: of(self.bytes, before.bytes),
            syncs: of(self.totals.commits, before.totals.commits),
        }
    }
}

impl Figures {
    /// What an operation writes.
    pub(crate) fn written(&mut self, what: &str, written: Written) {
        let text = format!(
            "{} statements, {} rows, {} bytes on disk, {} syncs",
            round(written.statements),
            round(written.rows),
            round(written.bytes),
            round(written.syncs),
        );
        self.say(format!("{what} writes"), text);
    }
}

pub(crate) fn config(folder: &Path, syncing: Syncing) -> Config {
    let mut config = Config { data_dir: folder.to_owned(), ..Config::default() };
    config.listener.client.port = 0;
    let database = folder.join("database");
    config.database.url = Some(format!("surrealkv://{}{}", database.display(), syncing.option()));
    config.registration.open = true;
    config.testing.cheap_password_hashing = true;
    config
}

impl World {
    pub(crate) async fn start(syncing: Syncing) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(config(folder.path(), syncing), Clock::machine());
        Self { server: server.await.expect("a server"), folder }
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }

    /// Stops the server and keeps what it has written.
    pub(crate) async fn into_folder(self) -> TempDir {
        self.server.stop().await;
        self.folder
    }

    /// A new user, logged in, with a connection of their own.
    pub(crate) async fn user(&self, name: &str) -> Client {
        let mut client = Client::new(&format!("http://{}", self.server.address()));
        let account = json!({
            "username": name, "password": "benchmark", "auth": {"type": "m.login.dummy"},
        });
        let answer = client.call(Method::POST, "/v3/register", Some(account)).await;
        client.token = text(&answer, "access_token");
        client.user_id = text(&answer, "user_id");
        client
    }

    pub(crate) fn written(&self) -> Reading {
        let totals = self.server.app().rooms.tally().read();
        Reading { totals, bytes: size(self.folder.path()) }
    }

    /// How many queries the database has been asked.
    pub(crate) fn asked(&self) -> u64 {
        self.server.app().database.asked()
    }

    /// How many wait in /sync for news of a room.
    pub(crate) fn waiting_for(&self, room: &str) -> usize {
        let room = <&RoomId>::try_from(room).expect("a room id");
        self.server.app().rooms.stream().notifier().waiting_for(room)
    }

    /// Has so many users without accounts join a room, without HTTP.
    pub(crate) async fn fill(&self, room: &str, owner: &Client, members: usize) {
        let open = json!({"join_rule": "public"});
        owner
            .call(Method::PUT, &format!("/v3/rooms/{room}/state/m.room.join_rules"), Some(open))
            .await;
        let joins = (0..members).map(async |number| {
            let user = format!("@member{number}:localhost");
            let content = json!({"membership": "join"});
            self.say(room, &user, "m.room.member", Some(&user), content).await;
        });
        futures::future::join_all(joins).await;
    }

    /// Says something in a room, without HTTP.
    pub(crate) async fn say(
        &self,
        room: &str,
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) {
        let content: CanonicalJsonObject = serde_json::from_value(content).expect("content");
        let draft = Draft {
            sender: sender.try_into().expect("a user id"),
            kind: kind.into(),
            state_key: state_key.map(str::to_owned),
            content,
            redacts: None,
        };
        let intent = Intent::new(Vec::new(), move |_| Ok(Proposal::say(draft.clone())));
        let room = <&RoomId>::try_from(room).expect("a room id");
        self.server.app().rooms.send(room, intent).await.expect("it is said");
    }
}

/// The bytes in a folder. What is kept there under a second name takes no space of its own.
fn size(folder: &Path) -> u64 {
    if folder.ends_with("database/kept") {
        return 0;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A user with a kept-alive connection.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Arc<str>,
    token: String,
    pub(crate) user_id: String,
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder().tcp_nodelay(true).build().expect("a client");
        Self { http, base: base.into(), token: String::new(), user_id: String::new() }
    }

    /// Calls the server and expects success.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/_matrix/client{path}", self.base);
        let mut request = self.http.request(method, &url);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// Logs in with the password that every user here has.
    pub(crate) async fn log_in(&mut self, name: &str) {
        let body = json!({
            "type": "m.login.password", "password": "benchmark",
            "identifier": {"type": "m.id.user", "user": name},
        });
        let answer = self.call(Method::POST, "/v3/login", Some(body)).await;
        self.token = text(&answer, "access_token");
        self.user_id = text(&answer, "user_id");
    }

    pub(crate) async fn create_room(&self) -> String {
        let body = json!({"preset": "private_chat", "name": "benchmark"});
        text(&self.call(Method::POST, "/v3/createRoom", Some(body)).await, "room_id")
    }

    pub(crate) async fn send(&self, room: &str, number: usize) {
        let transaction = format!("{}-{number}-{:?}", self.user_id, Instant::now());
        let transaction: String = transaction.chars().filter(char::is_ascii_alphanumeric).collect();
        let path = format!("/v3/rooms/{room}/send/m.room.message/{transaction}");
        let body = json!({"msgtype": "m.text", "body": "x".repeat(200)});
        self.call(Method::PUT, &path, Some(body)).await;
    }

    pub(crate) async fn ban_or_unban(&self, room: &str, number: usize) {
        let verb = if number.is_multiple_of(2) { "ban" } else { "unban" };
        let body = json!({"user_id": "@nuisance:localhost", "reason": "benchmark"});
        self.call(Method::POST, &format!("/v3/rooms/{room}/{verb}"), Some(body)).await;
    }

    pub(crate) async fn invite(&self, room: &str, user: &Self) {
        let body = json!({"user_id": user.user_id});
        self.call(Method::POST, &format!("/v3/rooms/{room}/invite"), Some(body)).await;
    }

    pub(crate) async fn join(&self, room: &str) {
        self.call(Method::POST, &format!("/v3/rooms/{room}/join"), Some(json!({}))).await;
    }

    /// Syncs without waiting; returns the next token.
    pub(crate) async fn sync(&self, since: Option<&str>) -> String {
        self.sync_waiting(since, 0).await
    }

    /// Syncs, waiting so many milliseconds for news; returns the next token.
    pub(crate) async fn sync_waiting(&self, since: Option<&str>, timeout: u64) -> String {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let path = format!("/v3/sync?timeout={timeout}{since}");
        text(&self.call(Method::GET, &path, None).await, "next_batch")
    }

    /// How long each of so many calls takes, one after another.
    pub(crate) async fn time<F: Future<Output = ()>>(
        &self,
        times: usize,
        call: impl Fn(usize) -> F,
    ) -> Vec<Duration> {
        let mut taken = Vec::with_capacity(times);
        for number in 0..times {
            let begun = Instant::now();
            call(number).await;
            taken.push(begun.elapsed());
        }
        taken
    }
}

fn text(answer: &Value, key: &str) -> String {
    answer[key].as_str().unwrap_or_else(|| panic!("{key} in {answer}")).to_owned()
}
