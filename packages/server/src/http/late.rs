//! Requests whose path is enough to refuse them.

use http::Request;
use ruma::api::{
    IncomingRequest, Metadata,
    error::{DeserializationError, FromHttpRequestError},
};
use serde::de::DeserializeOwned;

use super::{ApiError, alike::alike, own::variables, request::unfit};

/// A request of which the path is read at once, as `P`. What is wrong with the rest is told to those who may ask at all.
pub struct Late<R, P> {
    /// The variables of the path.
    pub path: P,
    whole: Result<R, DeserializationError>,
}

impl<R, P> Late<R, P> {
    /// The request.
    ///
    /// # Errors
    /// What is missing or wrong in it.
    pub fn whole(self) -> Result<R, ApiError> {
        self.whole.map_err(|error| unfit(FromHttpRequestError::Deserialization(error), b"{}"))
    }
}

alike!(Late<R, P> => R, for R: Metadata, P);

impl<R: IncomingRequest, P: DeserializeOwned> IncomingRequest for Late<R, P> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(Self { path: variables(path)?, whole: R::try_from_http_request_inner(request, path) })
    }
}
