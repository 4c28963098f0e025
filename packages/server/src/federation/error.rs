//! What can go wrong when another server is asked.

use std::time::Duration;

use http::StatusCode;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, RoomVersionId, api::error::ErrorCode};

/// How much of what another server says is kept for people, in characters.
const LONGEST: usize = 500;

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
        /// Its `error`, for people; never empty, and made [`brief`].
        sentence: String,
        /// Its `room_version`: that of the room which it was asked about.
        room_version: Option<RoomVersionId>,
        /// How long it wants to be left alone: its `Retry-After`, or its `retry_after_ms`.
        retry_after: Option<Duration>,
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
    /// An answer that can't be understood: a sentence that names the server, in which there may be words of its own.
    #[must_use]
    pub fn malformed(sentence: &str) -> Self {
        Self::Malformed(brief(sentence))
    }

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

/// What another server says, as far as people read it: in one line, so that it makes no entries of its own in a log, and
/// not longer than they read.
#[must_use]
pub fn brief(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut brief: String = text.chars().take(LONGEST).map(plain).collect();
    if brief.len() < text.len() {
        brief.push('…');
    }
    brief
}

/// Whether a status is a proxy's, which does not reach the server behind it.
fn is_gateway(status: StatusCode) -> bool {
    // Those above 511 are a large proxy's own.
    matches!(status.as_u16(), 502..=504 | 520..=530)
}

fn code(errcode: Option<&ErrorCode>) -> String {
    errcode.map(|code| format!(" {code}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_kept_short_and_in_one_line() {
        assert_eq!(brief("It can’t be done."), "It can’t be done.");
        assert_eq!(brief("no\r\n2026 ERROR forged\u{1b}[0m"), "no  2026 ERROR forged [0m");
        let long = brief(&"ü".repeat(1 << 20));
        assert_eq!(long.chars().count(), LONGEST + 1);
    }
}
