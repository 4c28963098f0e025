//! The client API's table of routes.
//!
//! A file is a chapter of the specification. What is not in the table is not built, and answers 404 `M_UNRECOGNIZED`.

mod capabilities;
mod rooms;
mod versions;
mod well_known;

use axum::Router;

use crate::{app::App, http::endpoint};

/// Every route that clients may call.
pub fn routes() -> Router<App> {
    [
        // What this server is and can
        endpoint(versions::versions),
        endpoint(well_known::client),
        endpoint(capabilities::capabilities),
        // Reading rooms
        endpoint(rooms::read::joined_rooms),
        endpoint(rooms::read::state),
        endpoint(rooms::read::state_event),
        endpoint(rooms::read::member_events),
        endpoint(rooms::read::joined),
        endpoint(rooms::read::event),
    ]
    .into_iter()
    .fold(Router::new(), Router::merge)
}
