//! The events of a transaction that belong to one room.

use std::{sync::Arc, time::Duration};

use matryx_core::{
    event::Pdu,
    membership::Membership,
    room::{Judgement, StateEntry},
};
use ruma::{OwnedEventId, RoomId, ServerName, UserId};
use serde_json::value::RawValue;

use super::{
    Answers,
    opened::{Opened, name_of, open_all},
};
use crate::{
    app::App,
    membership::out_of_band,
    room::{Received, Room, SendError},
};

/// How long a transaction waits for what is missing before the events of one room, and for a join of it. Who has sent it has
/// nothing else on its way to us meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets in events of one room, in their order.
pub(super) async fn deliver(
    app: &App,
    origin: &ServerName,
    room: &RoomId,
    texts: Vec<Box<RawValue>>,
) -> Result<Answers, SendError> {
    let way = (room.to_owned(), origin.to_owned());
    let waiting = &app.federation.inbox().0.waiting;
    if !is_in(app, room).await? && app.entering.is_under_way(room) {
        // One of us is joining it: what comes meanwhile has its place after that.
        app.clock.within(PATIENCE, app.entering.settled(room)).await;
        if !is_in(app, room).await? && app.entering.is_under_way(room) {
            waiting.keep(app, &way, &texts, false).await?;
            return Ok(Answers::new());
        }
    }
    let Some(held) = followed(app, origin, room, &texts).await? else { return Ok(Answers::new()) };
    let turn = (origin.to_owned(), room.to_owned());
    let _turn = app.federation.inbox().0.deliveries.take(turn).await;
    waiting.notes_first(app, &way, PATIENCE).await;
    let look = held.look();
    if let Err(refusal) = look.acl().check(origin) {
        let ids = texts.iter().filter_map(|text| name_of(text, &look.rules));
        return Ok(ids.map(|id| (id, Err(refusal.sentence.clone()))).collect());
    }
    let (mut answers, mut early) = (Answers::new(), Vec::new());
    let mut events = Vec::with_capacity(texts.len());
    for (text, opened) in texts.iter().zip(open_all(app, room, texts.clone(), &look.rules).await) {
        match opened {
            Opened::Event(pdu) => {
                if answers.insert(pdu.event_id().clone(), Ok(())).is_none() {
                    events.push((&**text, *pdu));
                }
            }
            Opened::Early(id, why) => {
                early.push(text.clone());
                answers.extend(id.map(|id| (id, Err(why))));
            }
            Opened::Unfit(id, why) => {
                if let Some(id) = id {
                    answers.entry(id).or_insert(Err(why));
                }
            }
        }
    }
    early.extend(receive(app, origin, &held, events).await?);
    if !early.is_empty()
        && let Some(tried) = waiting.keep(app, &way, &early, true).await?
    {
        app.clock.within(PATIENCE, tried).await;
    }
    Ok(answers)
}

/// Lets in events as far as nothing is missing before them; returns the texts of the others.
async fn receive(
    app: &App,
    origin: &ServerName,
    room: &Room,
    mut events: Vec<(&RawValue, Pdu)>,
) -> Result<Vec<Box<RawValue>>, SendError> {
    let mut left = usize::MAX;
    // In the wrong order it is only a matter of trying again.
    while !events.is_empty() && events.len() < left {
        left = events.len();
        let pdus = events.iter().map(|(_, pdu)| pdu.clone()).collect();
        let received = app.rooms.receive_all(&room.id, pdus).await?;
        let mut early = Vec::new();
        let mut placed = Vec::new();
        for ((text, pdu), received) in events.into_iter().zip(received) {
            match told(origin, &pdu, received?) {
                Received::Missing(_) => early.push((text, pdu)),
                _ => placed.push(pdu.event_id().clone()),
            }
        }
        app.federation.inbox().0.waiting.placed(app, &room.id, &placed);
        events = early;
    }
    Ok(events.into_iter().map(|(text, _)| text.to_owned()).collect())
}

/// The room, if we follow what happens there. If no user of ours is in it, what these events say of invites and knocks is taken
/// in, and the rest passed over, unless others have put the last one out: that may turn out to be undone, by what has happened
/// at the same time. We are told of that, because for whoever knows it we never were out, and of what follows.
pub(super) async fn followed(
    app: &App,
    origin: &ServerName,
    room: &RoomId,
    texts: &[Box<RawValue>],
) -> Result<Option<Arc<Room>>, SendError> {
    let held = app.rooms.room(room).await?;
    let is_in = |held: &Arc<Room>| held.look().servers.contains_key(&app.server_name);
    if held.as_ref().is_some_and(is_in) {
        return Ok(held);
    }
    out_of_band::delivered(app, origin, room, texts).await?;
    Ok(match held {
        Some(held) if turned_out(app, &held).await? => Some(held),
        _ => None,
    })
}

/// Whether a user of ours is out of the room by what somebody else has done.
async fn turned_out(app: &App, held: &Room) -> Result<bool, SendError> {
    let look = held.look();
    let gone = |(user, entry): (&str, &StateEntry)| {
        let out = matches!(entry.membership, Some(Membership::Left | Membership::Banned));
        let ours = <&UserId>::try_from(user).is_ok_and(|u| u.server_name() == app.server_name);
        (out && ours).then(|| entry.event_id.clone())
    };
    let gone: Vec<OwnedEventId> = look.members().filter_map(gone).collect();
    let events = app.rooms.events().get_all(gone.iter().map(|id| &**id)).await?;
    let by_another = |pdu: &Pdu| pdu.state_key() != Some(pdu.sender().as_str());
    Ok(events.values().any(|event| by_another(&event.pdu)))
}

/// Whether a user of ours is in the room.
async fn is_in(app: &App, room: &RoomId) -> Result<bool, SendError> {
    let held = app.rooms.room(room).await?;
    Ok(held.is_some_and(|held| held.look().servers.contains_key(&app.server_name)))
}

/// Writes down what nobody is told otherwise.
fn told(origin: &ServerName, pdu: &Pdu, received: Received) -> Received {
    if let Received::Judged(fate) = &received {
        match fate {
            Judgement::Accepted => {}
            fate => tracing::info!(event = %pdu.event_id(), %origin, ?fate, "inbox.not_shown"),
        }
    }
    received
}
