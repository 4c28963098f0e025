//! Between axum and ruma: requests in, replies out, and who is asking.
//!
//! A handler is `async fn(App, Matrix<R>) -> Result<R::Response, ApiError>`; [`endpoint()`] registers it on every path
//! that its request type knows.

mod alike;
mod endpoint;
mod error;
mod identity;
mod late;
pub mod layers;
mod mended;
mod own;
mod plain;
mod reply;
mod request;
pub mod serve;
#[cfg(test)]
pub(crate) mod tests;
mod uia;

pub(crate) use alike::alike;
pub use endpoint::{endpoint, endpoint_within};
pub use error::ApiError;
pub use identity::Authenticate;
pub use late::Late;
pub use mended::{Mend, Mended};
pub use own::{NoPath, Own};
pub use plain::Plain;
pub use reply::Reply;
pub use request::{BODY_LIMIT, Matrix};
pub use uia::Uia;
