//! The events of a transaction that belong to one room.

use std::{collections::HashSet, sync::Arc, time::Duration};

use matryx_core::event::{OpenError, Pdu, event_id_of};
use ruma::{OwnedEventId, RoomId, ServerName, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;

use super::{Answers, fetch::Search, missing};
use crate::{
    app::App,
    federation::parse,
    membership::out_of_band,
    room::{Received, Room, SendError},
};

/// How long a transaction waits for what is missing before the events of one room.
const PATIENCE: Duration = Duration::from_secs(50);

/// Lets in events of one room, in their order.
pub(super) async fn deliver(
    app: &App,
    origin: &ServerName,
    room: &RoomId,
    texts: Vec<Box<RawValue>>,
) -> Result<Answers, SendError> {
    if !is_in(app, room).await? {
        // One of us may be joining it: what comes meanwhile is said after that.
        let settled = app.entering.settled(room);
        app.clock.within(PATIENCE, settled).await;
    }
    let held = app.rooms.room(room).await?;
    let Some(held) = held.filter(|held| held.look().servers.contains_key(&app.server_name)) else {
        out_of_band::delivered(app, origin, room, &texts).await?;
        return Ok(Answers::new());
    };
    let turn = (origin.to_owned(), room.to_owned());
    let _turn = app.federation.inbox().0.deliveries.take(turn).await;
    let look = held.look();
    let mut answers = Answers::new();
    if let Err(refusal) = look.acl().check(origin) {
        let ids = texts.iter().filter_map(|text| name_of(text, &look.rules));
        return Ok(ids.map(|id| (id, Err(refusal.sentence.clone()))).collect());
    }
    let pdus = opened(app, room, texts, &look.rules, &mut answers).await;
    let received = app.rooms.receive_all(room, pdus.clone()).await?;
    let mut waiting = Vec::new();
    for (pdu, received) in pdus.into_iter().zip(received) {
        if let Received::Missing(_) = told(origin, &pdu, received?) {
            waiting.push(pdu);
        }
    }
    if !waiting.is_empty() {
        let search = Search::new(app, origin, &held);
        // Who gives up only leaves the rest for when the events, or what follows them, come again.
        if app.clock.within(PATIENCE, complete(&search, waiting)).await.is_none() {
            tracing::info!(%origin, %room, "inbox.missing_took_too_long");
        }
    }
    Ok(answers)
}

/// Whether a user of ours is in the room.
async fn is_in(app: &App, room: &RoomId) -> Result<bool, SendError> {
    let held = app.rooms.room(room).await?;
    Ok(held.is_some_and(|held| held.look().servers.contains_key(&app.server_name)))
}

/// Checks form, signatures and hashes; what fails is answered, as is everything else that can be named.
async fn opened(
    app: &App,
    room: &RoomId,
    texts: Vec<Box<RawValue>>,
    rules: &RoomVersionRules,
    answers: &mut Answers,
) -> Vec<Pdu> {
    let results = app.federation.open_all(texts.clone(), rules).await;
    let mut pdus = Vec::with_capacity(results.len());
    for (text, result) in texts.iter().zip(results) {
        let pdu = match result {
            Ok(pdu) => pdu,
            // Rejected events are kept.
            Err(OpenError::Rejected { event, .. }) => *event,
            Err(error) => {
                if let Some(id) = name_of(text, rules) {
                    answers.entry(id).or_insert_with(|| Err(error.to_string()));
                }
                continue;
            }
        };
        if pdu.room_id() != room {
            let why = format!("the event belongs to {}", pdu.room_id());
            answers.insert(pdu.event_id().clone(), Err(why));
            continue;
        }
        if answers.insert(pdu.event_id().clone(), Ok(())).is_none() {
            pdus.push(pdu);
        }
    }
    pdus
}

/// Fetches what is missing before these events, and lets them in as far as that succeeds.
async fn complete(search: &Search<'_>, waiting: Vec<Pdu>) {
    for pdu in waiting {
        let id = pdu.event_id().clone();
        match missing::complete(search, Arc::new(pdu)).await {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, event = %id, "inbox.complete"),
        }
    }
}

/// Writes down what nobody is told otherwise.
fn told(origin: &ServerName, pdu: &Pdu, received: Received) -> Received {
    if let Received::Judged(fate) = &received {
        match fate {
            matryx_core::room::Judgement::Accepted => {}
            fate => tracing::info!(event = %pdu.event_id(), %origin, ?fate, "inbox.not_shown"),
        }
    }
    received
}

fn name_of(text: &RawValue, rules: &RoomVersionRules) -> Option<OwnedEventId> {
    let mut object = parse(text).ok()?;
    object.remove("unsigned");
    event_id_of(&object, rules).ok()
}

/// The servers that may know of what is missing in a room: who told us first, then those in the room that are up.
pub(super) fn servers(app: &App, room: &Room, first: &ServerName) -> Vec<ruma::OwnedServerName> {
    let mut seen: HashSet<&ServerName> = HashSet::from([&*app.server_name]);
    let look = room.look();
    std::iter::once(first)
        .chain(look.servers.keys().map(|server| &**server))
        .filter(|server| seen.insert(server))
        .filter(|server| *server == first || app.federation.destinations().is_up(server))
        .map(ToOwned::to_owned)
        .collect()
}
