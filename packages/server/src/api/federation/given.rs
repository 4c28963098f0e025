//! What answers to other servers are made of.

use matryx_core::event::Pdu;
use ruma::{RoomId, ServerName};
use serde_json::value::RawValue;

use crate::{app::App, http::ApiError, room::PeerReading};

/// An event as it is given to other servers.
pub(super) fn raw(pdu: &Pdu) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(pdu.json().to_owned()).map_err(ApiError::internal)
}

/// A room for a server that may read it: the room's ACL first, so that nothing else is learnt by those whom it keeps out.
pub(super) async fn reading(
    app: &App,
    room: &RoomId,
    origin: &ServerName,
) -> Result<PeerReading, ApiError> {
    let unknown = || ApiError::not_found("This server does not know the room.");
    let held = app.rooms.room(room).await?.ok_or_else(unknown)?;
    held.look().acl().check(origin)?;
    Ok(app.rooms.peer_reading(room, origin).await?)
}
