//! The way to another server: the one seam between federation and the network.

use std::fmt::Debug;

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use ruma::ServerName;

/// Brings a request to another server and its answer back.
///
/// The server runs on [`Network`](super::Network): discovery, TLS, HTTP. A simulated world brings its own.
pub trait Transport: Send + Sync + Debug {
    /// Sends a request, whose URI is a path and a query, and waits for the head of the answer. The answer's body may
    /// still be on its way.
    fn send<'a>(
        &'a self,
        to: &'a ServerName,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'a, Result<http::Response<Body>, TransportError>>;
}

/// Why a request did not reach a server, or no answer came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// It can't be found, connected to or believed to be who it says: what went wrong, as part of a sentence.
    #[error("{0}")]
    Unreachable(String),
    /// It took too long.
    #[error("{0} took too long")]
    TimedOut(&'static str),
}
