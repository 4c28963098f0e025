//! What is told when nobody lets a user in: what each candidate said, under the most useful of their codes.

use http::StatusCode;
use matryx_core::refusal::Refusal;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, api::error::ErrorCode};
use serde_json::{Value, json};

use super::super::elsewhere::passed_on;
use crate::{
    federation::{PeerError, brief},
    room::{Elsewhere, SendError},
};

/// A candidate through whom it did not work.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) server: OwnedServerName,
    /// What was being done.
    pub(super) stage: &'static str,
    pub(super) why: Why,
}

/// What went wrong with a candidate.
#[derive(Debug)]
pub(super) enum Why {
    /// It could not be asked, or said no.
    Peer(PeerError),
    /// The room has a version that is not served here.
    Version(RoomVersionId),
    /// What it said is not what it can say. A sentence that does not name it.
    Wrong(String),
    /// Its answer broke off. A sentence that does not name it.
    Broken(String),
}

/// What has failed so far.
pub(super) struct Failures {
    room: OwnedRoomId,
    /// Why we could not do it alone.
    refusal: Option<Refusal>,
    all: Vec<Failure>,
}

impl Failure {
    /// Whether the candidate may have done what it was asked for all the same.
    pub(super) fn is_lost(&self) -> bool {
        self.stage == super::attempt::SEND
            && match &self.why {
                Why::Peer(error) => error.is_absent(),
                Why::Broken(_) => true,
                Why::Version(_) | Why::Wrong(_) => false,
            }
    }

    /// Whether the candidate has said that it did not do it.
    pub(super) fn is_refusal(&self) -> bool {
        self.code().is_some() && self.status().is_some_and(|status| status.is_client_error())
    }

    fn sentence(&self) -> String {
        let Self { server, stage, why } = self;
        match why {
            Why::Peer(PeerError::Refused { status, sentence, .. }) => {
                let (status, code) = (status.as_u16(), self.code().unwrap_or("no errcode"));
                let sentence = sentence.trim_end_matches('.');
                format!("{stage}: {server} refused: {status} {code}: {sentence}")
            }
            Why::Peer(error) => format!("{stage}: {error}"),
            Why::Version(version) => {
                format!(
                    "{stage}: {server} says that the room has version {version}, which this server does not support"
                )
            }
            Why::Wrong(what) | Why::Broken(what) => format!("{stage}: {server}: {}", brief(what)),
        }
    }

    fn code(&self) -> Option<&str> {
        match &self.why {
            Why::Peer(error) => error.errcode().map(ErrorCode::as_str),
            Why::Version(_) => Some(ErrorCode::IncompatibleRoomVersion.as_str()),
            Why::Wrong(_) | Why::Broken(_) => None,
        }
    }

    fn status(&self) -> Option<StatusCode> {
        match &self.why {
            Why::Peer(error) => error.status(),
            _ => None,
        }
    }

    /// What a client may hear of it as an answer.
    fn answer(&self) -> Option<Elsewhere> {
        match &self.why {
            Why::Peer(error) => passed_on(error),
            Why::Version(version) => {
                let code = ErrorCode::IncompatibleRoomVersion;
                let body = json!({ "errcode": code.as_str(), "room_version": version });
                Some(Elsewhere { status: StatusCode::BAD_REQUEST, body })
            }
            Why::Wrong(_) | Why::Broken(_) => None,
        }
    }

    /// How much a user learns from it.
    fn use_of(&self) -> u8 {
        match self.code().filter(|_| self.answer().is_some()) {
            Some("M_INCOMPATIBLE_ROOM_VERSION") => 6,
            Some("M_FORBIDDEN") => 5,
            Some("M_UNABLE_TO_GRANT_JOIN" | "M_UNABLE_TO_AUTHORISE_JOIN") => 4,
            Some("M_NOT_FOUND") => 2,
            Some(_) => 3,
            None => 1,
        }
    }

    /// What the client is told of this candidate.
    fn entry(&self) -> Value {
        json!({
            "server": self.server,
            "stage": self.stage,
            "status": self.status().map(|status| status.as_u16()),
            "errcode": self.code(),
            "error": self.sentence(),
        })
    }
}

impl Failures {
    pub(super) fn new(room: &RoomId, refusal: Option<Refusal>) -> Self {
        Self { room: room.to_owned(), refusal, all: Vec::new() }
    }

    pub(super) fn add(&mut self, failure: Failure) {
        tracing::info!(
            room = %self.room,
            server = %failure.server,
            why = failure.sentence(),
            "join.candidate_failed",
        );
        self.all.push(failure);
    }

    /// The error for the client.
    pub(super) fn told(self) -> SendError {
        let Self { room, refusal, all: failures } = self;
        let best = failures.iter().rev().max_by_key(|failure| failure.use_of());
        let Some(best) = best else {
            let unknown = json!({
                "errcode": "M_NOT_FOUND",
                "error": format!("No server is known to be in {room}: name one by `via`."),
            });
            let unknown = Elsewhere { status: StatusCode::NOT_FOUND, body: unknown };
            return refusal.map_or_else(|| unknown.into(), Into::into);
        };
        // What we know ourselves of the room says more than that nobody could be asked.
        if best.use_of() <= 2
            && let Some(refusal) = refusal
        {
            return refusal.into();
        }
        let bad_gateway = || Elsewhere {
            status: StatusCode::BAD_GATEWAY,
            body: json!({ "errcode": "M_UNKNOWN" }),
        };
        let mut told = best.answer().unwrap_or_else(bad_gateway);
        let sentences: Vec<String> = failures.iter().map(Failure::sentence).collect();
        told.body["error"] =
            format!("{room} could not be joined through any server. {}.", sentences.join("; "))
                .into();
        told.body["org.matryx.attempts"] = failures.iter().map(Failure::entry).collect();
        told.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(server: &str, status: u16, body: &Value) -> Failure {
        let server: OwnedServerName = server.try_into().unwrap();
        let why = Why::Peer(PeerError::Refused {
            server: server.clone(),
            status: StatusCode::from_u16(status).unwrap(),
            errcode: body["errcode"].as_str().map(Into::into),
            sentence: "no".to_owned(),
            room_version: body["room_version"].as_str().map(|v| v.try_into().unwrap()),
            retry_after: None,
        });
        Failure { server, stage: "make_join", why }
    }

    fn told(refusal: Option<Refusal>, failures: Vec<Failure>) -> Elsewhere {
        let room = ruma::room_id!("!r:x");
        let mut all = Failures::new(room, refusal);
        for failure in failures {
            all.add(failure);
        }
        match all.told() {
            SendError::Elsewhere(elsewhere) => *elsewhere,
            error => panic!("{error}"),
        }
    }

    #[test]
    fn the_most_useful_code_is_passed_on_with_what_everybody_said() {
        let gone = Failure {
            server: "a".try_into().unwrap(),
            stage: "make_join",
            why: Why::Peer(PeerError::Unreachable("a can't be reached: no".to_owned())),
        };
        let other = refused("b", 404, &json!({"errcode": "M_NOT_FOUND"}));
        let body = json!({"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "room_version": "99"});
        let error = told(None, vec![gone, other, refused("c", 400, &body)]);
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        assert_eq!(error.body["errcode"], "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!(error.body["room_version"], "99");
        let sentence = error.body["error"].as_str().unwrap();
        for server in ["a can't be reached", "b refused", "c refused"] {
            assert!(sentence.contains(server), "{sentence}");
        }
        assert_eq!(error.body["org.matryx.attempts"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn what_is_no_refusal_of_matrix_is_a_bad_gateway() {
        let error = told(None, vec![refused("a", 500, &json!({"errcode": "M_UNKNOWN"}))]);
        assert_eq!(error.status, StatusCode::BAD_GATEWAY);
        let error = told(None, vec![refused("a", 404, &Value::Null)]);
        assert_eq!(error.status, StatusCode::BAD_GATEWAY);
        assert_eq!(told(None, vec![]).status, StatusCode::NOT_FOUND);
    }

    #[test]
    fn what_we_know_ourselves_comes_before_that_nobody_answers() {
        let mut failures =
            Failures::new(ruma::room_id!("!r:x"), Some(Refusal::forbidden("You are not invited.")));
        failures.add(refused("a", 502, &Value::Null));
        assert!(matches!(failures.told(), SendError::Refused(_)));
    }
}
