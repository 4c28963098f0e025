//! Filters (client-server API 7.3), <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma::{
    UserId,
    api::client::filter::{create_filter::v3 as create, get_filter::v3 as get},
};

use crate::{
    app::App,
    http::{ApiError, Matrix},
    user::Requester,
};

/// `POST /_matrix/client/v3/user/{userId}/filter`
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter>
///
/// The body is kept as it came: a filter may say what later versions understand.
pub(super) async fn create(
    app: App,
    Matrix { request, identity, body }: Matrix<create::Request>,
) -> Result<create::Response, ApiError> {
    own(&identity, &request.user_id)?;
    let json = std::str::from_utf8(&body).map_err(ApiError::internal)?;
    Ok(create::Response::new(app.users.keep_filter(&request.user_id, json).await?))
}

/// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridfilterfilterid>
pub(super) async fn get(
    app: App,
    Matrix { request, identity, .. }: Matrix<get::Request>,
) -> Result<get::Response, ApiError> {
    let (user, id) = (&request.user_id, &request.filter_id);
    own(&identity, user)?;
    match app.users.filter(user, id).await? {
        Some(filter) => Ok(get::Response::new((*filter).clone())),
        None => Err(ApiError::not_found(format!("{user} has no filter {id}."))),
    }
}

fn own(requester: &Requester, user: &UserId) -> Result<(), ApiError> {
    if requester.user_id == user {
        return Ok(());
    }
    let own = &requester.user_id;
    Err(ApiError::forbidden(format!("{own} may use their own filters, not those of {user}.")))
}
