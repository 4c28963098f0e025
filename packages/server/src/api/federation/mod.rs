//! The federation API's table of routes: what other servers may ask, and the keys with which they believe us.
//!
//! A file is a chapter of the specification. What is not in the table is not built, and answers 404 `M_UNRECOGNIZED`.

mod version;

use axum::Router;

use super::{key, well_known};
use crate::{app::App, http::endpoint};

/// Every route that other servers may call.
pub fn routes() -> Router<App> {
    [
        // What this server is, where it is, and its keys
        endpoint(version::version),
        endpoint(well_known::server),
        endpoint(key::own),
        endpoint(key::of_another),
        endpoint(key::of_others),
    ]
    .into_iter()
    .fold(Router::new(), Router::merge)
}
