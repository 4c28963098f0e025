//! A client that follows its server from sync to sync, and knows nothing but what it is told.

use std::collections::BTreeMap;

use serde_json::Value;

/// What it knows of the room.
#[derive(Default)]
pub struct Client {
    /// From where it goes on.
    pub since: Option<String>,
    /// Under what it has been shown the room last, unless it has left.
    pub section: Option<&'static str>,
    /// The room's state: the events' ids by type and key.
    pub state: BTreeMap<(String, String), String>,
}

impl Client {
    /// Takes an answer of /sync with `state_after`.
    pub fn told(&mut self, answer: &Value, room: &str) {
        self.since = answer["next_batch"].as_str().map(str::to_owned);
        for section in ["leave", "invite", "knock", "join"] {
            let told = &answer["rooms"][section][room];
            if told.is_null() {
                continue;
            }
            self.section = Some(section).filter(|section| *section != "leave");
            for event in told["state_after"]["events"].as_array().into_iter().flatten() {
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                self.state.insert((text("type"), text("state_key")), text("event_id"));
            }
        }
    }
}
