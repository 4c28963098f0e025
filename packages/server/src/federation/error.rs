//! What can go wrong when another server is asked.

use http::StatusCode;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, api::error::ErrorCode};

/// Why another server did not give what it was asked for. Each is a sentence that names the server.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// It answered, and said no.
    #[error("{server} refused: {status}{}: {sentence}", code(errcode.as_ref()))]
    Refused {
        /// Who.
        server: OwnedServerName,
        /// The HTTP status.
        status: StatusCode,
        /// The errcode, where the answer has one: without it something else than a Matrix server may have answered.
        errcode: Option<ErrorCode>,
        /// Its `error`, for people; never empty.
        sentence: String,
        /// The whole body, null where it is no JSON.
        body: serde_json::Value,
    },
    /// It answered something that can't be understood; the sentence names it.
    #[error("{0}")]
    Malformed(String),
    /// It can't be found, connected to or believed; the sentence names it.
    #[error("{0}")]
    Unreachable(String),
    /// It took too long.
    #[error("{server} does not answer: {stage} took too long")]
    TimedOut {
        /// Who.
        server: OwnedServerName,
        /// What took too long.
        stage: &'static str,
    },
    /// It did not answer lately, and is left alone for a while.
    #[error("{server} was not reached lately; it is tried again later")]
    BackingOff {
        /// Who.
        server: OwnedServerName,
        /// Until when.
        until: MilliSecondsSinceUnixEpoch,
    },
}

impl PeerError {
    /// The errcode of a refusal.
    #[must_use]
    pub fn errcode(&self) -> Option<&ErrorCode> {
        match self {
            Self::Refused { errcode, .. } => errcode.as_ref(),
            _ => None,
        }
    }

    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server is not there, rather than of another opinion: asking again later may help.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut { .. } | Self::BackingOff { .. } => true,
            Self::Refused { status, .. } => is_gateway(*status),
            Self::Malformed(_) => false,
        }
    }
}

/// Whether a status is a proxy's, which does not reach the server behind it.
pub(super) fn is_gateway(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

fn code(errcode: Option<&ErrorCode>) -> String {
    errcode.map(|code| format!(" {code}")).unwrap_or_default()
}
