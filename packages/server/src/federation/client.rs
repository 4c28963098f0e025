//! Asking other servers: requests of ruma's, signed, sent, and their answers read.

use std::{fmt, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{Request, Response, header::RETRY_AFTER};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use matryx_core::event::SigningKey;
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingResponseExt, OutgoingRequest, OutgoingRequestExt,
        auth_scheme::{AuthScheme, NoAuthentication},
        error::ErrorCode,
        federation::authentication::{ServerSignatures, XMatrixSigningInput},
        path_builder::SinglePath,
    },
};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{Destinations, PeerError, Transport, TransportError, error::brief};
use crate::clock::Clock;

/// How large an answer may be to be read whole, in bytes, where nothing else is said.
const ANSWER_LIMIT: usize = 1 << 20;
/// The same for what begins like this.
const ANSWER_LIMITS: [(&str, usize); 7] = [
    ("/_matrix/key/v2/server", 128 << 10),
    ("/_matrix/federation/v1/event/", 128 << 10),
    ("/_matrix/federation/v1/send_knock/", 2 << 20),
    ("/_matrix/federation/v1/backfill/", 10 << 20),
    ("/_matrix/federation/v1/get_missing_events/", 10 << 20),
    ("/_matrix/federation/v1/state_ids/", 16 << 20),
    ("/_matrix/federation/v1/state/", 64 << 20),
];
/// From which size on an answer is read beside other large ones, a few at a time.
const LARGE: usize = 16 << 20;
/// How many large answers are read at the same time.
const LARGE_AT_ONCE: usize = 4;
/// The largest refusal that is read, in bytes.
const REFUSAL_LIMIT: usize = 64 << 10;
/// The longest errcode, in bytes.
const CODE_LIMIT: usize = 100;
/// A server that does not answer within this time is counted as not there; with less patience it is only slow.
const FAIR: Duration = Duration::from_secs(10);

/// Asks other servers. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    parts: Arc<Parts>,
    anyway: bool,
    in_passing: bool,
}

struct Parts {
    us: OwnedServerName,
    key: Arc<SigningKey>,
    transport: Arc<dyn Transport>,
    destinations: Destinations,
    clock: Clock,
    /// For who reads a large answer.
    large: Semaphore,
}

/// What an authentication scheme needs of us.
pub trait Sign: AuthScheme {
    /// The input for a request from `us` to another server.
    fn input<'a>(us: &ServerName, to: &ServerName, key: &'a SigningKey) -> Self::Input<'a>;
}

impl Sign for ServerSignatures {
    fn input<'a>(us: &ServerName, to: &ServerName, key: &'a SigningKey) -> Self::Input<'a> {
        XMatrixSigningInput::new(us.to_owned(), to.to_owned(), key.pair())
    }
}

impl Sign for NoAuthentication {
    fn input<'a>(_: &ServerName, _: &ServerName, _: &'a SigningKey) -> Self::Input<'a> {}
}

impl Client {
    pub(super) fn new(
        us: OwnedServerName,
        key: Arc<SigningKey>,
        transport: Arc<dyn Transport>,
        destinations: Destinations,
        clock: Clock,
    ) -> Self {
        let large = Semaphore::new(LARGE_AT_ONCE);
        let parts = Parts { us, key, transport, destinations, clock, large };
        Self { parts: Arc::new(parts), anyway: false, in_passing: false }
    }

    /// The same, for what is tried although the server was not reached lately.
    #[must_use]
    pub fn anyway(&self) -> Self {
        Self { anyway: true, ..self.clone() }
    }

    /// The same, for servers that anybody may have named: that one is not there is remembered, but not written down.
    #[must_use]
    pub fn in_passing(&self) -> Self {
        Self { in_passing: true, ..self.clone() }
    }

    /// Asks a server, and waits no longer than `patience` for all of the answer.
    ///
    /// # Errors
    /// Whatever keeps the answer away.
    pub async fn ask<R>(
        &self,
        to: &ServerName,
        request: R,
        patience: Duration,
    ) -> Result<R::IncomingResponse, PeerError>
    where
        R: OutgoingRequest<PathBuilder = SinglePath>,
        R::Authentication: Sign,
    {
        let request = self.sign(to, request)?;
        let limit = limit_of(request.uri().path());
        // Never closed.
        let _turn = if limit >= LARGE { self.parts.large.acquire().await.ok() } else { None };
        let whole = async {
            let response = self.send(to, request).await?;
            let (parts, body) = response.into_parts();
            let body = read(to, body, limit).await?;
            Ok(Response::from_parts(parts, body))
        };
        let response = self.within(to, patience, whole).await?;
        let (parts, body) = response.into_parts();
        let response = Response::from_parts(parts, &*body);
        R::IncomingResponse::try_from_http_response(response).map_err(|error| {
            PeerError::malformed(&format!("{to} gave an answer that can't be understood: {error}"))
        })
    }

    /// Asks a server, and waits no longer than `patience` for the head of the answer. Its status is 2xx; the body is
    /// the caller's to read and to bound.
    ///
    /// # Errors
    /// Whatever keeps the answer away.
    pub async fn ask_streamed<R>(
        &self,
        to: &ServerName,
        request: R,
        patience: Duration,
    ) -> Result<Response<Body>, PeerError>
    where
        R: OutgoingRequest<PathBuilder = SinglePath>,
        R::Authentication: Sign,
    {
        let request = self.sign(to, request)?;
        self.within(to, patience, self.send(to, request)).await
    }

    /// The request as it goes over the wire; its URI is a path and a query.
    fn sign<R>(&self, to: &ServerName, request: R) -> Result<Request<Bytes>, PeerError>
    where
        R: OutgoingRequest<PathBuilder = SinglePath>,
        R::Authentication: Sign,
    {
        let input = R::Authentication::input(&self.parts.us, to, &self.parts.key);
        let request =
            request.try_into_http_request::<BytesMut>("", input, ()).map_err(|error| {
                PeerError::malformed(&format!("the request to {to} can't be written: {error}"))
            })?;
        Ok(request.map(BytesMut::freeze))
    }

    /// Sends a request and waits for the head of the answer, which is a success or a refusal.
    async fn send(
        &self,
        to: &ServerName,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, PeerError> {
        if to == self.parts.us {
            return Err(PeerError::Unreachable(format!("{to} is this server itself")));
        }
        if !self.anyway {
            let until = self.parts.destinations.may_try(to);
            until.map_err(|until| PeerError::BackingOff { server: to.to_owned(), until })?;
        }
        let response = match self.parts.transport.send(to, request).await {
            Ok(response) => response,
            Err(error) => {
                self.failed(to).await;
                return Err(match error {
                    TransportError::Unreachable(why) => {
                        PeerError::Unreachable(format!("{to} can't be reached: {why}"))
                    }
                    TransportError::TimedOut(stage) => {
                        PeerError::TimedOut { server: to.to_owned(), stage }
                    }
                });
            }
        };
        if response.status().is_success() {
            self.parts.destinations.succeeded(to).await;
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let refusal = match read(to, body, REFUSAL_LIMIT).await {
            Ok(body) => refusal(to, &parts, &body),
            Err(PeerError::Malformed(_)) => refusal(to, &parts, &[]),
            Err(broken) => broken,
        };
        if refusal.is_absent() {
            self.failed(to).await;
        } else if refusal.errcode().is_some() {
            self.parts.destinations.answered(to).await;
        }
        Err(refusal)
    }

    async fn failed(&self, to: &ServerName) {
        if self.in_passing {
            self.parts.destinations.failed_in_passing(to).await;
        } else {
            self.parts.destinations.failed(to).await;
        }
    }

    async fn within<T>(
        &self,
        to: &ServerName,
        patience: Duration,
        answer: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        if let Some(answer) = self.parts.clock.within(patience, answer).await {
            return answer;
        }
        if patience >= FAIR {
            self.failed(to).await;
        }
        Err(PeerError::TimedOut { server: to.to_owned(), stage: "the answer" })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("transport", &self.parts.transport).finish_non_exhaustive()
    }
}

/// How large the answer to what is asked under this path may be.
fn limit_of(path: &str) -> usize {
    let own = ANSWER_LIMITS.iter().find(|(begin, _)| path.starts_with(begin));
    own.map_or(ANSWER_LIMIT, |(_, limit)| *limit)
}

async fn read(to: &ServerName, body: Body, limit: usize) -> Result<Bytes, PeerError> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(PeerError::malformed(&format!("{to} gave an answer of more than {limit} bytes")))
        }
        Err(error) => {
            Err(PeerError::Unreachable(format!("the answer of {to} ended too early: {error}")))
        }
    }
}

/// What a refusal says, as far as anybody is to know of it.
fn refusal(to: &ServerName, parts: &http::response::Parts, body: &[u8]) -> PeerError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let sentence = brief(text("error").unwrap_or("it does not say why"));
    let errcode = text("errcode").filter(|code| is_code(code)).map(ErrorCode::from);
    let room_version = text("room_version").and_then(|version| version.try_into().ok());
    let header = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = header
        .map(Duration::from_secs)
        .or_else(|| body.get("retry_after_ms").and_then(Value::as_u64).map(Duration::from_millis));
    let (server, status) = (to.to_owned(), parts.status);
    PeerError::Refused { server, status, errcode, sentence, room_version, retry_after }
}

/// Whether it can be a code: letters, digits, and what stands between them.
fn is_code(text: &str) -> bool {
    text.len() <= CODE_LIMIT
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}
