//! `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
//!
//! Set state. A member event put like this is one of the verbs, and nothing more.
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use matryx_core::membership::Membership;
use ruma::{
    CanonicalJsonObject, OwnedEventId, RoomId, UserId,
    api::client::state::send_state_event::v3::{Request, Response},
    events::StateEventType,
};

use super::content;
use crate::{
    app::App,
    http::{ApiError, Matrix},
    membership,
    room::Saying,
};

pub(in crate::api::client) async fn put(
    app: App,
    matrix: Matrix<Request>,
) -> Result<Response, ApiError> {
    let Request { room_id, event_type, state_key, .. } = matrix.request;
    let content = content(&matrix.body)?;
    let sender = matrix.identity.user_id;
    let event_id = if event_type == StateEventType::RoomMember {
        put_member(&app, &room_id, &sender, &state_key, content).await?
    } else {
        let kind = event_type.to_string().into();
        let saying = Saying { sender, kind, state_key: Some(state_key), content };
        app.rooms.say(&room_id, saying, None).await?
    };
    Ok(Response::new(event_id))
}

async fn put_member(
    app: &App,
    room: &RoomId,
    actor: &UserId,
    state_key: &str,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, ApiError> {
    let target = UserId::parse(state_key).map_err(|error| {
        let message =
            format!("The key of a member event is a user id; {state_key:?} is none: {error}.");
        ApiError::invalid_param(message)
    })?;
    let word = content
        .get("membership")
        .ok_or_else(|| ApiError::missing_param("A member event needs `membership`."))?;
    let membership: Membership = word
        .as_str()
        .ok_or_else(|| ApiError::bad_json("`membership` must be a string."))?
        .parse()
        .map_err(|error| ApiError::bad_json(format!("{error}.")))?;
    Ok(membership::put(app, room, actor, &target, membership, content).await?)
}
