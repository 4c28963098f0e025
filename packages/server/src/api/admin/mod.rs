//! The admin API's table of routes: what Synapse has below `/_synapse/admin`, for the tools that are written for it.

mod register;

use axum::Router;

use crate::{app::App, http::endpoint};

/// Every route that admins and their scripts may call.
pub fn routes() -> Router<App> {
    endpoint(register::nonce).merge(endpoint(register::register))
}
