//! Routes from request types: no path is written twice, no macro is needed.

use axum::{
    Extension, Router,
    extract::State,
    response::IntoResponse,
    routing::{MethodFilter, on},
};
use http::Method;
use ruma::api::{IncomingRequest, auth_scheme::AuthScheme, path_builder::PathBuilder};
use tracing::Instrument;

use super::{ApiError, Authenticate, BODY_LIMIT, Matrix, Reply, request::BodyLimit};
use crate::app::App;

/// Registers a handler on every path of its request type, old prefixes included.
///
/// A request that may change something runs as a task of its own, which a client that hangs up does not stop: half a
/// request is worse than one that nobody waits for. Reading requests end with their connection.
pub fn endpoint<R, F, Fut>(handler: F) -> Router<App>
where
    R: IncomingRequest + Send + 'static,
    R::Authentication: Authenticate,
    <R::Authentication as AuthScheme>::Output: Send,
    R::OutgoingResponse: Send,
    F: Fn(App, Matrix<R>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<R::OutgoingResponse, ApiError>> + Send + 'static,
{
    endpoint_within(BODY_LIMIT, handler)
}

/// [`endpoint`], for a request whose body may have up to `limit` bytes.
pub fn endpoint_within<R, F, Fut>(limit: usize, handler: F) -> Router<App>
where
    R: IncomingRequest + Send + 'static,
    R::Authentication: Authenticate,
    <R::Authentication as AuthScheme>::Output: Send,
    R::OutgoingResponse: Send,
    F: Fn(App, Matrix<R>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<R::OutgoingResponse, ApiError>> + Send + 'static,
{
    let route = on(method::<R>(), move |State(app): State<App>, request: Matrix<R>| {
        let answer = handler(app.clone(), request);
        async move {
            let result =
                if R::METHOD == Method::GET { answer.await } else { apart(&app, answer).await };
            match result {
                Ok(response) => Reply(response).into_response(),
                Err(error) => error.into_response(),
            }
        }
    })
    .layer(Extension(BodyLimit(limit)));

    R::PATH_BUILDER
        .all_paths()
        .flat_map(with_short_forms)
        .fold(Router::new(), |router, path| router.route(path, route.clone()))
}

/// Runs the answer as a task that goes on when the connection is gone, and that a stopping server waits for.
async fn apart<T: Send + 'static>(
    app: &App,
    answer: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let task = app.tasks.spawn(answer.in_current_span());
    task.await.unwrap_or_else(|panic| Err(ApiError::internal(panic)))
}

fn method<R: IncomingRequest>() -> MethodFilter {
    match MethodFilter::try_from(R::METHOD) {
        Ok(filter) => filter,
        Err(error) => unreachable!("the specification has no such method: {error}"),
    }
}

/// A state event with an empty key is named with and without the slash at the end; the router takes neither for the
/// form with a key.
fn with_short_forms(path: &'static str) -> impl Iterator<Item = &'static str> {
    let slash = path.strip_suffix("{state_key}");
    let bare = path.strip_suffix("/{state_key}");
    std::iter::once(path).chain(slash).chain(bare)
}
