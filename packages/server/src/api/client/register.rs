//! Making an account (client-server API 5.7.3), <https://spec.matrix.org/v1.19/client-server-api/#account-registration>

use http::StatusCode;
use matryx_repository::TokenHash;
use ruma::api::{
    client::{
        account::{
            check_registration_token_validity::v1 as validity,
            get_username_availability::v3 as available,
            register::{LoginType, RegistrationKind, v3},
        },
        uiaa::{AuthData, AuthFlow, AuthType},
    },
    error::{ErrorKind, StandardErrorBody, UnknownTokenErrorData},
};
use serde_json::{Map, Value};

use crate::{
    api::registration::Registration,
    app::App,
    http::{ApiError, Matrix, Mend, Mended, Plain},
    user::{NewAccount, NewDevice},
};

/// An `auth` with nothing in it is none, and neither is one that is null.
pub(super) struct EmptyAuth;

impl Mend for EmptyAuth {
    type Reply = Plain<Registration>;

    fn mend(body: &mut Map<String, Value>) -> Result<(), serde_json::Error> {
        let says = |auth: &Value| auth.get("type").or_else(|| auth.get("session")).is_some();
        if body.get("auth").is_some_and(|auth| auth.is_object() && !says(auth)) {
            body.remove("auth");
        }
        Ok(())
    }
}

/// `POST /_matrix/client/v3/register`
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register>
pub(super) async fn register(
    app: App,
    Matrix { request: Mended { request, .. }, .. }: Matrix<Mended<v3::Request, EmptyAuth>>,
) -> Result<Plain<Registration>, ApiError> {
    if request.kind == RegistrationKind::Guest {
        let message = "This server takes no guests.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, ErrorKind::GuestAccessForbidden, message));
    }
    if request.login_type == Some(LoginType::ApplicationService) {
        let kind = ErrorKind::UnknownToken(UnknownTokenErrorData::new());
        let message = "No application service of this server has this token.";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, kind, message));
    }
    let flows = flows(&app);
    if flows.is_empty() {
        return Err(closed());
    }
    // A name that can't be had is told before anything else is asked for.
    if let Some(name) = &request.username {
        app.users.available(name).await?;
    }
    if request.auth.is_some() && request.password.is_none() {
        return Err(ApiError::missing_param("An account needs a password."));
    }
    let session = request.auth.as_ref().and_then(AuthData::session);
    let shown = request.auth.as_ref().and_then(|auth| stage(&app, auth));
    app.uia.check("register", flows, session, shown)?;

    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refresh: request.refresh_token,
    };
    let account = NewAccount { name: request.username, password: request.password, admin: false };
    let registered =
        app.users.register(account, (!request.inhibit_login).then_some(device)).await?;
    Ok(Plain(registered.into()))
}

/// `GET /_matrix/client/v3/register/available`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3registeravailable>
pub(super) async fn available(
    app: App,
    Matrix { request, .. }: Matrix<available::Request>,
) -> Result<available::Response, ApiError> {
    if flows(&app).is_empty() {
        return Err(closed());
    }
    app.users.available(&request.username).await?;
    Ok(available::Response::new(true))
}

/// `GET /_matrix/client/v1/register/m.login.registration_token/validity`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity>
pub(super) async fn validity(
    app: App,
    Matrix { request, .. }: Matrix<validity::Request>,
) -> Result<validity::Response, ApiError> {
    if flows(&app).is_empty() {
        return Err(closed());
    }
    Ok(validity::Response::new(is_token(&app, &request.token)))
}

/// Each of these alone is enough.
///
/// The token is followed by the dummy stage, as elsewhere: matrix-nio shows the token, expects to be asked for more, and
/// reports a failure when it is not.
fn flows(app: &App) -> Vec<AuthFlow> {
    let registration = &app.config.registration;
    let open = registration.open.then(|| vec![AuthType::Dummy]);
    let token = registration.token.as_ref();
    let token = token.map(|_| vec![AuthType::RegistrationToken, AuthType::Dummy]);
    open.into_iter().chain(token).map(AuthFlow::new).collect()
}

fn closed() -> ApiError {
    ApiError::forbidden("Registration is closed on this server: its admins make the accounts.")
}

/// The stage that the client shows; nothing if it only asks how far it has come.
fn stage(app: &App, auth: &AuthData) -> Option<Result<AuthType, StandardErrorBody>> {
    let refuse = |message: String| Some(Err(StandardErrorBody::new(ErrorKind::Forbidden, message)));
    match auth {
        AuthData::Dummy(_) => Some(Ok(AuthType::Dummy)),
        AuthData::RegistrationToken(shown) if is_token(app, &shown.token) => {
            Some(Ok(AuthType::RegistrationToken))
        }
        AuthData::RegistrationToken(_) => {
            refuse("This is not the registration token of this server.".to_owned())
        }
        other => {
            let stage = other.auth_type()?;
            refuse(format!("To register, nobody asks for the stage {}.", stage.as_str()))
        }
    }
}

/// Compares hashes, so that the time that it takes tells nothing.
fn is_token(app: &App, shown: &str) -> bool {
    let token = app.config.registration.token.as_ref();
    token.is_some_and(|token| TokenHash::of(token.reveal()) == TokenHash::of(shown))
}
