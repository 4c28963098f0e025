//! Requests that ruma would not take as clients send them.

use std::marker::PhantomData;

use ruma::api::{IncomingRequest, Metadata, OutgoingResponse, error::DeserializationError};
use serde_json::{Map, Value};

use super::{alike::alike, own::given};

/// A request type of ruma's whose body is put right before it is parsed; `M` knows how.
#[derive(Debug)]
pub struct Mended<R, M> {
    /// The request.
    pub request: R,
    mend: PhantomData<M>,
}

/// What is put right in a body, and what is answered.
pub trait Mend {
    /// The reply: mostly ruma's, which is not always right either.
    type Reply: OutgoingResponse;

    /// Changes the body so that it can be parsed.
    ///
    /// # Errors
    /// When it lacks something without which ruma does not survive.
    fn mend(body: &mut Map<String, Value>) -> Result<(), serde_json::Error>;
}

alike!(Mended<R, M> => R, for R: Metadata, M);

impl<R: IncomingRequest, M: Mend> IncomingRequest for Mended<R, M> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = M::Reply;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (parts, body) = request.into_parts();
        let mut body = given(body)?;
        M::mend(&mut body)?;
        let body = serde_json::to_vec(&body)?;
        let request = http::Request::from_parts(parts, body.as_slice());
        let request = R::try_from_http_request_inner(request, path)?;
        Ok(Self { request, mend: PhantomData })
    }
}
