//! Replies that ruma has no type for.

use bytes::BufMut;
use http::HeaderValue;
use ruma::api::{OutgoingBody, OutgoingResponse, error::IntoHttpError};
use serde::Serialize;

/// A reply in plain JSON.
#[derive(Debug)]
pub struct Plain<T>(pub T);

impl<T: Serialize> OutgoingResponse for Plain<T> {
    type Body = Self;

    fn try_into_http_response_inner(self) -> Result<http::Response<Self>, IntoHttpError> {
        Ok(http::Response::new(self))
    }
}

impl<T: Serialize> OutgoingBody for Plain<T> {
    type Error = serde_json::Error;

    fn content_type(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("application/json"))
    }

    fn try_into_buf<B: Default + BufMut + AsRef<[u8]>>(self) -> Result<B, serde_json::Error> {
        let mut buffer = B::default();
        buffer.put_slice(&serde_json::to_vec(&self.0)?);
        Ok(buffer)
    }
}
