//! Who is asking: each authentication scheme of the specification, and the identity that it proves.

use std::convert::Infallible;

use bytes::Bytes;
use http::StatusCode;
use ruma::{
    OwnedServerName,
    api::{
        auth_scheme::{
            AccessToken, AccessTokenOptional, AppserviceTokenOptional, AuthScheme,
            ExtractTokenError, NoAccessToken, NoAuthentication,
        },
        error::{ErrorKind, UnknownTokenErrorData},
        federation::authentication::{ServerSignatures, XMatrix, XMatrixExtractError},
    },
};

use super::ApiError;
use crate::{app::App, federation::keys::RequestError, user::Requester};

/// How an authentication scheme of the specification becomes an identity of ours.
pub trait Authenticate: AuthScheme {
    /// What the scheme proves, in the type that handlers see.
    type Identity: Send;

    /// The answer to a request whose credentials are missing or cannot be read.
    fn unreadable(error: Self::ExtractAuthenticationError) -> ApiError;

    /// Checks credentials that could be read.
    fn verify(
        app: &App,
        credentials: Self::Output,
        request: &http::Request<Bytes>,
    ) -> impl Future<Output = Result<Self::Identity, ApiError>> + Send;

    /// Reads and checks the credentials of a request, whose body is as it came.
    fn identify(
        app: &App,
        request: &http::Request<Bytes>,
    ) -> impl Future<Output = Result<Self::Identity, ApiError>> + Send
    where
        Self::Output: Send,
    {
        let credentials = Self::extract_authentication(request).map_err(Self::unreadable);
        async { Self::verify(app, credentials?, request).await }
    }
}

impl Authenticate for NoAuthentication {
    type Identity = ();

    fn unreadable(error: Infallible) -> ApiError {
        match error {}
    }

    async fn verify(_: &App, (): (), _: &http::Request<Bytes>) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Authenticate for NoAccessToken {
    type Identity = ();

    fn unreadable(error: Infallible) -> ApiError {
        match error {}
    }

    async fn verify(_: &App, (): (), _: &http::Request<Bytes>) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Authenticate for AccessToken {
    type Identity = Requester;

    fn unreadable(error: ExtractTokenError) -> ApiError {
        no_token(&error)
    }

    async fn verify(
        app: &App,
        token: String,
        _: &http::Request<Bytes>,
    ) -> Result<Requester, ApiError> {
        requester(app, &token).await
    }
}

impl Authenticate for AccessTokenOptional {
    type Identity = Option<Requester>;

    fn unreadable(error: ExtractTokenError) -> ApiError {
        no_token(&error)
    }

    async fn verify(
        app: &App,
        token: Option<String>,
        _: &http::Request<Bytes>,
    ) -> Result<Option<Requester>, ApiError> {
        match token {
            Some(token) => requester(app, &token).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Endpoints that anyone may call and that an application service calls in its own name. There are no application
/// services yet, so a token proves nothing here and is not looked at.
impl Authenticate for AppserviceTokenOptional {
    type Identity = ();

    fn unreadable(error: ExtractTokenError) -> ApiError {
        no_token(&error)
    }

    async fn verify(_: &App, _: Option<String>, _: &http::Request<Bytes>) -> Result<(), ApiError> {
        Ok(())
    }
}

/// The server that has signed the request. Its header may stand there more than once, so that [`identify`] reads them all.
///
/// [`identify`]: Authenticate::identify
impl Authenticate for ServerSignatures {
    type Identity = OwnedServerName;

    fn unreadable(error: XMatrixExtractError) -> ApiError {
        unauthorized(format!("The Authorization header can't be understood: {error}."))
    }

    async fn verify(
        app: &App,
        _: XMatrix,
        request: &http::Request<Bytes>,
    ) -> Result<OwnedServerName, ApiError> {
        Self::identify(app, request).await
    }

    async fn identify(
        app: &App,
        request: &http::Request<Bytes>,
    ) -> Result<OwnedServerName, ApiError> {
        let origin = app.federation.keys().verify_request(request).await?;
        // Who asks is there.
        app.federation.destinations().succeeded(&origin).await;
        Ok(origin)
    }
}

/// The user behind an access token; one that has only expired asks for a soft logout (client-server API 5.6.2).
async fn requester(app: &App, token: &str) -> Result<Requester, ApiError> {
    let Some(requester) = app.users.authenticate(token).await? else {
        return Err(ApiError::session_ended());
    };
    if requester.expires_at.is_some_and(|end| end <= app.clock.now()) {
        return Err(unknown_token(true, "The access token has expired: refresh it or log in."));
    }
    Ok(requester)
}

impl ApiError {
    /// 401 `M_UNKNOWN_TOKEN`: the token is not good, or no longer, and logging in again is the only way on.
    #[must_use]
    pub fn session_ended() -> Self {
        unknown_token(false, "The access token is not known, or no longer.")
    }
}

fn unknown_token(soft_logout: bool, message: &str) -> ApiError {
    let mut data = UnknownTokenErrorData::new();
    data.soft_logout = soft_logout;
    ApiError::new(StatusCode::UNAUTHORIZED, ErrorKind::UnknownToken(data), message)
}

fn unauthorized(message: String) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, message)
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NotJson => {
                Self::new(StatusCode::BAD_REQUEST, ErrorKind::NotJson, error.to_string())
            }
            RequestError::TooMuch => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, error.to_string())
            }
            RequestError::Unauthorized(message) => unauthorized(message),
        }
    }
}

fn no_token(error: &ExtractTokenError) -> ApiError {
    let message = format!("This endpoint wants an access token: {error}.");
    ApiError::new(StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, message)
}
