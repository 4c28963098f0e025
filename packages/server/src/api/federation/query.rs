//! What this server knows of its aliases and its users.
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>

use ruma::{
    api::federation::query::{
        get_profile_information::v1 as profile, get_room_information::v1 as alias,
    },
    profile::ProfileFieldName,
};

use crate::{
    app::App,
    directory,
    http::{ApiError, Matrix},
};

/// `GET /_matrix/federation/v1/query/directory`
///
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory>
pub(super) async fn directory(
    app: App,
    Matrix { request, .. }: Matrix<alias::Request>,
) -> Result<alias::Response, ApiError> {
    let found = directory::find(&app, &request.room_alias).await?;
    let room = app.rooms.room(&found.room).await?;
    let mut servers: Vec<_> =
        room.map(|room| room.look().servers.keys().cloned().collect()).unwrap_or_default();
    // Whoever joins asks us first, if we are in.
    servers.sort_by_key(|server| *server != app.server_name);
    Ok(alias::Response::new(found.room, servers))
}

/// `GET /_matrix/federation/v1/query/profile`
///
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>
pub(super) async fn profile(
    app: App,
    Matrix { request, .. }: Matrix<profile::Request>,
) -> Result<profile::Response, ApiError> {
    let user = request.user_id;
    let unknown = || ApiError::not_found(format!("There is no user {user} on this server."));
    if user.server_name() != app.server_name {
        return Err(unknown());
    }
    let profile = app.users.profile(&user).await?.ok_or_else(unknown)?;
    let field = request.field.as_ref().map(ProfileFieldName::as_str);
    let wanted = |name: &str| field.is_none_or(|field| field == name);
    Ok(profile.into_iter().filter(|(name, _)| wanted(name)).collect())
}
