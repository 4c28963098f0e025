//! `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
//!
//! Redact an event. <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid>

use ruma::api::client::redact::redact_event::v3::{Request, Response};

use super::{because, transaction};
use crate::{
    app::App,
    http::{ApiError, Matrix},
};

pub(in crate::api::client) async fn redact(
    app: App,
    matrix: Matrix<Request>,
) -> Result<Response, ApiError> {
    let Request { room_id, event_id, txn_id, reason, .. } = matrix.request;
    let endpoint = format!("redact/{room_id}/{event_id}");
    let transaction = transaction(&matrix.identity, endpoint, txn_id);
    let sender = matrix.identity.user_id;
    let content = because(reason);
    let event_id = app.rooms.redact(&room_id, sender, &event_id, content, transaction).await?;
    Ok(Response::new(event_id))
}
