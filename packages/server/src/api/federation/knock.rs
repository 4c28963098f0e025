//! Knocking through this server.
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use http::Request;
use matryx_core::membership::Action;
use ruma::api::{
    IncomingRequest,
    error::DeserializationError,
    federation::membership::{create_knock_event::v1 as send, prepare_knock_event::v1 as make},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    given::raw,
    handshake::{self, HandedIn, Wanted},
};
use crate::{
    app::App,
    http::{ApiError, Matrix, Plain, alike},
};

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
pub(super) async fn template(
    app: App,
    matrix: Matrix<make::Request>,
) -> Result<make::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let wanted = Wanted {
        origin: &origin,
        room: &request.room_id,
        user: &request.user_id,
        versions: Some(&request.ver),
    };
    let template = handshake::make(&app, wanted, Action::Knock).await?;
    Ok(make::Response::new(template.version, template.event))
}

/// A knock that is handed in; ruma's answer to it has not the name that the draft of knocking gave to the room's state.
pub(super) struct HandIn(send::Request);

/// What somebody who knocks may see of the room, by its name and by its old one.
#[derive(Serialize)]
pub(super) struct Seen {
    knock_room_state: Vec<Box<RawValue>>,
    knock_state_events: Vec<Box<RawValue>>,
}

alike!(HandIn => send::Request);

impl IncomingRequest for HandIn {
    type EndpointError = <send::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = Plain<Seen>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        send::Request::try_from_http_request_inner(request, path).map(Self)
    }
}

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
pub(super) async fn hand_in(
    app: App,
    Matrix { request, identity: origin, .. }: Matrix<HandIn>,
) -> Result<Plain<Seen>, ApiError> {
    let send::Request { room_id: room, event_id: event, pdu, .. } = request.0;
    let handed = HandedIn { origin, room, event, pdu };
    let known = handshake::let_in(&app, handed, Action::Knock).await?;
    let shown = app.rooms.shown_outside(&known.room.look()).await?;
    let shown = shown.iter().map(|pdu| raw(pdu)).collect::<Result<Vec<_>, _>>()?;
    Ok(Plain(Seen { knock_state_events: shown.clone(), knock_room_state: shown }))
}
