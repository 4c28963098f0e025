//! A user of a server under test, with the verbs of the client API.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    answer::Answer,
    http::Http,
    sync::{Listener, Sync, SyncAnswer},
};

/// The segments before those of every endpoint.
const V3: [&str; 3] = ["_matrix", "client", "v3"];

/// The segments of a path of the client API.
pub fn v3<'a>(segments: &[&'a str]) -> Vec<&'a str> {
    [&V3[..], segments].concat()
}

/// Numbers for names and transaction ids that are used once.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// A number that no other caller in this process gets.
pub fn fresh() -> usize {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A logged-in user. Verbs answer with what the server said; `ok()` or `refused()` says what is expected.
#[derive(Clone)]
pub struct TestUser {
    pub id: String,
    pub localpart: String,
    pub password: String,
    pub device_id: String,
    pub token: String,
    pub http: Http,
}

impl fmt::Debug for TestUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl TestUser {
    /// Registers `localpart` where registration is open.
    pub async fn register(http: &Http, localpart: &str) -> Self {
        let password = format!("the secret of {localpart}");
        let body = json!({
            "username": localpart,
            "password": password,
            "auth": { "type": "m.login.dummy" },
        });
        let answer = http.post(&v3(&["register"]), &body).await.granted();
        Self::from_login(http, localpart, &password, &answer)
    }

    /// Logs in by password: another device of the same user.
    pub async fn log_in(http: &Http, localpart: &str, password: &str) -> Self {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": localpart },
            "password": password,
        });
        let answer = http.post(&v3(&["login"]), &body).await.granted();
        Self::from_login(http, localpart, password, &answer)
    }

    fn from_login(http: &Http, localpart: &str, password: &str, answer: &Value) -> Self {
        let text = |key: &str| {
            answer[key].as_str().unwrap_or_else(|| panic!("no {key} in {answer}")).to_owned()
        };
        let token = text("access_token");
        Self {
            id: text("user_id"),
            localpart: localpart.to_owned(),
            password: password.to_owned(),
            device_id: text("device_id"),
            http: http.with_token(&token),
            token,
        }
    }

    /// Another device of this user.
    pub async fn another_device(&self) -> Self {
        Self::log_in(&self.http, &self.localpart, &self.password).await
    }

    /// The same user of the same server at another address: it has started again.
    pub fn at(&self, http: &Http) -> Self {
        Self { http: http.with_token(&self.token), ..self.clone() }
    }

    // The requests below the client API's prefix.

    pub async fn get(&self, segments: &[&str]) -> Answer {
        self.http.get(&v3(segments)).await
    }

    pub async fn query(&self, segments: &[&str], query: &[(&str, &str)]) -> Answer {
        self.http.query(&v3(segments), query).await
    }

    pub async fn post(&self, segments: &[&str], body: &Value) -> Answer {
        self.http.post(&v3(segments), body).await
    }

    pub async fn post_empty(&self, segments: &[&str]) -> Answer {
        self.http.post_empty(&v3(segments)).await
    }

    pub async fn put(&self, segments: &[&str], body: &Value) -> Answer {
        self.http.put(&v3(segments), body).await
    }

    pub async fn delete(&self, segments: &[&str]) -> Answer {
        self.http.delete(&v3(segments)).await
    }

    // Rooms.

    pub async fn create_room(&self, options: Value) -> Answer {
        self.post(&["createRoom"], &options).await
    }

    /// A room made with these options; its id.
    #[track_caller]
    pub fn new_room(&self, options: Value) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.create_room(options).await;
            assert_eq!(answer.status, 200, "createRoom at {caller}: {}", answer.text);
            answer.granted_str("room_id")
        }
    }

    /// A room that anyone may join.
    pub async fn public_room(&self) -> String {
        self.new_room(json!({ "preset": "public_chat" })).await
    }

    /// A room for the invited.
    pub async fn private_room(&self) -> String {
        self.new_room(json!({ "preset": "private_chat" })).await
    }

    /// A room with this join rule and nothing else unusual.
    pub async fn room_with_rule(&self, rule: &str) -> String {
        self.new_room(json!({
            "initial_state": [{ "type": "m.room.join_rules", "content": { "join_rule": rule } }],
        }))
        .await
    }

    // The seven verbs, forgetting, and the eighth door.

    /// `POST /rooms/{room}/{verb}` with whatever body the test likes.
    pub async fn act(&self, room: &str, verb: &str, body: Value) -> Answer {
        self.post(&["rooms", room, verb], &body).await
    }

    pub async fn invite(&self, room: &str, whom: &TestUser) -> Answer {
        self.act(room, "invite", json!({ "user_id": whom.id })).await
    }

    pub async fn join(&self, room: &str) -> Answer {
        self.post_empty(&["rooms", room, "join"]).await
    }

    /// `POST /join/{roomIdOrAlias}`.
    pub async fn join_by(&self, room_or_alias: &str) -> Answer {
        self.post_empty(&["join", room_or_alias]).await
    }

    /// The same through these servers.
    pub async fn join_via(&self, room: &str, via: &[&str]) -> Answer {
        self.through(&["join", room], via).await
    }

    pub async fn knock(&self, room: &str) -> Answer {
        self.post_empty(&["knock", room]).await
    }

    /// The same through these servers.
    pub async fn knock_via(&self, room: &str, via: &[&str]) -> Answer {
        self.through(&["knock", room], via).await
    }

    async fn through(&self, segments: &[&str], via: &[&str]) -> Answer {
        let url = self.http.url(&v3(segments));
        let via: Vec<_> = via.iter().map(|server| ("via", *server)).collect();
        self.http.send(self.http.request(Method::POST, url).query(&via).json(&json!({}))).await
    }

    pub async fn leave(&self, room: &str) -> Answer {
        self.post_empty(&["rooms", room, "leave"]).await
    }

    pub async fn kick(&self, room: &str, whom: &TestUser) -> Answer {
        self.act(room, "kick", json!({ "user_id": whom.id })).await
    }

    pub async fn ban(&self, room: &str, whom: &TestUser) -> Answer {
        self.act(room, "ban", json!({ "user_id": whom.id })).await
    }

    pub async fn unban(&self, room: &str, whom: &TestUser) -> Answer {
        self.act(room, "unban", json!({ "user_id": whom.id })).await
    }

    pub async fn forget(&self, room: &str) -> Answer {
        self.post_empty(&["rooms", room, "forget"]).await
    }

    /// `PUT /rooms/{room}/state/m.room.member/{whom}`.
    pub async fn put_member(&self, room: &str, whom: &TestUser, content: Value) -> Answer {
        self.put_state(room, "m.room.member", &whom.id, content).await
    }

    /// Invites and has the other join.
    pub async fn bring(&self, room: &str, whom: &TestUser) {
        self.invite(room, whom).await.granted();
        whom.join(room).await.granted();
    }

    // What is said.

    /// Sends a message; the event's id.
    pub async fn say(&self, room: &str, text: &str) -> String {
        self.send(room, json!({ "msgtype": "m.text", "body": text })).await.event_id()
    }

    /// Sends an `m.room.message` with a transaction id of its own.
    pub async fn send(&self, room: &str, content: Value) -> Answer {
        self.send_as(room, "m.room.message", &format!("txn{}", fresh()), content).await
    }

    pub async fn send_as(&self, room: &str, kind: &str, txn: &str, content: Value) -> Answer {
        self.put(&["rooms", room, "send", kind, txn], &content).await
    }

    pub async fn redact(&self, room: &str, event_id: &str) -> Answer {
        let txn = format!("txn{}", fresh());
        self.put(&["rooms", room, "redact", event_id, &txn], &json!({})).await
    }

    pub async fn put_state(&self, room: &str, kind: &str, key: &str, content: Value) -> Answer {
        self.put(&["rooms", room, "state", kind, key], &content).await
    }

    // What is there.

    pub async fn state(&self, room: &str) -> Answer {
        self.get(&["rooms", room, "state"]).await
    }

    /// The content of one state event.
    pub async fn state_event(&self, room: &str, kind: &str, key: &str) -> Answer {
        self.get(&["rooms", room, "state", kind, key]).await
    }

    /// The `m.room.member` content of somebody.
    pub async fn member(&self, room: &str, whom: &TestUser) -> Value {
        self.state_event(room, "m.room.member", &whom.id).await.granted()
    }

    /// The membership of somebody as the room's state has it.
    pub async fn membership(&self, room: &str, whom: &TestUser) -> String {
        self.member(room, whom).await["membership"].as_str().unwrap_or_default().to_owned()
    }

    pub async fn event(&self, room: &str, event_id: &str) -> Answer {
        self.get(&["rooms", room, "event", event_id]).await
    }

    pub async fn members(&self, room: &str, query: &[(&str, &str)]) -> Answer {
        self.query(&["rooms", room, "members"], query).await
    }

    /// `/messages` backwards from the end, enough for any test.
    pub async fn messages(&self, room: &str) -> Answer {
        self.query(&["rooms", room, "messages"], &[("dir", "b"), ("limit", "100")]).await
    }

    /// The bodies of the messages that this user can read, oldest first.
    pub async fn reads(&self, room: &str) -> Vec<String> {
        let page = self.messages(room).await.granted();
        let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
        chunk
            .iter()
            .rev()
            .filter_map(|event| event["content"]["body"].as_str().map(str::to_owned))
            .collect()
    }

    /// The rooms that this user is in, in order.
    pub async fn joined_rooms(&self) -> Vec<String> {
        let answer = self.get(&["joined_rooms"]).await.granted();
        let mut rooms: Vec<String> =
            serde_json::from_value(answer["joined_rooms"].clone()).expect("a list of room ids");
        rooms.sort();
        rooms
    }

    // Sync.

    pub async fn sync(&self, options: Sync) -> SyncAnswer {
        SyncAnswer::new(self.try_sync(options).await.granted())
    }

    pub async fn try_sync(&self, options: Sync) -> Answer {
        let query = options.query();
        let query: Vec<(&str, &str)> = query.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.query(&["sync"], &query).await
    }

    /// Someone who syncs from now on.
    pub async fn listens(&self) -> Listener {
        Listener::from_now(self.clone()).await
    }
}
