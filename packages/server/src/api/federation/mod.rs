//! The federation API's table of routes: what other servers may ask, and the keys with which they believe us.
//!
//! A file is a chapter of the specification. What is not in the table is not built, and answers 404 `M_UNRECOGNIZED`.

mod given;
mod handshake;
mod history;
mod invite;
mod join;
mod knock;
mod leave;
mod old;
mod query;
mod state;
mod transaction;
mod version;

use axum::Router;

use super::{key, well_known};
use crate::{
    app::App,
    http::{endpoint, endpoint_within},
};

/// Every route that other servers may call.
pub fn routes() -> Router<App> {
    [
        // What they send
        endpoint_within(transaction::LARGEST, transaction::send),
        // What this server is, where it is, and its keys
        endpoint(version::version),
        endpoint(well_known::server),
        endpoint(key::own),
        endpoint(key::of_another),
        endpoint(key::of_others),
        // Joining, knocking and leaving through this server
        endpoint(join::template),
        endpoint(join::hand_in),
        endpoint(join::hand_in_old),
        endpoint(knock::template),
        endpoint(knock::hand_in),
        endpoint(leave::template),
        endpoint(leave::hand_in),
        endpoint(leave::hand_in_old),
        // What was said in rooms, and what they were
        endpoint(history::one),
        endpoint(history::backfill),
        endpoint(history::missing),
        endpoint(state::whole),
        endpoint(state::ids),
        endpoint(state::auth),
        // Aliases and profiles
        endpoint(query::directory),
        endpoint(query::profile),
        // Invites to users of ours
        endpoint(invite::invite),
        endpoint(invite::invite_v1),
    ]
    .into_iter()
    .fold(Router::new(), Router::merge)
}
