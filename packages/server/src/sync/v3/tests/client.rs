//! A client that believes what it is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use matryx_core::{
    membership::Membership,
    room::{StateKey, StateMap},
};
use ruma::{EventId, OwnedRoomId};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::clock;
use crate::{
    room::Rooms,
    sync::{
        filter::EventFilter,
        token::StreamToken,
        v3::{Question, StateForm, sync},
    },
};

/// What a client holds of a room that its user is in.
#[derive(Default)]
struct Held {
    /// Type and state key to event.
    state: BTreeMap<(String, String), String>,
    /// The line of the newest event of the timeline.
    newest: Option<i64>,
    /// The user is not in it any more: of what comes after, they see only what is about them.
    left: bool,
}

/// A client of a user, and what it holds.
pub(super) struct Client {
    pub(super) question: Question,
    joined: BTreeMap<OwnedRoomId, Held>,
    /// The other rooms that it knows, by section.
    others: BTreeMap<OwnedRoomId, &'static str>,
    /// Whether its rooms fork.
    pub(super) forks: bool,
}

impl Client {
    pub(super) fn new(user: &str, form: StateForm, filter: Value) -> Self {
        let question = Question {
            user: user.try_into().unwrap(),
            device: None,
            since: None,
            timeout: Duration::ZERO,
            full_state: false,
            filter: Arc::new(serde_json::from_value(filter).unwrap()),
            form,
        };
        Self { question, joined: BTreeMap::new(), others: BTreeMap::new(), forks: false }
    }

    pub(super) async fn ask(&self, rooms: &Rooms) -> Value {
        let (clock, stop) = (clock(), CancellationToken::new());
        serde_json::to_value(sync(rooms, &clock, &stop, &self.question).await.unwrap()).unwrap()
    }

    /// Asks, and takes in what it is told; also what is owed then.
    pub(super) async fn sync(&mut self, rooms: &Rooms) -> Value {
        let answer = self.hear(rooms).await;
        self.settle(rooms).await;
        answer
    }

    /// Asks for what is owed, if something is.
    pub(super) async fn settle(&mut self, rooms: &Rooms) {
        if self.is_owed() {
            let rest = self.hear(rooms).await;
            assert!(rest["rooms"]["join"].is_object(), "what was owed is told");
            assert!(!self.is_owed(), "nothing new has happened: {rest}");
        }
    }

    /// Whether the last answer has left something to the next one.
    pub(super) fn is_owed(&self) -> bool {
        self.question.since.is_some_and(|since| since.debt.is_some())
    }

    /// Asks once.
    pub(super) async fn hear(&mut self, rooms: &Rooms) -> Value {
        let answer = self.ask(rooms).await;
        let since: StreamToken = answer["next_batch"].as_str().unwrap().parse().unwrap();
        self.question.since = Some(since);
        for section in ["join", "invite", "knock", "leave"] {
            let told = answer["rooms"][section].as_object().cloned().unwrap_or_default();
            for (room, value) in told {
                let room: OwnedRoomId = room.try_into().unwrap();
                if section == "join" {
                    self.others.remove(&room);
                    let held = self.joined.entry(room.clone()).or_default();
                    held.take_in(rooms, &room, &value, &self.question).await;
                    if value["summary"].is_object() {
                        let look = rooms.room(&room).await.unwrap().unwrap().look();
                        assert_eq!(value["summary"]["m.joined_member_count"], look.joined);
                        assert_eq!(value["summary"]["m.invited_member_count"], look.invited);
                    }
                } else {
                    let known = self.joined.remove(&room);
                    if section == "leave" {
                        let was_in = known.is_some();
                        let mut held = Held { left: true, ..known.unwrap_or_default() };
                        held.take_in(rooms, &room, &value, &self.question).await;
                        self.check_left(rooms, &room, &held, was_in).await;
                    }
                    self.others.insert(room, section);
                }
            }
        }
        answer
    }

    /// What it holds of a room that it was in is what was when the user left it, and what became of the user since.
    async fn check_left(&self, rooms: &Rooms, room: &OwnedRoomId, held: &Held, was_in: bool) {
        let user = &self.question.user;
        let own = StateKey::member(user);
        let path = rooms.database().versions(room, &own).await.unwrap();
        let membership = |n: usize| path[n].entry.as_ref().unwrap().membership.unwrap();
        let joined = (0..path.len()).rfind(|n| membership(*n) == Membership::Joined);
        let last = path.last().unwrap().entry.clone().unwrap();
        let own = ("m.room.member".to_owned(), user.to_string());
        // Of two that say the same the one that the user has seen may be the one that has lost.
        let id = held.state[&own].as_str().try_into().unwrap();
        let told = rooms.events().get(id).await.unwrap().unwrap();
        assert_eq!(told.pdu.membership(), last.membership, "{user}");
        assert!(self.forks || *id == last.event_id, "{user}");
        match joined {
            Some(joined) if held.state.len() > 1 => {
                let was = rooms.state_at(room, path[joined + 1].n).await.unwrap();
                let mut was = by_name(&was);
                was.insert(own, id.to_string());
                self.check_state(held, &was, "when they left");
            }
            _ => assert!(!was_in && held.state.len() == 1, "{user}"),
        }
    }

    fn check_state(&self, held: &Held, is: &BTreeMap<(String, String), String>, note: &str) {
        // Where rooms fork, a key may go away, which can't be told.
        let mut believed = held.state.clone();
        believed.retain(|key, _| !self.forks || is.contains_key(key));
        assert_eq!(believed, *is, "{} {note}", self.question.user);
    }

    /// What it holds is what is.
    pub(super) async fn check(&self, rooms: &Rooms, note: &str) {
        let standing = rooms.stream().standing(&self.question.user).await.unwrap();
        for (room, mine) in &standing.rooms {
            let other = self.others.get(room).copied();
            match mine.membership {
                Membership::Joined => {
                    let look = rooms.room(room).await.unwrap().unwrap().look();
                    let held = &self.joined[room];
                    self.check_state(held, &by_name(&look.state), note);
                    if EventFilter(&self.question.filter.room.timeline).is_open() {
                        assert_eq!(held.newest, Some(look.n), "{} {note}", self.question.user);
                    }
                }
                Membership::Invited => assert_eq!(other, Some("invite"), "{note}"),
                Membership::Knocking => assert_eq!(other, Some("knock"), "{note}"),
                Membership::Left | Membership::Banned => {
                    assert!(!self.joined.contains_key(room), "{note}");
                    assert!(matches!(other, None | Some("leave")), "{note}");
                }
            }
        }
    }
}

fn by_name(state: &StateMap) -> BTreeMap<(String, String), String> {
    let named = state.iter().map(|(key, entry)| {
        ((key.kind.to_string(), key.key.to_string()), entry.event_id.to_string())
    });
    named.collect()
}

impl Held {
    async fn take_in(
        &mut self,
        rooms: &Rooms,
        room: &OwnedRoomId,
        told: &Value,
        question: &Question,
    ) {
        let filter = EventFilter(&question.filter.room.timeline);
        let room = &rooms.room(room).await.unwrap().unwrap();
        let sight = rooms.sight(room, &question.user).await.unwrap();
        let events = |value: &Value| value["events"].as_array().cloned().unwrap_or_default();
        let timeline = events(&told["timeline"]);
        if told["timeline"]["limited"] == true {
            self.newest = None;
        }
        for event in &timeline {
            let id = <&EventId>::try_from(event["event_id"].as_str().unwrap()).unwrap();
            let n = rooms.events().get(id).await.unwrap().unwrap().n.unwrap();
            if let Some(newest) = self.newest {
                assert!(n > newest, "line {n} follows {newest}");
                // What is left out without a word is not wanted or not for them.
                let missing = if self.left { n } else { newest + 1 };
                for line in rooms.lines(room, missing, n - 1).await.unwrap() {
                    let wanted = filter.event(&line.event.pdu) && sight.sees(line.n, &line.event);
                    assert!(!wanted, "line {} is left out", line.n);
                }
            }
            let stored = rooms.events().get(id).await.unwrap().unwrap();
            assert!(sight.sees(n, &stored), "line {n} is not for them");
            self.newest = Some(n);
        }
        let state = match question.form {
            StateForm::Before => [events(&told["state"]), timeline].concat(),
            StateForm::After => events(&told["state_after"]),
            StateForm::AfterUnstable => events(&told["org.matrix.msc4222.state_after"]),
        };
        for event in state {
            let Some(key) = event["state_key"].as_str() else { continue };
            let key = (event["type"].as_str().unwrap().to_owned(), key.to_owned());
            self.state.insert(key, event["event_id"].as_str().unwrap().to_owned());
        }
    }
}
