//! The first version of endpoints, which the specification has dropped and other servers and their tests still ask for: the
//! same request, and the answer in an array behind a 200 that says nothing.

use std::marker::PhantomData;

use http::{Method, Request};
use ruma::api::{
    IncomingRequest, Metadata,
    error::DeserializationError,
    federation::membership::{create_join_event, create_leave_event},
    path_builder::SinglePath,
};
use serde::Serialize;

use crate::http::Plain;

/// A request of the second version of an endpoint, come by the path of the first, and answered with a `T`.
pub(super) struct Old<R, T> {
    pub(super) request: R,
    answer: PhantomData<fn() -> T>,
}

/// An endpoint that had another version before.
pub(super) trait HadOld: IncomingRequest<PathBuilder = SinglePath> {
    /// The path of that version.
    const OLD_PATH: SinglePath;
}

impl HadOld for create_join_event::v2::Request {
    const OLD_PATH: SinglePath =
        SinglePath::new("/_matrix/federation/v1/send_join/{room_id}/{event_id}");
}

impl HadOld for create_leave_event::v2::Request {
    const OLD_PATH: SinglePath =
        SinglePath::new("/_matrix/federation/v1/send_leave/{room_id}/{event_id}");
}

/// The answer of the first version.
pub(super) type OldAnswer<T> = Plain<(u16, T)>;

/// An answer as the first version gives it.
pub(super) fn old<T>(answer: T) -> OldAnswer<T> {
    Plain((200, answer))
}

impl<R: HadOld, T> Metadata for Old<R, T> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = R::OLD_PATH;
}

impl<R: HadOld, T: Serialize> IncomingRequest for Old<R, T> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = OldAnswer<T>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let request = R::try_from_http_request_inner(request, path)?;
        Ok(Self { request, answer: PhantomData })
    }
}
