//! What other servers answer, as our own clients are told.

use http::StatusCode;
use ruma::api::error::ErrorCode;
use serde_json::json;

use crate::{
    federation::PeerError,
    room::{Elsewhere, SendError},
};

/// What another server may tell a client of ours, with the status that belongs to it. Anything else is between the servers,
/// or is ours alone to say: a client that hears from us that its token is not known forgets its keys.
const PASSED_ON: [(ErrorCode, StatusCode); 11] = [
    (ErrorCode::Forbidden, StatusCode::FORBIDDEN),
    (ErrorCode::InviteBlocked, StatusCode::FORBIDDEN),
    (ErrorCode::BadState, StatusCode::FORBIDDEN),
    (ErrorCode::NotFound, StatusCode::NOT_FOUND),
    (ErrorCode::IncompatibleRoomVersion, StatusCode::BAD_REQUEST),
    (ErrorCode::UnsupportedRoomVersion, StatusCode::BAD_REQUEST),
    (ErrorCode::UnableToAuthorizeJoin, StatusCode::BAD_REQUEST),
    (ErrorCode::UnableToGrantJoin, StatusCode::BAD_REQUEST),
    (ErrorCode::BadJson, StatusCode::BAD_REQUEST),
    (ErrorCode::InvalidParam, StatusCode::BAD_REQUEST),
    (ErrorCode::LimitExceeded, StatusCode::TOO_MANY_REQUESTS),
];

/// A refusal that is the client's to know, made anew of those of its parts that are.
pub(super) fn passed_on(error: &PeerError) -> Option<Elsewhere> {
    let PeerError::Refused { status, errcode, sentence, room_version, .. } = error else {
        return None;
    };
    let code = errcode.as_ref().filter(|_| status.is_client_error())?;
    let (code, status) = PASSED_ON.iter().find(|(known, _)| known == code)?;
    let mut body = json!({ "errcode": code.as_str(), "error": sentence });
    if let Some(version) =
        room_version.as_ref().filter(|_| *code == ErrorCode::IncompatibleRoomVersion)
    {
        body["room_version"] = json!(version);
    }
    Some(Elsewhere { status: *status, body })
}

/// What went wrong at another server, with an introduction, as one sentence.
pub(super) fn because(what: &str, error: &PeerError) -> String {
    let why = error.to_string();
    format!("{what}: {}.", why.trim_end_matches('.'))
}

/// 502: the other server is not there, or does not do its part.
pub(super) fn failed(sentence: impl Into<String>) -> SendError {
    told(StatusCode::BAD_GATEWAY, "M_UNKNOWN", sentence)
}

/// An answer of our own about what another server has said.
pub(super) fn told(status: StatusCode, errcode: &str, sentence: impl Into<String>) -> SendError {
    let body = json!({ "errcode": errcode, "error": sentence.into() });
    SendError::Elsewhere(Box::new(Elsewhere { status, body }))
}
