//! The state of a room before one of its events, and what allows an event.

use std::sync::Arc;

use matryx_repository::{Before, StoredEvent};
use ruma::{
    EventId, RoomId, ServerName,
    api::federation::{
        authorization::get_event_authorization::v1 as auth,
        event::{get_room_state::v1 as whole, get_room_state_ids::v1 as ids},
    },
};

use super::given::{raw, reading};
use crate::{
    app::App,
    http::{ApiError, Matrix},
    room::PeerReading,
};

/// `GET /_matrix/federation/v1/state/{roomId}`
///
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>
pub(super) async fn whole(
    app: App,
    matrix: Matrix<whole::Request>,
) -> Result<whole::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let (state, chain) = before(&app, &request.room_id, &request.event_id, &origin).await?;
    let texts = |events: &[Arc<StoredEvent>]| {
        events.iter().map(|event| raw(&event.pdu)).collect::<Result<Vec<_>, _>>()
    };
    Ok(whole::Response::new(texts(&chain)?, texts(&state)?))
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`
///
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>
pub(super) async fn ids(app: App, matrix: Matrix<ids::Request>) -> Result<ids::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let (state, chain) = before(&app, &request.room_id, &request.event_id, &origin).await?;
    let names = |events: &[Arc<StoredEvent>]| {
        events.iter().map(|event| event.pdu.event_id().clone()).collect()
    };
    Ok(ids::Response::new(names(&chain), names(&state)))
}

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
///
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>
pub(super) async fn auth(
    app: App,
    matrix: Matrix<auth::Request>,
) -> Result<auth::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let (reading, event) = event(&app, &request.room_id, &request.event_id, &origin).await?;
    let chain = app.rooms.auth_chain(&reading.look.rules, [&*event.pdu]).await?;
    let chain = chain.iter().map(|event| raw(&event.pdu)).collect::<Result<_, _>>()?;
    Ok(auth::Response::new(chain))
}

/// The state before an event, and its auth chain.
async fn before(
    app: &App,
    room: &RoomId,
    event_id: &EventId,
    origin: &ServerName,
) -> Result<(Vec<Arc<StoredEvent>>, Vec<Arc<StoredEvent>>), ApiError> {
    let (reading, event) = event(app, room, event_id, origin).await?;
    let state = app.rooms.state_before_event(&event).await?.ok_or_else(unknown)?;
    let ids: Vec<&EventId> = state.values().map(|entry| &*entry.event_id).collect();
    let mut found = app.rooms.events().get_all(ids.iter().copied()).await?;
    let state: Vec<_> = ids.into_iter().filter_map(|id| found.remove(id)).collect();
    let pdus = state.iter().map(|event| &*event.pdu);
    let chain = app.rooms.auth_chain(&reading.look.rules, pdus).await?;
    Ok((state, chain))
}

/// An event of a room, for a server that may ask about it. Of its state and of what allows it nothing is secret to a
/// server that is in the room, whatever its history shows.
async fn event(
    app: &App,
    room: &RoomId,
    event: &EventId,
    origin: &ServerName,
) -> Result<(PeerReading, Arc<StoredEvent>), ApiError> {
    let mut reading = reading(app, room, origin).await?;
    let event = app.rooms.events().get(event).await?.ok_or_else(unknown)?;
    reading.reach_back(&app.rooms, std::slice::from_ref(&event)).await?;
    let event = Some(event).filter(|event| reading.reaches(event));
    // Where it stands in the room is known only of what was judged there.
    let event = event.filter(|event| event.before != Before::Unknown).ok_or_else(unknown)?;
    Ok((reading, event))
}

fn unknown() -> ApiError {
    ApiError::not_found("There is no such event in this room, or your server may not see it.")
}
