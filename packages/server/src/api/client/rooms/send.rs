//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
//!
//! Send an event. <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>

use ruma::{
    EventId,
    api::client::message::send_message_event::v3::{Request, Response},
    events::MessageLikeEventType,
};

use super::{content, transaction};
use crate::{
    app::App,
    http::{ApiError, Matrix},
    room::Saying,
};

pub(in crate::api::client) async fn send(
    app: App,
    matrix: Matrix<Request>,
) -> Result<Response, ApiError> {
    let request = matrix.request;
    let mut content = content(&matrix.body)?;
    let (room, kind) = (request.room_id, request.event_type);
    let transaction = transaction(&matrix.identity, format!("send/{room}/{kind}"), request.txn_id);
    let sender = matrix.identity.user_id;
    let event_id = if kind == MessageLikeEventType::RoomRedaction {
        // The other way to redact: what is redacted stands in the content, whatever the room's version.
        let target = content.remove("redacts").ok_or_else(|| {
            ApiError::missing_param("A redaction needs the event that it redacts: `redacts`.")
        })?;
        let target = EventId::parse(target.as_str().unwrap_or_default())
            .map_err(|_| ApiError::invalid_param("`redacts` must be an event id."))?;
        app.rooms.redact(&room, sender, &target, content, transaction).await?
    } else {
        let kind = kind.to_string().into();
        let saying = Saying { sender, kind, state_key: None, content };
        app.rooms.say(&room, saying, transaction).await?
    };
    Ok(Response::new(event_id))
}
