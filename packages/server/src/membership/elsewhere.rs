//! What other servers answer, as our own clients are told.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    federation::PeerError,
    room::{Elsewhere, SendError},
};

/// A refusal that is the client's to know, passed on as it came.
pub(super) fn passed_on(error: &PeerError) -> Option<SendError> {
    let PeerError::Refused { status, body, .. } = error else { return None };
    body.get("errcode").and_then(Value::as_str)?;
    Some(SendError::Elsewhere(Box::new(Elsewhere { status: *status, body: body.clone() })))
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
