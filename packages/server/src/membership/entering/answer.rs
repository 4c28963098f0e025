//! The answer to a join, read as it comes: never as one text, and never as one tree.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use matryx_core::event::{OpenError, Pdu};
use ruma::room_version_rules::RoomVersionRules;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::failures::Why;
use crate::{app::App, clock::passed, federation::inbox::LeftOut};

/// How long an answer may stand still, once it has begun.
const STALL: Duration = Duration::from_mins(1);
/// How many bytes of it have to come in each second, on the whole, after that.
const BYTES_A_SECOND: usize = 16 << 10;
/// How long it may be waited for in all.
const COMING: Duration = Duration::from_mins(10);
/// How long it may take with what is done to it here: keys are looked for, at servers that may be anybody's.
const READING: Duration = Duration::from_mins(30);
/// How large an answer may be, in bytes.
const LIMIT: usize = 256 << 20;
/// How many events may stand in it.
const MOST: usize = 300_000;
/// How many events are verified together.
const TOGETHER: usize = 500;
/// How many bytes of events are verified together, about.
const BYTES_TOGETHER: usize = 2 << 20;

/// What a resident answers to a join. The events have been opened.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) state: Vec<Arc<Pdu>>,
    pub(super) auth_chain: Vec<Arc<Pdu>>,
    /// The join, as it is in the room.
    pub(super) event: Option<Box<RawValue>>,
    /// How many events could not be opened, and were left out.
    pub(super) dropped: usize,
    /// Those of them whose senders' keys could not be had.
    pub(super) left_out: LeftOut,
}

/// In which list an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    State,
    AuthChain,
}

/// A part of an answer.
enum Piece {
    Events(List, Vec<Box<RawValue>>),
    Event(Box<RawValue>),
    /// Members were left out, although nobody asked for that.
    Partial,
}

/// Reads an answer.
///
/// # Errors
/// When it is none, breaks off, stands still or is too large.
pub(super) async fn read(app: &App, body: Body, rules: &RoomVersionRules) -> Result<Answer, Why> {
    // Short, so that no more of the answer is in memory than is being verified.
    let (bytes, incoming) = mpsc::channel(16);
    let (pieces, mut outgoing) = mpsc::channel(2);
    let parse = tokio::task::spawn_blocking(move || parse(incoming, &pieces));
    let collect = async {
        let mut reading = Reading {
            app,
            rules,
            answer: Answer::default(),
            hasher: RandomState::new(),
            seen: HashMap::new(),
        };
        let mut partial = false;
        while let Some(piece) = outgoing.recv().await {
            match piece {
                Piece::Events(list, events) => reading.take(list, events).await,
                Piece::Event(event) => reading.answer.event = Some(event),
                Piece::Partial => partial = true,
            }
        }
        (reading.answer, partial)
    };
    let read = async { tokio::join!(feed(app, body, bytes), collect, parse) };
    let Some((fed, (answer, partial), parsed)) = app.clock.within(READING, read).await else {
        return Err(Why::Wrong("its answer to the join takes too long to be read".to_owned()));
    };
    fed?;
    match parsed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return Err(Why::Wrong(format!("its answer to the join cannot be read: {error}")));
        }
        Err(_) => return Err(Why::Wrong("its answer to the join cannot be read".to_owned())),
    }
    if partial {
        let why = "it left out members of the room, although it was not asked to";
        return Err(Why::Wrong(why.to_owned()));
    }
    Ok(answer)
}

/// Hands on the bytes of a body as they come.
async fn feed(app: &App, mut body: Body, bytes: mpsc::Sender<Bytes>) -> Result<(), Why> {
    let mut size = 0;
    let mut waited = Duration::ZERO;
    loop {
        // What is done to it here is not held against it.
        let due = STALL.saturating_add(Duration::from_secs((size / BYTES_A_SECOND) as u64));
        let patience = STALL.min(due.min(COMING).saturating_sub(waited));
        let since = app.clock.now();
        let Some(frame) = app.clock.within(patience, body.frame()).await else {
            let why = "its answer to the join stands still, or comes too slowly";
            return Err(Why::Broken(why.to_owned()));
        };
        waited = waited.saturating_add(passed(since, app.clock.now()));
        let data = match frame {
            None => return Ok(()),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                return Err(Why::Broken(format!("its answer to the join broke off: {error}")));
            }
        };
        size += data.len();
        if size > LIMIT {
            let why = format!("its answer to the join has more than {LIMIT} bytes");
            return Err(Why::Wrong(why));
        }
        if bytes.send(data).await.is_err() {
            // What reads it has found a fault, and says so.
            return Ok(());
        }
    }
}

struct Reading<'a> {
    app: &'a App,
    rules: &'a RoomVersionRules,
    answer: Answer,
    hasher: RandomState,
    /// What has been opened, by the hash of its text: much of the state stands in the auth chain as well.
    seen: HashMap<u64, Option<Arc<Pdu>>>,
}

impl Reading<'_> {
    async fn take(&mut self, list: List, events: Vec<Box<RawValue>>) {
        let mut new = Vec::with_capacity(events.len());
        let mut hashes = Vec::with_capacity(events.len());
        for event in events {
            let hash = self.hasher.hash_one(event.get());
            match self.seen.get(&hash) {
                Some(Some(pdu)) if list == List::State => self.answer.state.push(Arc::clone(pdu)),
                Some(_) => {}
                None => {
                    self.seen.insert(hash, None);
                    hashes.push(hash);
                    new.push(event);
                }
            }
        }
        let opened = self.app.federation.open_all(new.clone(), self.rules).await;
        for ((hash, text), opened) in hashes.into_iter().zip(new).zip(opened) {
            let pdu = match opened {
                Ok(pdu) => pdu,
                // Rejected, not dropped: others may name it.
                Err(OpenError::Rejected { event, .. }) => *event,
                Err(error) => {
                    if let OpenError::Key(_) = error {
                        self.answer.left_out.add(&text, self.rules);
                    }
                    tracing::debug!(%error, "join.event_dropped");
                    self.answer.dropped += 1;
                    continue;
                }
            };
            let pdu = Arc::new(pdu);
            self.seen.insert(hash, Some(Arc::clone(&pdu)));
            match list {
                List::State => self.answer.state.push(pdu),
                List::AuthChain => self.answer.auth_chain.push(pdu),
            }
        }
    }
}

/// Takes an answer apart, on the blocking pool.
fn parse(bytes: mpsc::Receiver<Bytes>, pieces: &mpsc::Sender<Piece>) -> serde_json::Result<()> {
    let reader = io::BufReader::with_capacity(64 << 10, Incoming { bytes, rest: Bytes::new() });
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    (&mut deserializer).deserialize_map(Whole(pieces))?;
    deserializer.end()
}

/// The bytes of a body, for who reads them one after another.
struct Incoming {
    bytes: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.bytes.blocking_recv() {
                Some(bytes) => self.rest = bytes,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

struct Whole<'a>(&'a mpsc::Sender<Piece>);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with the room's state")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut lists = Vec::new();
        let mut left = MOST;
        while let Some(key) = map.next_key::<String>()? {
            let list = match key.as_str() {
                "state" => List::State,
                "auth_chain" => List::AuthChain,
                "event" => {
                    send(self.0, Piece::Event(map.next_value()?))?;
                    continue;
                }
                "members_omitted" => {
                    if map.next_value::<bool>()? {
                        send(self.0, Piece::Partial)?;
                    }
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if lists.contains(&list) {
                return Err(A::Error::custom(format!("`{key}` stands in it twice")));
            }
            lists.push(list);
            map.next_value_seed(Events { list, left: &mut left, pieces: self.0 })?;
        }
        if lists.len() < 2 {
            return Err(A::Error::custom("`state` or `auth_chain` is missing"));
        }
        Ok(())
    }
}

struct Events<'a> {
    list: List,
    /// How many may still come.
    left: &'a mut usize,
    pieces: &'a mpsc::Sender<Piece>,
}

impl<'de> DeserializeSeed<'de> for Events<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some(event) = events.next_element::<Box<RawValue>>()? {
            let left = self.left.checked_sub(1);
            *self.left =
                left.ok_or_else(|| A::Error::custom(format!("it has more than {MOST} events")))?;
            bytes += event.get().len();
            some.push(event);
            if some.len() == TOGETHER || bytes > BYTES_TOGETHER {
                send(self.pieces, Piece::Events(self.list, std::mem::take(&mut some)))?;
                bytes = 0;
            }
        }
        send(self.pieces, Piece::Events(self.list, some))
    }
}

/// Hands on a piece; nobody wants it any more if the join has been given up.
fn send<E: serde::de::Error>(pieces: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), E> {
    pieces.blocking_send(piece).map_err(|_| E::custom("the join was given up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an answer comes apart into: lists with the numbers of their events, and what else there is.
    fn apart(text: &str, step: usize) -> Result<Vec<String>, String> {
        let (bytes, incoming) = mpsc::channel(text.len() + 1);
        for chunk in text.as_bytes().chunks(step) {
            bytes.try_send(Bytes::copy_from_slice(chunk)).unwrap();
        }
        drop(bytes);
        let (pieces, mut outgoing) = mpsc::channel(text.len() / TOGETHER + 1000);
        parse(incoming, &pieces).map_err(|error| error.to_string())?;
        drop(pieces);
        let mut found = Vec::new();
        while let Some(piece) = outgoing.blocking_recv() {
            found.push(match piece {
                Piece::Events(list, events) => format!("{list:?} {}", events.len()),
                Piece::Event(event) => event.get().to_owned(),
                Piece::Partial => "partial".to_owned(),
            });
        }
        Ok(found)
    }

    #[test]
    fn an_answer_comes_apart_however_its_bytes_come() {
        let text = r#"{"origin":"x","auth_chain":[{"a":[1,"]"]}],"event":{"b":1},"members_omitted":false,
            "state":[{"c":"\"}"},7,null]}"#;
        for step in [1, 7, 1000] {
            let found = apart(text, step).unwrap();
            assert_eq!(found, ["AuthChain 1", "{\"b\":1}", "State 3"], "{step}");
        }
        let many = format!(r#"{{"state":[{}],"auth_chain":[]}}"#, vec!["{}"; 1200].join(","));
        let found = apart(&many, 100).unwrap();
        assert_eq!(found, ["State 500", "State 500", "State 200", "AuthChain 0"]);
    }

    #[test]
    fn what_is_no_answer_says_why() {
        for (text, why) in [
            ("[]", "an object"),
            ("{}", "missing"),
            (r#"{"state":[]}"#, "missing"),
            (r#"{"state":[],"auth_chain":[],"state":[]}"#, "twice"),
            (r#"{"state":{},"auth_chain":[]}"#, "a list"),
            (r#"{"state":[{"a":"#, "EOF"),
            (r#"{"state":[],"auth_chain":[]} x"#, "trailing"),
        ] {
            let error = apart(text, 5).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let many = format!(r#"{{"state":[1{0}],"auth_chain":[1{0}]}}"#, ",1".repeat(MOST / 2));
        assert!(apart(&many, 1 << 20).unwrap_err().contains("more than"));
        let partial = apart(r#"{"members_omitted":true,"state":[],"auth_chain":[]}"#, 9).unwrap();
        assert_eq!(partial[0], "partial");
    }
}
