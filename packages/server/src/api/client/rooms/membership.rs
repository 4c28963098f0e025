//! Memberships.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use http::StatusCode;
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId,
    api::{
        IncomingRequest,
        auth_scheme::AccessToken,
        client::{
            knock::knock_room,
            membership::{
                ban_user, forget_room, invite_user, join_room_by_id, join_room_by_id_or_alias,
                kick_user, leave_room, unban_user,
            },
        },
        error::{DeserializationError, Error, ErrorKind},
        metadata,
    },
};
use serde::Deserialize;
use serde_json::Value;

use super::{because, content};
use crate::{
    app::App,
    directory,
    http::{ApiError, Matrix, Own},
    membership,
};

/// `POST /_matrix/client/v3/rooms/{roomId}/invite`
///
/// Invite a user. <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite>
pub(in crate::api::client) async fn invite(
    app: App,
    matrix: Matrix<Own<invite_user::v3::Request, (OwnedRoomId,), Invited>>,
) -> Result<invite_user::v3::Response, ApiError> {
    let ((room,), invited) = (matrix.request.path, matrix.request.body);
    let actor = matrix.identity.user_id;
    let target = invited.user_id.as_ref().ok_or_else(|| invited.without_user_id())?;
    membership::invite(&app, &room, &actor, target, because(invited.reason.clone())).await?;
    Ok(invite_user::v3::Response::new())
}

/// ruma's type takes either kind of invitation and cannot say what is missing.
#[derive(Deserialize)]
pub(in crate::api::client) struct Invited {
    user_id: Option<OwnedUserId>,
    reason: Option<String>,
    medium: Option<Value>,
    address: Option<Value>,
    id_server: Option<Value>,
    id_access_token: Option<Value>,
}

impl Invited {
    fn without_user_id(&self) -> ApiError {
        let Self { medium, address, id_server, id_access_token, .. } = self;
        let third_party = [
            ("medium", medium),
            ("address", address),
            ("id_server", id_server),
            ("id_access_token", id_access_token),
        ];
        if third_party.iter().all(|(_, value)| value.is_none()) {
            return ApiError::missing_param("Whom to invite is missing: `user_id`.");
        }
        match third_party.iter().find(|(_, value)| value.is_none()) {
            Some((name, _)) => ApiError::missing_param(format!("`{name}` is missing.")),
            None => ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorKind::ServerNotTrusted,
                "This server asks no identity servers: invite people by their user ids.",
            ),
        }
    }
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
///
/// Join a room by its id or an alias. <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias>
pub(in crate::api::client) async fn join(
    app: App,
    matrix: Matrix<join_room_by_id_or_alias::v3::Request>,
) -> Result<join_room_by_id_or_alias::v3::Response, ApiError> {
    let place = directory::resolve(&app, &matrix.request.room_id_or_alias).await?;
    let mut via = matrix.request.via;
    via.extend(place.servers);
    enter(&app, &place.room, &matrix.identity.user_id, &matrix.body, via).await?;
    Ok(join_room_by_id_or_alias::v3::Response::new(place.room))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
///
/// Join a room by its id. <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidjoin>
pub(in crate::api::client) async fn join_by_id(
    app: App,
    matrix: Matrix<join_room_by_id::v3::Request>,
) -> Result<join_room_by_id::v3::Response, ApiError> {
    let room = matrix.request.room_id;
    enter(&app, &room, &matrix.identity.user_id, &matrix.body, Vec::new()).await?;
    Ok(join_room_by_id::v3::Response::new(room))
}

/// The whole body goes into the member event, but for the proof of a third-party invite, which is for the server.
async fn enter(
    app: &App,
    room: &RoomId,
    user: &UserId,
    body: &[u8],
    via: Vec<OwnedServerName>,
) -> Result<(), ApiError> {
    let mut content = content(body)?;
    content.remove("third_party_signed");
    membership::join(app, room, user, content, via).await?;
    Ok(())
}

/// `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
///
/// Knock on a room. <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias>
pub(in crate::api::client) async fn knock(
    app: App,
    matrix: Matrix<knock_room::v3::Request>,
) -> Result<knock_room::v3::Response, ApiError> {
    let request = matrix.request;
    let found = directory::resolve(&app, &request.room_id_or_alias).await?;
    let via = request.via.into_iter().chain(found.servers).collect();
    let (room, user) = (found.room, &matrix.identity.user_id);
    membership::knock(&app, &room, via, user, because(request.reason)).await?;
    Ok(knock_room::v3::Response::new(room))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/knock`
///
/// The same by the room's id, where the other verbs are. No part of the specification; clients call it.
pub(in crate::api::client) async fn knock_by_id(
    app: App,
    matrix: Matrix<KnockById>,
) -> Result<knock_room::v3::Response, ApiError> {
    let KnockById { room, via, reason } = matrix.request;
    let user = &matrix.identity.user_id;
    membership::knock(&app, &room, via, user, because(reason)).await?;
    Ok(knock_room::v3::Response::new(room))
}

/// The request for which ruma has no type.
pub(in crate::api::client) struct KnockById {
    room: OwnedRoomId,
    via: Vec<OwnedServerName>,
    reason: Option<String>,
}

metadata! {
    @for KnockById,
    method: POST,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/v3/rooms/{room_id}/knock",
}

impl IncomingRequest for KnockById {
    type EndpointError = Error;
    type OutgoingResponse = knock_room::v3::Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let room = OwnedRoomId::try_from(path.first().copied().unwrap_or_default())?;
        // Everything else is as at the other door.
        let knock_room::v3::Request { via, reason, .. } =
            knock_room::v3::Request::try_from_http_request_inner(request, path)?;
        Ok(Self { room, via, reason })
    }
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
///
/// Leave a room, decline an invite, take back a knock.
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidleave>
pub(in crate::api::client) async fn leave(
    app: App,
    matrix: Matrix<leave_room::v3::Request>,
) -> Result<leave_room::v3::Response, ApiError> {
    let request = matrix.request;
    let user = matrix.identity.user_id;
    membership::leave(&app, &request.room_id, &user, because(request.reason)).await?;
    Ok(leave_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/forget`
///
/// Forget a room that one has left. <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidforget>
pub(in crate::api::client) async fn forget(
    app: App,
    matrix: Matrix<forget_room::v3::Request>,
) -> Result<forget_room::v3::Response, ApiError> {
    membership::forget(&app, &matrix.request.room_id, &matrix.identity.user_id).await?;
    Ok(forget_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/kick`
///
/// Kick a user, revoke an invite, deny a knock.
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick>
pub(in crate::api::client) async fn kick(
    app: App,
    matrix: Matrix<kick_user::v3::Request>,
) -> Result<kick_user::v3::Response, ApiError> {
    let (request, actor) = (matrix.request, matrix.identity.user_id);
    let content = because(request.reason);
    membership::kick(&app, &request.room_id, &actor, &request.user_id, content).await?;
    Ok(kick_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/ban`
///
/// Ban a user. <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidban>
pub(in crate::api::client) async fn ban(
    app: App,
    matrix: Matrix<ban_user::v3::Request>,
) -> Result<ban_user::v3::Response, ApiError> {
    let (request, actor) = (matrix.request, matrix.identity.user_id);
    let content = because(request.reason);
    membership::ban(&app, &request.room_id, &actor, &request.user_id, content).await?;
    Ok(ban_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/unban`
///
/// Lift a ban. <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidunban>
pub(in crate::api::client) async fn unban(
    app: App,
    matrix: Matrix<unban_user::v3::Request>,
) -> Result<unban_user::v3::Response, ApiError> {
    let (request, actor) = (matrix.request, matrix.identity.user_id);
    let content = because(request.reason);
    membership::unban(&app, &request.room_id, &actor, &request.user_id, content).await?;
    Ok(unban_user::v3::Response::new())
}
