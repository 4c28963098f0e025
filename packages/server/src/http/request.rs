//! Requests: parsed, authenticated, and when they cannot be parsed, told why.

use axum::{
    RequestExt,
    body::Body,
    extract::{FromRequest, RawPathParams},
};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingRequest, IncomingRequestExt,
        auth_scheme::AuthScheme,
        error::{
            DeserializationError, ErrorKind, FromHttpRequestError, HeaderDeserializationError,
        },
    },
};
use serde::de::IgnoredAny;

use super::{ApiError, Authenticate};
use crate::app::App;

/// How large a request's body may be, in bytes, where its endpoint says nothing else.
pub const BODY_LIMIT: usize = 1 << 20;

/// How much of a body that is too large is passed over, in bytes, before the connection is cut.
const PASSED_OVER: usize = 32 << 20;

/// A parsed and authenticated Matrix request.
pub struct Matrix<R>
where
    R: IncomingRequest,
    R::Authentication: Authenticate,
{
    /// The request.
    pub request: R,
    /// Who sent it.
    pub identity: <R::Authentication as Authenticate>::Identity,
    /// The body as it came, for what `request` has no field for. An empty body is `{}` here too.
    pub body: Bytes,
}

impl<R> Matrix<R>
where
    R: IncomingRequest,
    R::Authentication: Authenticate<Identity = OwnedServerName>,
{
    /// The server that has signed the request.
    #[must_use]
    pub fn origin(&self) -> &ServerName {
        &self.identity
    }
}

/// The largest body that the route takes, in bytes; travels with the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimit(pub(super) usize);

impl<R> FromRequest<App> for Matrix<R>
where
    R: IncomingRequest + Send,
    R::Authentication: Authenticate,
    <R::Authentication as AuthScheme>::Output: Send,
{
    type Rejection = ApiError;

    async fn from_request(mut request: http::Request<Body>, app: &App) -> Result<Self, ApiError> {
        let path: RawPathParams = request
            .extract_parts()
            .await
            .map_err(|_| ApiError::invalid_param("The path is not UTF-8 when it is decoded."))?;
        let path: Vec<&str> = path.iter().map(|(_, value)| value).collect();
        let request = read(request).await?;
        let identity = R::Authentication::identify(app, &request).await?;

        let (parts, body) = request.into_parts();
        // Every membership endpoint is called without a body by someone.
        let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
        if R::METHOD != Method::GET {
            object(&body)?;
        }
        let request = http::Request::from_parts(parts, body.as_ref());
        let request =
            R::try_from_http_request(request, &path).map_err(|error| unfit(error, &body))?;
        Ok(Self { request, identity, body })
    }
}

/// Reads the whole body.
async fn read(request: http::Request<Body>) -> Result<http::Request<Bytes>, ApiError> {
    let (parts, mut body) = request.into_parts();
    let limit = parts.extensions.get::<BodyLimit>().map_or(BODY_LIMIT, |limit| limit.0);
    let bytes = match Limited::new(&mut body, limit).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            pass_over(body).await;
            let message = format!("The body is larger than the {limit} bytes that are allowed.");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message));
        }
        // The connection broke; nobody is there to read this.
        Err(_) => return Err(ApiError::bad_json("The body ended too early.")),
    };
    Ok(http::Request::from_parts(parts, bytes))
}

/// Reads on without keeping anything: most clients look for an answer only when they have sent all of their request, and
/// find a broken connection if nobody has taken it.
async fn pass_over(mut body: Body) {
    let mut left = PASSED_OVER;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(size) else { return };
        left = rest;
    }
}

/// Every body is an object, of either API. A struct would also be read from an array, field by field.
fn object(body: &[u8]) -> Result<(), ApiError> {
    // What is passed over when it is read would not be looked at.
    if std::str::from_utf8(body).is_err() {
        return Err(not_json());
    }
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(()),
        _ if serde_json::from_slice::<IgnoredAny>(body).is_ok() => {
            Err(ApiError::bad_json("The body must be a JSON object."))
        }
        _ => Err(not_json()),
    }
}

fn not_json() -> ApiError {
    let message = "The body is not JSON.";
    ApiError::new(StatusCode::BAD_REQUEST, ErrorKind::NotJson, message)
}

/// Why a request does not fit its type.
fn unfit(error: FromHttpRequestError, body: &[u8]) -> ApiError {
    use DeserializationError as E;

    let error = match error {
        FromHttpRequestError::Deserialization(error) => error,
        error => return ApiError::internal(error),
    };
    let message = error.to_string();
    let missing = message.starts_with("missing field");
    match error {
        // The parser stops at the first thing that it does not like, which may come before what is no JSON at all.
        E::Json(_) if serde_json::from_slice::<IgnoredAny>(body).is_err() => not_json(),
        _ if missing => ApiError::missing_param(message),
        E::Json(_) => ApiError::bad_json(message),
        E::Header(HeaderDeserializationError::MissingHeader(_)) => ApiError::missing_param(message),
        // The path's segments and the query's values come as the same kind of error.
        _ => ApiError::invalid_param(format!(
            "A part of the path or a value of the query is not what it must be: {message}."
        )),
    }
}
