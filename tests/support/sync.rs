//! `/sync`: what is asked, what is in an answer, and waiting for something without sleeping.

use std::time::Duration;

use serde_json::Value;

use super::user::TestUser;

/// The longest that a test waits for something that must happen: only a failing test waits that long, and a slow machine that
/// starts several servers at once may need much of it.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Between two looks at something that cannot be waited for.
const BREATH: Duration = Duration::from_millis(30);

/// Asks again and again until there is an answer, which must come; until then, the reason why there is none.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut missing = String::from("the first look took too long");
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            match ask().await {
                Ok(found) => return found,
                Err(reason) => missing = reason,
            }
            tokio::time::sleep(BREATH).await;
        }
    });
    let found = found.await.ok();
    found.unwrap_or_else(|| panic!("{what} never came: {missing}"))
}

/// The parameters of one `/sync`.
#[derive(Clone, Debug, Default)]
pub struct Sync {
    query: Vec<(&'static str, String)>,
}

impl Sync {
    /// From nothing.
    pub fn initial() -> Self {
        Self::default()
    }

    /// From where another answer ended; does not wait.
    pub fn since(token: &impl AsRef<str>) -> Self {
        Self::default().with("since", token.as_ref())
    }

    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.query.push((key, value.to_owned()));
        self
    }

    pub fn filter(self, filter: &Value) -> Self {
        self.with("filter", &filter.to_string())
    }

    pub fn full_state(self) -> Self {
        self.with("full_state", "true")
    }

    pub fn state_after(self) -> Self {
        self.with("use_state_after", "true")
    }

    /// Waits for news, in milliseconds at most.
    pub fn waiting(self, milliseconds: u64) -> Self {
        self.with("timeout", &milliseconds.to_string())
    }

    pub fn query(self) -> Vec<(&'static str, String)> {
        self.query
    }
}

/// An answer of `/sync`.
#[derive(Clone, Debug)]
pub struct SyncAnswer {
    pub body: Value,
    pub next_batch: String,
}

impl AsRef<str> for SyncAnswer {
    fn as_ref(&self) -> &str {
        &self.next_batch
    }
}

impl SyncAnswer {
    pub fn new(body: Value) -> Self {
        let next_batch = body["next_batch"].as_str().expect("next_batch in a sync").to_owned();
        let answer = Self { body, next_batch };
        answer.check_shape();
        answer
    }

    /// What holds of every answer: no empty section, and no room in two of them.
    fn check_shape(&self) {
        let mut seen = Vec::new();
        for section in ["join", "invite", "knock", "leave"] {
            let Some(rooms) = self.body["rooms"].get(section) else { continue };
            let rooms = rooms.as_object().expect("a section is an object");
            assert!(!rooms.is_empty(), "an empty section `{section}`: {}", self.body);
            for id in rooms.keys() {
                assert!(!seen.contains(&id), "{id} is in two sections: {}", self.body);
                seen.push(id);
            }
        }
    }

    /// The section that the room is in (`join`, `invite`, `knock`, `leave`).
    pub fn section(&self, room: &str) -> Option<&'static str> {
        ["join", "invite", "knock", "leave"]
            .into_iter()
            .find(|section| self.body["rooms"][section].get(room).is_some())
    }

    /// What the answer has of the room, whatever the section; `Null` when nothing.
    pub fn room(&self, room: &str) -> Room<'_> {
        let value =
            self.section(room).map_or(&Value::Null, |section| &self.body["rooms"][section][room]);
        Room { value }
    }

    /// The room, which must be in this section.
    #[track_caller]
    pub fn expect(&self, section: &str, room: &str) -> Room<'_> {
        assert_eq!(self.section(room), Some(section), "{room} in {:#}", self.body);
        self.room(room)
    }

    #[track_caller]
    pub fn joined(&self, room: &str) -> Room<'_> {
        self.expect("join", room)
    }

    #[track_caller]
    pub fn invited(&self, room: &str) -> Room<'_> {
        self.expect("invite", room)
    }

    #[track_caller]
    pub fn knocked(&self, room: &str) -> Room<'_> {
        self.expect("knock", room)
    }

    #[track_caller]
    pub fn left(&self, room: &str) -> Room<'_> {
        self.expect("leave", room)
    }

    /// The answer must have nothing of the room.
    #[track_caller]
    pub fn silent(&self, room: &str) {
        assert_eq!(self.section(room), None, "{room} in {:#}", self.body);
    }
}

/// One room of one answer.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    pub value: &'a Value,
}

impl<'a> Room<'a> {
    fn events(self, part: &str) -> &'a [Value] {
        self.value[part]["events"].as_array().map_or(&[], Vec::as_slice)
    }

    pub fn timeline(self) -> &'a [Value] {
        self.events("timeline")
    }

    pub fn state(self) -> &'a [Value] {
        self.events("state")
    }

    pub fn state_after(self) -> &'a [Value] {
        self.events("state_after")
    }

    /// The stripped state of an invite or a knock.
    pub fn stripped(self) -> &'a [Value] {
        if self.value.get("knock_state").is_some() {
            self.events("knock_state")
        } else {
            self.events("invite_state")
        }
    }

    pub fn limited(self) -> bool {
        self.value["timeline"]["limited"].as_bool().unwrap_or_default()
    }

    pub fn prev_batch(self) -> &'a str {
        self.value["timeline"]["prev_batch"].as_str().unwrap_or_default()
    }

    /// The texts of the messages in the timeline.
    pub fn said(self) -> Vec<&'a str> {
        self.timeline().iter().filter_map(|event| event["content"]["body"].as_str()).collect()
    }

    /// The event of this type and key in the timeline, the newest when there are several.
    pub fn happened(self, kind: &str, key: &str) -> Option<&'a Value> {
        self.timeline().iter().rev().find(|event| is(event, kind, key))
    }

    /// The membership that `whom` got in the timeline.
    pub fn membership(self, whom: &TestUser) -> Option<&'a str> {
        self.happened("m.room.member", &whom.id)?["content"]["membership"].as_str()
    }

    /// The ids of what is in the timeline.
    pub fn timeline_ids(self) -> Vec<&'a str> {
        self.timeline().iter().filter_map(|event| event["event_id"].as_str()).collect()
    }
}

/// Whether an event has this type and this state key.
pub fn is(event: &Value, kind: &str, key: &str) -> bool {
    event["type"] == kind && event["state_key"] == key
}

/// The event of this type and key in a list.
#[track_caller]
pub fn find<'a>(events: &'a [Value], kind: &str, key: &str) -> &'a Value {
    events
        .iter()
        .find(|event| is(event, kind, key))
        .unwrap_or_else(|| panic!("no {kind} `{key}` in {events:#?}"))
}

/// Whether a list has an event of this type and key.
pub fn has(events: &[Value], kind: &str, key: &str) -> bool {
    events.iter().any(|event| is(event, kind, key))
}

/// A client that is always syncing: it goes on from where its last answer ended.
pub struct Listener {
    user: TestUser,
    since: String,
}

impl Listener {
    pub async fn from_now(user: TestUser) -> Self {
        let since = user.sync(Sync::initial()).await.next_batch;
        Self { user, since }
    }

    /// The next answer with news, which must come.
    pub async fn next(&mut self) -> SyncAnswer {
        let answer = self.user.sync(Sync::since(&self.since).waiting(180_000)).await;
        self.since.clone_from(&answer.next_batch);
        answer
    }

    /// Syncs until an answer shows it: the long poll wakes up, nothing sleeps.
    pub async fn until(&mut self, what: &str, seen: impl Fn(&SyncAnswer) -> bool) -> SyncAnswer {
        let mut last = None;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let answer = self.next().await;
                if seen(&answer) {
                    return answer;
                }
                last = Some(answer);
            }
        });
        let found = found.await.ok();
        found.unwrap_or_else(|| {
            panic!("{:?} never saw {what}; the last answer: {last:#?}", self.user)
        })
    }

    /// Syncs until the room is in this section.
    pub async fn until_in(&mut self, section: &str, room: &str) -> SyncAnswer {
        self.until(&format!("{room} in {section}"), |answer| answer.section(room) == Some(section))
            .await
    }
}
