//! Requests that ruma knows and whose body we read ourselves: where its type would refuse with another error than the
//! specification's, or in words that help nobody.

use std::marker::PhantomData;

use http::Request;
use ruma::api::{IncomingRequest, Metadata, error::DeserializationError};
use serde::de::{
    DeserializeOwned,
    value::{Error, SeqDeserializer},
};
use serde_json::{Map, Value};

use super::alike::alike;

/// A request with the paths and the answer of `R`, the path's variables as `P`, and the body as `B`.
pub struct Own<R, P, B> {
    /// The variables of the path.
    pub path: P,
    /// The body.
    pub body: B,
    known: PhantomData<fn() -> R>,
}

/// A path without variables.
pub type NoPath = [String; 0];

alike!(Own<R, P, B> => R, for R: Metadata, P, B);

impl<R: IncomingRequest, P: DeserializeOwned, B: DeserializeOwned> IncomingRequest
    for Own<R, P, B>
{
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let path = variables(path)?;
        let body = B::deserialize(Value::Object(given(request.body())?))?;
        Ok(Self { path, body, known: PhantomData })
    }
}

/// The variables of a path, in their order.
pub(super) fn variables<P: DeserializeOwned>(path: &[&str]) -> Result<P, Error> {
    P::deserialize(SeqDeserializer::new(path.iter().copied()))
}

/// What a body gives. A key that is null is as good as none: that is how many clients leave one out.
pub(super) fn given(body: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let mut body: Map<String, Value> = serde_json::from_slice(body)?;
    body.retain(|_, value| !value.is_null());
    Ok(body)
}
