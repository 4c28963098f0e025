//! Leaving through this server, which also rejects an invite and takes back a knock.
//! <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use matryx_core::membership::Action;
use ruma::{
    OwnedServerName,
    api::federation::membership::{
        create_leave_event::v2 as send, prepare_leave_event::v1 as make,
    },
};
use serde::Serialize;

use super::{
    handshake::{self, HandedIn, Wanted},
    old::{Old, OldAnswer, old},
};
use crate::{
    app::App,
    http::{ApiError, Matrix},
};

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
pub(super) async fn template(
    app: App,
    matrix: Matrix<make::Request>,
) -> Result<make::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let wanted =
        Wanted { origin: &origin, room: &request.room_id, user: &request.user_id, versions: None };
    let template = handshake::make(&app, wanted, Action::Leave).await?;
    Ok(make::Response::new(Some(template.version), template.event))
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
pub(super) async fn hand_in(
    app: App,
    Matrix { request, identity, .. }: Matrix<send::Request>,
) -> Result<send::Response, ApiError> {
    leave(&app, identity, request).await?;
    Ok(send::Response::new())
}

/// An answer that says nothing.
#[derive(Serialize)]
pub(super) struct Nothing {}

/// `PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}`
pub(super) async fn hand_in_old(
    app: App,
    Matrix { request, identity, .. }: Matrix<Old<send::Request, Nothing>>,
) -> Result<OldAnswer<Nothing>, ApiError> {
    leave(&app, identity, request.request).await?;
    Ok(old(Nothing {}))
}

async fn leave(app: &App, origin: OwnedServerName, request: send::Request) -> Result<(), ApiError> {
    let send::Request { room_id: room, event_id: event, pdu, .. } = request;
    let handed = HandedIn { origin, room, event, pdu };
    handshake::let_in(app, handed, Action::Leave).await.map(drop)
}
