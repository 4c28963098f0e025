//! The one error that leaves a handler, and the one table from our errors to status and errcode.

use std::error::Error;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use matryx_core::refusal::{Refusal, RefusalKind};
use matryx_repository::StoreError;
use ruma::api::{
    client::uiaa::UiaaInfo,
    error::{Error as RumaError, ErrorBody, ErrorKind, StandardErrorBody, UnknownTokenErrorData},
};
use serde_json::{Value, json};

use super::Reply;
use crate::{
    room::{Elsewhere, SendError},
    user::UserError,
};

/// Why a request failed, as the client is told.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {body:?}")]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    /// What only the log is told.
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// An error with a status, an errcode and a sentence for people.
    #[must_use]
    pub fn new(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        let body = ErrorBody::Standard(StandardErrorBody::new(kind, message.into()));
        Self { status, body, cause: None }
    }

    /// 400 `M_BAD_JSON`: JSON, but not the JSON that belongs here.
    #[must_use]
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::BadJson, message)
    }

    /// 400 `M_INVALID_PARAM`: a parameter has a value that it cannot have.
    #[must_use]
    pub fn invalid_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::InvalidParam, message)
    }

    /// 400 `M_MISSING_PARAM`: a parameter is not there.
    #[must_use]
    pub fn missing_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::MissingParam, message)
    }

    /// 403 `M_FORBIDDEN`.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorKind::Forbidden, message)
    }

    /// 404 `M_NOT_FOUND`.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
    }

    /// 404 `M_UNRECOGNIZED`: there is nothing under this path.
    pub(super) fn unrecognized() -> Self {
        let message = "This server has no such endpoint.";
        Self::new(StatusCode::NOT_FOUND, ErrorKind::Unrecognized, message)
    }

    /// 401 with the stages that user-interactive authentication still asks for (client-server API 5.5).
    #[must_use]
    pub fn challenge(info: &UiaaInfo) -> Self {
        match serde_json::to_value(info) {
            Ok(json) => {
                Self { status: StatusCode::UNAUTHORIZED, body: ErrorBody::Json(json), cause: None }
            }
            Err(error) => Self::internal(error),
        }
    }

    /// 500 `M_UNKNOWN`. The cause is logged, once, when the reply is made; the client learns nothing of it.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let message = "Something went wrong inside of the server; its log says what.";
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown, message);
        error.cause = Some(cause.into());
        error
    }

    /// 503 `M_UNKNOWN`: the server is going away.
    fn shutting_down() -> Self {
        let message = "The server is shutting down; try again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unknown, message)
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The errcode and the sentence, for an answer in which this is not the only thing that is told.
    #[must_use]
    pub fn told(&self) -> Value {
        match &self.body {
            ErrorBody::Standard(body) => {
                json!({ "errcode": body.kind.errcode().as_str(), "error": body.message })
            }
            ErrorBody::Json(body) => body.clone(),
            ErrorBody::NotJson { .. } => {
                json!({ "errcode": "M_UNKNOWN", "error": self.status.to_string() })
            }
        }
    }

    /// The errcode with its data; nothing for a challenge.
    #[must_use]
    pub fn kind(&self) -> Option<&ErrorKind> {
        match &self.body {
            ErrorBody::Standard(body) => Some(&body.kind),
            _ => None,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, kind) = match refusal.kind {
            RefusalKind::Forbidden => (StatusCode::FORBIDDEN, ErrorKind::Forbidden),
            RefusalKind::BadState => (StatusCode::FORBIDDEN, ErrorKind::BadState),
            RefusalKind::BadJson => (StatusCode::BAD_REQUEST, ErrorKind::BadJson),
            RefusalKind::InvalidParam => (StatusCode::BAD_REQUEST, ErrorKind::InvalidParam),
            RefusalKind::MissingParam => (StatusCode::BAD_REQUEST, ErrorKind::MissingParam),
            RefusalKind::NotFound => (StatusCode::NOT_FOUND, ErrorKind::NotFound),
            RefusalKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge),
            RefusalKind::UnsupportedRoomVersion => {
                (StatusCode::BAD_REQUEST, ErrorKind::UnsupportedRoomVersion)
            }
            RefusalKind::UnableToAuthoriseJoin => {
                (StatusCode::BAD_REQUEST, ErrorKind::UnableToAuthorizeJoin)
            }
            RefusalKind::UnableToGrantJoin => {
                (StatusCode::BAD_REQUEST, ErrorKind::UnableToGrantJoin)
            }
            RefusalKind::InvalidRoomState => (StatusCode::BAD_REQUEST, ErrorKind::InvalidRoomState),
            RefusalKind::RoomInUse => (StatusCode::BAD_REQUEST, ErrorKind::RoomInUse),
            RefusalKind::BadAlias => (StatusCode::BAD_REQUEST, ErrorKind::BadAlias),
            RefusalKind::Unknown => (StatusCode::BAD_REQUEST, ErrorKind::Unknown),
        };
        Self::new(status, kind, refusal.sentence)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        use StatusCode as S;

        let (status, kind) = match &error {
            UserError::NameTaken(_) => (S::BAD_REQUEST, ErrorKind::UserInUse),
            UserError::BadName(_) => (S::BAD_REQUEST, ErrorKind::InvalidUsername),
            UserError::BadDeviceId | UserError::BadProfileValue(_) => {
                (S::BAD_REQUEST, ErrorKind::InvalidParam)
            }
            UserError::BadPassword(_) => (S::BAD_REQUEST, ErrorKind::WeakPassword),
            UserError::WrongPassword => (S::FORBIDDEN, ErrorKind::Forbidden),
            UserError::Deactivated => (S::FORBIDDEN, ErrorKind::UserDeactivated),
            UserError::UnknownRefreshToken => {
                (S::UNAUTHORIZED, ErrorKind::UnknownToken(UnknownTokenErrorData::new()))
            }
            UserError::NotFound(_) => (S::NOT_FOUND, ErrorKind::NotFound),
            UserError::ProfileKeyTooLarge => (S::BAD_REQUEST, ErrorKind::KeyTooLarge),
            UserError::ProfileTooLarge => (S::BAD_REQUEST, ErrorKind::ProfileTooLarge),
            UserError::Hashing(_) | UserError::Store(_) => return Self::internal(error),
        };
        Self::new(status, kind, error.to_string())
    }
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Refused(refusal) => refusal.into(),
            SendError::Elsewhere(elsewhere) => {
                let Elsewhere { status, body } = *elsewhere;
                Self { status, body: ErrorBody::Json(body), cause: None }
            }
            SendError::UnknownRoom => Self::not_found("This server does not know the room."),
            SendError::Closed => Self::shutting_down(),
            error @ (SendError::Store(_) | SendError::Panicked) => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = &self.cause {
            tracing::error!(error = %cause, "request.failed");
        }
        if let ErrorBody::Json(body) = self.body {
            let json = [(header::CONTENT_TYPE, "application/json")];
            return (self.status, json, body.to_string()).into_response();
        }
        let mut response = Reply(RumaError::new(self.status, self.body)).into_response();
        if [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::REQUEST_TIMEOUT].contains(&self.status) {
            // The rest of the body is not read, so nothing else can come over this connection: a client that does not
            // know that loses its next request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
