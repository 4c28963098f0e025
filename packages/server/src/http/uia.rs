//! User-interactive authentication: what an endpoint asks for besides a token, stage by stage (client-server API 5.5).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use ruma::api::{
    client::uiaa::{AuthFlow, AuthType, UiaaInfo},
    error::StandardErrorBody,
};
use serde_json::value::RawValue;

use super::ApiError;
use crate::random::Random;

/// How many sessions are kept; the oldest go first.
const SESSIONS: u64 = 10_000;
/// How long a session that nobody goes on with is kept.
const PATIENCE: Duration = Duration::from_hours(1);

/// The sessions that have begun and not ended. In memory: a restart costs a client one more question.
#[derive(Debug)]
pub struct Uia {
    sessions: Cache<String, Arc<Mutex<Session>>>,
    random: Random,
}

/// What one client has shown so far.
#[derive(Debug)]
struct Session {
    /// What it was begun for: what was shown for one thing counts for no other.
    operation: String,
    completed: Vec<AuthType>,
}

impl Uia {
    pub(crate) fn new(random: Random) -> Self {
        let sessions = Cache::builder().max_capacity(SESSIONS).time_to_idle(PATIENCE).build();
        Self { sessions, random }
    }

    /// Whether one of `flows` is complete; if not, the challenge to answer with.
    ///
    /// `operation` names what is asked for, and by whom where that is known. `session` is what the client sent, `shown`
    /// the stage that it has just shown or why it has not. A session that is not known is begun anew, so that a client
    /// that shows a single stage at once, without asking first, is let in.
    ///
    /// # Errors
    /// 401 with the flows, what is completed, the session and what went wrong.
    pub fn check(
        &self,
        operation: &str,
        flows: Vec<AuthFlow>,
        session: Option<&str>,
        shown: Option<Result<AuthType, StandardErrorBody>>,
    ) -> Result<(), ApiError> {
        let (id, session) = self.session(operation, session);
        let mut error = None;
        let completed = {
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            match shown {
                Some(Ok(stage)) if !session.completed.contains(&stage) => {
                    session.completed.push(stage);
                }
                Some(Err(why)) => error = Some(why),
                _ => {}
            }
            session.completed.clone()
        };
        if flows.iter().any(|flow| flow.stages.iter().all(|stage| completed.contains(stage))) {
            self.sessions.invalidate(&id);
            return Ok(());
        }
        let mut info = UiaaInfo::new(flows);
        info.completed = completed;
        info.params = RawValue::from_string("{}".to_owned()).ok();
        info.session = Some(id);
        info.auth_error = error.map(Box::new);
        Err(ApiError::challenge(&info))
    }

    /// The session of this id, if it is one for this operation; else a new one.
    fn session(&self, operation: &str, id: Option<&str>) -> (String, Arc<Mutex<Session>>) {
        if let Some(id) = id
            && let Some(session) = self.sessions.get(id)
            && session.lock().unwrap_or_else(PoisonError::into_inner).operation == operation
        {
            return (id.to_owned(), session);
        }
        let session = Session { operation: operation.to_owned(), completed: Vec::new() };
        let (id, session) = (self.random.secret(), Arc::new(Mutex::new(session)));
        self.sessions.insert(id.clone(), Arc::clone(&session));
        (id, session)
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http::StatusCode;
    use ruma::api::error::ErrorKind;

    use super::*;

    fn flows() -> Vec<AuthFlow> {
        vec![
            AuthFlow::new(vec![AuthType::Terms, AuthType::RegistrationToken]),
            AuthFlow::new(vec![AuthType::Password]),
        ]
    }

    /// What the client is told.
    async fn challenge(refused: Result<(), ApiError>) -> serde_json::Value {
        let response = refused.unwrap_err().into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn stages_add_up_within_a_session() {
        let uia = Uia::new(Random::seeded(1));
        let first = challenge(uia.check("register", flows(), None, None)).await;
        assert_eq!(first["flows"][1]["stages"][0], "m.login.password");
        assert_eq!(first["params"], serde_json::json!({}));
        let id = first["session"].as_str();
        let second = challenge(uia.check("register", flows(), id, Some(Ok(AuthType::Terms)))).await;
        assert_eq!(second["completed"][0], "m.login.terms");
        assert_eq!(second["session"], first["session"]);
        let token = Some(Ok(AuthType::RegistrationToken));
        assert!(uia.check("register", flows(), id, token).is_ok());
        let over = challenge(uia.check("register", flows(), id, None)).await;
        assert_ne!(over["session"], first["session"]);
    }

    #[test]
    fn a_single_stage_is_enough_without_a_session() {
        let uia = Uia::new(Random::seeded(1));
        for session in [None, Some("from before the restart")] {
            assert!(uia.check("register", flows(), session, Some(Ok(AuthType::Password))).is_ok());
        }
    }

    #[tokio::test]
    async fn a_session_is_for_one_operation_and_a_failed_stage_does_not_end_it() {
        let uia = Uia::new(Random::seeded(1));
        let first =
            challenge(uia.check("register", flows(), None, Some(Ok(AuthType::Terms)))).await;
        let id = first["session"].as_str();
        let token = || Some(Ok(AuthType::RegistrationToken));
        let other = challenge(uia.check("delete", flows(), id, token())).await;
        assert_ne!(other["session"], first["session"]);
        let why = StandardErrorBody::new(ErrorKind::Forbidden, "No.".to_owned());
        let failed = challenge(uia.check("register", flows(), id, Some(Err(why)))).await;
        assert_eq!(failed["errcode"], "M_FORBIDDEN");
        assert_eq!(failed["error"], "No.");
        assert!(uia.check("register", flows(), id, token()).is_ok());
    }
}
