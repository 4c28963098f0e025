//! Room aliases.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>

use http::StatusCode;
use ruma::api::{
    client::{
        alias::{create_alias, delete_alias, get_alias},
        room::aliases,
    },
    error::ErrorKind,
};

use crate::{
    app::App,
    directory,
    http::{ApiError, Matrix},
};

/// `GET /_matrix/client/v3/directory/room/{roomAlias}`
///
/// Which room an alias leads to. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directoryroomroomalias>
pub(in crate::api::client) async fn get(
    app: App,
    matrix: Matrix<get_alias::v3::Request>,
) -> Result<get_alias::v3::Response, ApiError> {
    let place = directory::look_up(&app, &matrix.request.room_alias).await?;
    Ok(get_alias::v3::Response::new(place.room, place.servers))
}

/// `PUT /_matrix/client/v3/directory/room/{roomAlias}`
///
/// Give a room an alias. <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directoryroomroomalias>
pub(in crate::api::client) async fn put(
    app: App,
    matrix: Matrix<create_alias::v3::Request>,
) -> Result<create_alias::v3::Response, ApiError> {
    let create_alias::v3::Request { room_alias, room_id, .. } = matrix.request;
    if directory::add(&app, &matrix.identity.user_id, &room_alias, &room_id).await? {
        return Ok(create_alias::v3::Response::new());
    }
    let message = format!("The alias {room_alias} leads to a room already.");
    Err(ApiError::new(StatusCode::CONFLICT, ErrorKind::Unknown, message))
}

/// `DELETE /_matrix/client/v3/directory/room/{roomAlias}`
///
/// Remove an alias. <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3directoryroomroomalias>
pub(in crate::api::client) async fn delete(
    app: App,
    matrix: Matrix<delete_alias::v3::Request>,
) -> Result<delete_alias::v3::Response, ApiError> {
    directory::remove(&app, &matrix.identity.user_id, &matrix.request.room_alias).await?;
    Ok(delete_alias::v3::Response::new())
}

/// `GET /_matrix/client/v3/rooms/{roomId}/aliases`
///
/// The aliases that this server has for a room. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidaliases>
pub(in crate::api::client) async fn list(
    app: App,
    matrix: Matrix<aliases::v3::Request>,
) -> Result<aliases::v3::Response, ApiError> {
    let (user, room) = (matrix.identity.user_id, matrix.request.room_id);
    Ok(aliases::v3::Response::new(directory::of_room(&app, &user, &room).await?))
}
