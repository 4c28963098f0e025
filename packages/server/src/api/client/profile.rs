//! Profiles (client-server API 11.1), <https://spec.matrix.org/v1.19/client-server-api/#profiles>

use std::time::Duration;

use http::StatusCode;
use ruma::{
    OwnedUserId, UserId,
    api::{
        IncomingRequest,
        client::profile::{
            delete_profile_field::v3 as delete, get_profile::v3 as all,
            get_profile_field::v3 as get, set_profile_field::v3 as set,
        },
        error::{DeserializationError, ErrorCode, ErrorKind},
        federation::query::get_profile_information::v1 as query,
    },
    profile::{ProfileFieldName, ProfileFieldValue, UserProfile},
};
use serde::de::Error;
use serde_json::{Map, Value};

use crate::{
    app::App,
    http::{ApiError, Matrix, alike},
    membership,
    user::{Requester, UserError},
};

/// How long another server may take to show a profile.
const PATIENCE: Duration = Duration::from_secs(10);

/// `GET /_matrix/client/v3/profile/{userId}`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuserid>
pub(super) async fn all(
    app: App,
    Matrix { request, .. }: Matrix<all::Request>,
) -> Result<all::Response, ApiError> {
    profile(&app, &request.user_id).await.map(all::Response::from)
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuseridkeyname>
pub(super) async fn get(
    app: App,
    Matrix { request, .. }: Matrix<get::Request>,
) -> Result<get::Response, ApiError> {
    let (user, field) = (&request.user_id, request.field.as_str());
    match profile(&app, user).await?.remove(field) {
        Some(value) => {
            ProfileFieldValue::new(field, value).map(get::Response::new).map_err(ApiError::internal)
        }
        // As every server does it: clients ask for these two of everyone, and take a 404 for an unknown user.
        None if matches!(
            request.field,
            ProfileFieldName::DisplayName | ProfileFieldName::AvatarUrl
        ) =>
        {
            Ok(get::Response::default())
        }
        None => Err(ApiError::not_found(format!("The profile of {user} has no field {field}."))),
    }
}

/// A field that is to be set. ruma's type takes no other key beside it, and no null, by which clients remove their name.
pub(super) struct Set {
    user_id: OwnedUserId,
    field: ProfileFieldName,
    value: Value,
}

alike!(Set => set::Request);

impl IncomingRequest for Set {
    type EndpointError = <set::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = set::Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let mut body: Map<String, Value> = serde_json::from_slice(request.body())?;
        let get::Request { user_id, field, .. } =
            get::Request::try_from_http_request_inner(request, path)?;
        let missing = || serde_json::Error::custom(format!("missing field `{field}`"));
        let value = body.remove(field.as_str()).ok_or_else(missing)?;
        Ok(Self { user_id, field, value })
    }
}

/// `PUT /_matrix/client/v3/profile/{userId}/{keyName}`
/// <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3profileuseridkeyname>
pub(super) async fn set(
    app: App,
    Matrix { request, identity, .. }: Matrix<Set>,
) -> Result<set::Response, ApiError> {
    let Set { user_id, field, value } = request;
    may_change(&identity, &user_id)?;
    app.users.set_profile_field(&user_id, field.as_str(), value).await?;
    show(&app, &user_id, &field).await?;
    Ok(set::Response::new())
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
/// <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3profileuseridkeyname>
pub(super) async fn delete(
    app: App,
    Matrix { request, identity, .. }: Matrix<delete::Request>,
) -> Result<delete::Response, ApiError> {
    may_change(&identity, &request.user_id)?;
    app.users.remove_profile_field(&request.user_id, request.field.as_str()).await?;
    show(&app, &request.user_id, &request.field).await?;
    Ok(delete::Response::new())
}

/// Name and picture are shown in the user's rooms, before the answer.
async fn show(app: &App, user: &UserId, field: &ProfileFieldName) -> Result<(), ApiError> {
    match field {
        ProfileFieldName::DisplayName | ProfileFieldName::AvatarUrl => {
            Ok(membership::rewrite(app, user).await?)
        }
        _ => Ok(()),
    }
}

fn may_change(requester: &Requester, user: &UserId) -> Result<(), ApiError> {
    if requester.user_id == user {
        return Ok(());
    }
    let own = &requester.user_id;
    Err(ApiError::forbidden(format!("{own} may change the own profile, not that of {user}.")))
}

async fn profile(app: &App, user: &UserId) -> Result<UserProfile, ApiError> {
    if user.server_name() != app.server_name {
        return elsewhere(app, user).await;
    }
    let profile = app.users.profile(user).await?;
    profile.ok_or_else(|| UserError::NotFound(user.to_owned()).into())
}

/// The profile of a user of another server, as that server shows it.
async fn elsewhere(app: &App, user: &UserId) -> Result<UserProfile, ApiError> {
    let request = query::Request::new(user.to_owned());
    let client = app.federation.client().in_passing();
    let answer = client.ask(user.server_name(), request, PATIENCE).await;
    match answer {
        Ok(answer) => Ok(answer.data),
        Err(error) if error.errcode() == Some(&ErrorCode::NotFound) => {
            let sentence = format!("{} knows no profile of {user}.", user.server_name());
            Err(ApiError::not_found(sentence))
        }
        Err(error) => {
            let sentence = format!("The profile of {user} can't be had now: {error}.");
            Err(ApiError::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, sentence))
        }
    }
}
