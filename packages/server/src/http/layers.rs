//! What surrounds every request: its trace, the headers that browsers ask for, and the answer when nothing else answers.

use std::{
    any::Any,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use ruma::api::error::ErrorKind;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use super::ApiError;
use crate::app::App;

/// The whole stack, from the inside out: fallbacks, panics, CORS, trace.
pub fn surround(routes: Router<App>) -> Router<App> {
    routes
        .fallback(async || ApiError::unrecognized())
        .method_not_allowed_fallback(async || wrong_method())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(cors))
        .layer(from_fn(trace))
}

fn wrong_method() -> ApiError {
    let message = "This endpoint exists, but not with this method.";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Unrecognized, message)
}

/// A panic that reached the edge. The hook has logged it with its place.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::internal("a handler panicked").into_response()
}

/// The headers of client-server API 2.4 on everything, errors included; a preflight is answered here.
async fn cors(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    allow(response.headers_mut());
    response
}

fn allow(headers: &mut HeaderMap) {
    let values: [(HeaderName, &'static str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "X-Requested-With, Content-Type, Authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    for (name, value) in values {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Gives each request a number, under which everything that it logs is found. Query strings are not logged: old clients
/// put their access token there.
async fn trace(request: Request, next: Next) -> Response {
    static REQUESTS: AtomicU64 = AtomicU64::new(1);

    let id = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let span =
        tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let start = Instant::now();
    async move {
        let response = next.run(request).await;
        let (status, took) = (response.status().as_u16(), start.elapsed());
        tracing::debug!(status, milliseconds = took.as_millis(), "request.answered");
        response
    }
    .instrument(span)
    .await
}
