//! A room's events: one, those before others, those that somebody has missed.
//!
//! What the history does not show to a server comes redacted: its id and its signatures stay good, and what follows it can
//! be followed. What was said after a server left is not for it at all.

use std::collections::HashSet;

use ruma::{
    OwnedEventId, UInt,
    api::federation::{
        backfill::get_backfill::v1 as backfill,
        event::{get_event::v1 as one, get_missing_events::v1 as missing},
    },
};
use serde_json::value::RawValue;

use super::given::{raw, reading};
use crate::{
    app::App,
    http::{ApiError, Matrix},
    room::{PeerReading, SendError, Walk},
};

/// How many events are given at a time, whatever is asked for.
const PAGE: u64 = 100;

/// `GET /_matrix/federation/v1/event/{eventId}`
///
/// To servers that were never in its room, and of what was said after they left, an event does not exist: 404, so that nobody
/// learns whether it does. The room's ACL is not asked: the specification does not list this endpoint.
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>
pub(super) async fn one(app: App, matrix: Matrix<one::Request>) -> Result<one::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let hidden = || ApiError::not_found("There is no such event, or your server may not see it.");
    let event = app.rooms.events().get(&request.event_id).await?.ok_or_else(hidden)?;
    let mut reading = match app.rooms.peer_reading(event.pdu.room_id(), &origin).await {
        Ok(reading) => reading,
        Err(SendError::Refused(_) | SendError::UnknownRoom) => return Err(hidden()),
        Err(error) => return Err(error.into()),
    };
    reading.reach_back(&app.rooms, std::slice::from_ref(&event)).await?;
    let pdu = reading.shown(&event).map_err(ApiError::internal)?.ok_or_else(hidden)?;
    Ok(one::Response::new(app.server_name.clone(), app.clock.now(), raw(&pdu)?))
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`
///
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>
pub(super) async fn backfill(
    app: App,
    matrix: Matrix<backfill::Request>,
) -> Result<backfill::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let mut reading = reading(&app, &request.room_id, &origin).await?;
    let from = request.v;
    let walk = Walk { from, limit: page(request.limit), ..Walk::default() };
    let pdus = walked(&app, &mut reading, &walk).await?;
    Ok(backfill::Response::new(app.server_name.clone(), app.clock.now(), pdus))
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
///
/// <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>
pub(super) async fn missing(
    app: App,
    matrix: Matrix<missing::Request>,
) -> Result<missing::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let mut reading = reading(&app, &request.room_id, &origin).await?;
    let most = usize::try_from(PAGE).unwrap_or_default();
    if request.latest_events.len() > most || request.earliest_events.len() > most {
        let message = format!("At most {PAGE} latest_events and earliest_events can be named.");
        return Err(ApiError::invalid_param(message));
    }
    let latest = app.rooms.events().get_all(request.latest_events.iter().map(|id| &**id)).await?;
    let latest: Vec<_> = latest.into_values().collect();
    reading.reach_back(&app.rooms, &latest).await?;
    let from: Vec<OwnedEventId> = latest
        .iter()
        .filter(|event| reading.reaches(event))
        .flat_map(|event| event.pdu.prev_events().to_vec())
        .collect();
    let not: HashSet<OwnedEventId> =
        request.earliest_events.into_iter().chain(request.latest_events).collect();
    let walk = Walk { from, not, min_depth: request.min_depth.into(), limit: page(request.limit) };
    let mut events = walked(&app, &mut reading, &walk).await?;
    events.reverse();
    Ok(missing::Response::new(events))
}

fn page(limit: UInt) -> usize {
    usize::try_from(u64::from(limit).min(PAGE)).unwrap_or_default()
}

/// What a walk brings back, as far as it is shown.
async fn walked(
    app: &App,
    reading: &mut PeerReading,
    walk: &Walk,
) -> Result<Vec<Box<RawValue>>, ApiError> {
    let mut texts = Vec::new();
    let events = app.rooms.walk_back(&reading.room.id, walk).await?;
    reading.reach_back(&app.rooms, &events).await?;
    for event in events {
        if let Some(pdu) = reading.shown(&event).map_err(ApiError::internal)? {
            texts.push(raw(&pdu)?);
        }
    }
    Ok(texts)
}
