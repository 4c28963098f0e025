//! Logging in and staying logged in (client-server API 5.4, 5.6, 5.7.1),
//! <https://spec.matrix.org/v1.19/client-server-api/#login>

use http::StatusCode;
use ruma::api::{
    client::{
        session::{
            get_login_types::v3::{self as types, LoginType, PasswordLoginType},
            login::v3::{self, LoginInfo, Password},
            refresh_token::v3 as refresh,
        },
        uiaa::UserIdentifier,
    },
    error::ErrorKind,
};
use serde::de::Error;
use serde_json::{Map, Value};

use crate::{
    app::App,
    http::{ApiError, Matrix, Mend, Mended},
    user::NewDevice,
};

/// Nothing is put right, but a login without a type is told so: ruma panics at it.
pub(super) struct Typed;

impl Mend for Typed {
    type Reply = v3::Response;

    fn mend(body: &mut Map<String, Value>) -> Result<(), serde_json::Error> {
        match body.get("type") {
            Some(Value::String(_)) => Ok(()),
            Some(_) => Err(serde_json::Error::custom("the field `type` must be a string")),
            None => Err(serde_json::Error::missing_field("type")),
        }
    }
}

/// `GET /_matrix/client/v3/login`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3login>
pub(super) async fn types(_: App, _: Matrix<types::Request>) -> Result<types::Response, ApiError> {
    Ok(types::Response::new(vec![LoginType::Password(PasswordLoginType::new())]))
}

/// `POST /_matrix/client/v3/login`
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3login>
pub(super) async fn login(
    app: App,
    Matrix { request: Mended { request, .. }, .. }: Matrix<Mended<v3::Request, Typed>>,
) -> Result<v3::Response, ApiError> {
    let LoginInfo::Password(given) = request.login_info else {
        let message = format!(
            "This server has no login of the type {}, only m.login.password.",
            request.login_info.login_type()
        );
        return Err(ApiError::new(StatusCode::BAD_REQUEST, ErrorKind::Unknown, message));
    };
    let name = name(&given)?.to_owned();
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refresh: request.refresh_token,
    };
    let login = app.users.log_in(&name, given.password, device).await?;
    let mut response = v3::Response::new(login.user_id, login.access_token, login.device_id);
    response.refresh_token = login.refresh_token;
    response.expires_in = login.expires_in;
    #[expect(deprecated, reason = "older clients ask for it")]
    {
        response.home_server = Some(app.server_name.clone());
    }
    Ok(response)
}

/// Who wants to log in: `m.id.user`, or `user` as clients had it before 2017.
#[expect(deprecated, reason = "older clients send it")]
fn name(given: &Password) -> Result<&str, ApiError> {
    match (&given.identifier, &given.user) {
        (Some(UserIdentifier::Matrix(matrix)), _) => Ok(&matrix.user),
        (Some(other), _) => Err(ApiError::invalid_param(format!(
            "This server knows nobody by the identifier {}, only by m.id.user.",
            other.identifier_type()
        ))),
        (None, Some(user)) => Ok(user),
        (None, None) => {
            Err(ApiError::missing_param("Who wants to log in? The field `identifier` is missing."))
        }
    }
}

/// `POST /_matrix/client/v3/refresh`
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3refresh>
pub(super) async fn refresh(
    app: App,
    Matrix { request, .. }: Matrix<refresh::Request>,
) -> Result<refresh::Response, ApiError> {
    let login = app.users.refresh(&request.refresh_token).await?;
    let mut response = refresh::Response::new(login.access_token);
    response.refresh_token = login.refresh_token;
    response.expires_in_ms = login.expires_in;
    Ok(response)
}
