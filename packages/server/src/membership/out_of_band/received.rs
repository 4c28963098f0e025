//! What comes by the way of events for a room that nobody of this server is in: the end of an invite or of a knock.
//!
//! Nothing of the room is held here, so that no rule can be looked up: the word of whoever has invited counts, and that of the
//! server which let our knock in. Anybody else's is a hint. It is looked into late, because who is neither may be a liar with
//! good timing, and because the specification leaves the user invited until their inviter says otherwise.

use std::{sync::Arc, time::Duration};

use matryx_core::{event::Pdu, membership::Membership};
use matryx_repository::{StoreError, Task};
use ruma::{
    OwnedEventId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId, events::TimelineEventType,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Way,
    arrived::{Arrival, arrived, is_ours},
    errands::errand,
    pending, record, way,
};
use crate::{
    app::App,
    room::{Aside, Known, Look, Record, SendError},
};

/// How long after a hint the room is asked.
const ASKED_AGAIN: Duration = Duration::from_secs(90);

/// What an event of a room that we are not in was to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It has ended an invite or a knock of a user of ours.
    Taken,
    /// It may have; the room is asked later.
    Hint,
    /// Nothing.
    Nothing,
}

/// The version of a room that we are not in, and which a user of ours is invited to or knocks on. Without it the event can't be
/// read.
///
/// # Errors
/// When the database fails.
pub async fn room_version(
    app: &App,
    room: &RoomId,
    user: &UserId,
) -> Result<Option<RoomVersionId>, StoreError> {
    if !is_ours(app, user) {
        return Ok(None);
    }
    Ok(way(app, room, user).await?.map(|way| way.version))
}

/// Takes in an event of a room that we are not in. Its signatures have been verified.
///
/// # Errors
/// Why the server could not.
pub async fn received(app: &App, pdu: Pdu) -> Result<Heard, SendError> {
    app.errands.resident_seen(app, pdu.room_id(), pdu.sender().server_name());
    let pdu = Arc::new(pdu);
    let Some(user) = turned_away(app, &pdu) else { return Ok(Heard::Nothing) };
    let standing = app.rooms.stream().standing(&user).await?;
    let look = app.rooms.room(pdu.room_id()).await?.map(|room| room.look());
    let mine = standing.rooms.get(pdu.room_id()).map(|mine| &**mine);
    let known = Known { look: look.as_deref(), mine };
    let Some((mine, way)) = pending(app, known) else { return Ok(Heard::Nothing) };
    let stood = app.rooms.events().get(&mine.event).await?;
    let is_known_to = |server: &ServerName| way.via.first().is_some_and(|first| first == server);
    let counts = match mine.membership {
        Membership::Invited => stood.is_some_and(|invite| invite.pdu.sender() == pdu.sender()),
        _ => is_known_to(pdu.sender().server_name()),
    };
    if !counts || !pdu.auth_events().contains(&mine.event) {
        let stood = mine.event.clone();
        return hint(app, &pdu, stood, &way).await;
    }
    let (here, who, stood) = (app.clone(), user.clone(), mine.event.clone());
    let event = Arc::clone(&pdu);
    let aside = Aside::new(user, move |known| {
        let open = pending(&here, known).filter(|(mine, _)| mine.event == stood);
        let Some((mine, way)) = open else { return Ok(None) };
        let mine = record(known, &who, &mine.room, way, &event);
        Ok(Some(Record { mine, event: Some(Arc::clone(&event)), errand: None }))
    });
    let done = app.rooms.aside(pdu.room_id(), aside).await?;
    let taken = done.events.contains(pdu.event_id());
    Ok(if taken { Heard::Taken } else { Heard::Nothing })
}

/// The user of ours whom somebody else has made leave, or banned.
fn turned_away(app: &App, pdu: &Pdu) -> Option<OwnedUserId> {
    let out = matches!(pdu.membership(), Some(Membership::Left | Membership::Banned));
    let user: OwnedUserId = pdu.state_key().filter(|_| out)?.try_into().ok()?;
    (is_ours(app, &user) && *pdu.sender() != user).then_some(user)
}

/// Has the room asked later. One errand a user and room: hints that come until then say nothing more.
async fn hint(app: &App, pdu: &Pdu, stood: OwnedEventId, way: &Way) -> Result<Heard, SendError> {
    let mut errand = errand(app, pdu, way, Task::AskAgain, ASKED_AGAIN);
    errand.event = stood;
    if app.errands.is_asked(&errand) {
        return Ok(Heard::Hint);
    }
    app.database.put_errand(&errand).await?;
    app.errands.add(errand);
    Ok(Heard::Hint)
}

/// Takes in what another server sends of a room that we are not in. Only what may end an invite or a knock of a user of ours is
/// looked at, and an invite that was handed in while we were in the room still; whoever sends it is, or was, in the room, and
/// is told what the room has still to be told.
///
/// # Errors
/// Why the server could not.
pub async fn delivered(
    app: &App,
    origin: &ServerName,
    room: &RoomId,
    events: &[Box<RawValue>],
) -> Result<(), SendError> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "type")]
        kind: TimelineEventType,
        state_key: OwnedUserId,
    }
    app.errands.resident_seen(app, room, origin);
    for event in events {
        let Ok(named) = serde_json::from_str::<Named>(event.get()) else { continue };
        if named.kind != TimelineEventType::RoomMember {
            continue;
        }
        let mut version = room_version(app, room, &named.state_key).await?;
        let held = app.rooms.room(room).await?.map(|room| room.look());
        if is_ours(app, &named.state_key) {
            version = version.or_else(|| held.as_ref().map(|look| look.version.clone()));
        }
        let Some(rules) = version.and_then(|version| version.rules()) else { continue };
        let Ok(object) = serde_json::from_str(event.get()) else { continue };
        match app.federation.open(object, &rules).await {
            Ok(pdu) if pdu.room_id() != room => {}
            Ok(pdu) if pdu.membership() == Some(Membership::Invited) => {
                if let Some(look) = held {
                    late(app, &look, pdu, named.state_key).await?;
                }
            }
            Ok(pdu) => drop(received(app, pdu).await?),
            Err(error) => tracing::info!(%error, %room, "out_of_band.unopened"),
        }
    }
    Ok(())
}

/// An invite that we have signed, and not written down because we were in the room and its own events were to bring it. Our
/// last user has left before they did.
async fn late(app: &App, look: &Look, pdu: Pdu, user: OwnedUserId) -> Result<(), SendError> {
    let (us, rules) = (&app.server_name, &look.rules);
    let Ok(object) = serde_json::from_str(pdu.json()) else { return Ok(()) };
    let ours = app.federation.keys().verify_event_by(us, &object, rules).await.is_ok();
    // One that is known is old: whatever has become of it since counts.
    if !ours || app.rooms.events().get(pdu.event_id()).await?.is_some() {
        return Ok(());
    }
    let shown = app.rooms.shown_outside(look).await?;
    let texts = shown.iter().filter_map(|pdu| RawValue::from_string(pdu.json().to_owned()).ok());
    let arrival = Arrival {
        user,
        version: look.version.clone(),
        stripped: texts.collect(),
        via: vec![pdu.sender().server_name().to_owned()],
        pdu: Arc::new(pdu),
    };
    arrived(app, arrival).await.map(drop)
}
