//! Requests: parsed, authenticated, and when they cannot be parsed, told why.

use std::time::Duration;

use axum::{
    RequestExt,
    body::{Body, HttpBody},
    extract::{FromRequest, RawPathParams},
};
use bytes::Bytes;
use http::{Method, StatusCode, header};
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
use tokio::time::timeout;

use super::{ApiError, Authenticate};
use crate::app::App;

/// How large a request's body may be, in bytes, where its endpoint says nothing else.
pub const BODY_LIMIT: usize = 1 << 20;

/// How much of a body that is too large is passed over, in bytes, before the connection is cut; and for how long.
const PASSED_OVER: usize = 32 << 20;
const PASSING: Duration = Duration::from_secs(30);

/// How long a body may take to come, and how many bytes more it may have for every second more.
const BODY: Duration = Duration::from_mins(1);
const BYTES_A_SECOND: usize = 16 << 10;

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
    let (parts, body) = request.into_parts();
    let limit = parts.extensions.get::<BodyLimit>().map_or(BODY_LIMIT, |limit| limit.0);
    let patience = BODY + Duration::from_secs((limit / BYTES_A_SECOND) as u64);
    let waits = parts.headers.contains_key(header::EXPECT);
    let bytes = collect(body, limit, patience, waits).await?;
    Ok(http::Request::from_parts(parts, bytes))
}

/// Reads a body of up to `limit` bytes for as long as `patience`. `waits`: the client sends it only when it is asked to.
async fn collect(
    mut body: Body,
    limit: usize,
    patience: Duration,
    waits: bool,
) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limit as u64 {
        if !waits {
            tokio::spawn(pass_over(body));
        }
        return Err(too_large(limit));
    }
    let collected = Limited::new(&mut body, limit).collect();
    match timeout(patience, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            tokio::spawn(pass_over(body));
            Err(too_large(limit))
        }
        // The connection broke; nobody is there to read this.
        Ok(Err(_)) => Err(ApiError::bad_json("The body ended too early.")),
        Err(_) => {
            let message = "The body has not come in time.";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, ErrorKind::Unknown, message))
        }
    }
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("The body is larger than the {limit} bytes that are allowed.");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message)
}

/// Reads on without keeping anything, after the answer: most clients look for it only when they have sent all of their
/// request, and find a broken connection if nobody has taken it.
async fn pass_over(mut body: Body) {
    let passing = async {
        let mut left = PASSED_OVER;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(size) else { return };
            left = rest;
        }
    };
    // What is still to come then, does not.
    let _ = timeout(PASSING, passing).await;
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
pub(super) fn unfit(error: FromHttpRequestError, body: &[u8]) -> ApiError {
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
        _ if missing => ApiError::missing_param(in_plain_words(&message)),
        E::Json(_) => ApiError::bad_json(in_plain_words(&message)),
        E::Header(HeaderDeserializationError::MissingHeader(_)) => ApiError::missing_param(message),
        // The path's segments and the query's values come as the same kind of error.
        _ => ApiError::invalid_param(format!(
            "A part of the path or a value of the query is not what it must be: {message}."
        )),
    }
}

/// What the parser says, for those who have never seen its source.
fn in_plain_words(message: &str) -> String {
    let message = message.split_once(" at line ").map_or(message, |(message, _)| message);
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("The field {field} is missing.");
    }
    let unfit = ["invalid type: ", "invalid value: ", "invalid length "];
    let unfit = unfit.iter().find_map(|start| message.strip_prefix(start));
    match unfit.and_then(|rest| rest.split_once(", expected ")) {
        Some((found, wanted)) => format!("The body has {found} where it must have {wanted}."),
        None => format!("The body does not fit: {message}."),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let error = collect(never, 10, Duration::from_millis(5), false).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[test]
    fn parsers_are_put_into_plain_words() {
        for (message, words) in [
            ("missing field `user_id` at line 1 column 2", "The field `user_id` is missing."),
            (
                "invalid type: integer `5`, expected a string at line 1 column 9",
                "The body has integer `5` where it must have a string.",
            ),
            (
                "unknown variant `x`, expected `y`",
                "The body does not fit: unknown variant `x`, expected `y`.",
            ),
        ] {
            assert_eq!(in_plain_words(message), words);
        }
    }

    #[tokio::test]
    async fn a_limit_is_the_most_that_is_taken() {
        let patience = Duration::from_secs(30);
        for (size, fits) in [(9, true), (10, true), (11, false)] {
            let whole = Body::from("x".repeat(size));
            assert_eq!(collect(whole, 10, patience, false).await.is_ok(), fits, "{size}");
            // Nothing says beforehand how much will come.
            let parts = vec![Ok::<_, Infallible>("x"); size];
            let parts = Body::from_stream(stream::iter(parts));
            assert_eq!(collect(parts, 10, patience, false).await.is_ok(), fits, "{size}");
        }
    }
}
