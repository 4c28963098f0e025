//! The client API's table of routes.
//!
//! A file is a chapter of the specification. What is not in the table is not built, and answers 404 `M_UNRECOGNIZED`.

mod account;
mod capabilities;
mod filter;
mod login;
mod logout;
mod profile;
mod push_rules;
mod register;
mod rooms;
mod sync;
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
        // Accounts and sessions
        endpoint(register::register),
        endpoint(register::available),
        endpoint(register::validity),
        endpoint(login::types),
        endpoint(login::login),
        endpoint(login::refresh),
        endpoint(logout::logout),
        endpoint(logout::logout_all),
        endpoint(account::whoami),
        // What users say about themselves, and how they want to be served
        endpoint(profile::all),
        endpoint(profile::get),
        endpoint(profile::set),
        endpoint(profile::delete),
        endpoint(filter::create),
        endpoint(filter::get),
        endpoint(push_rules::all),
        endpoint(push_rules::global),
        endpoint(push_rules::rule),
        endpoint(push_rules::actions),
        endpoint(push_rules::enabled),
        // Rooms and their aliases
        endpoint(rooms::create::create),
        endpoint(rooms::directory::get),
        endpoint(rooms::directory::put),
        endpoint(rooms::directory::delete),
        endpoint(rooms::directory::list),
        // Memberships
        endpoint(rooms::membership::invite),
        endpoint(rooms::membership::join),
        endpoint(rooms::membership::join_by_id),
        endpoint(rooms::membership::knock),
        endpoint(rooms::membership::knock_by_id),
        endpoint(rooms::membership::leave),
        endpoint(rooms::membership::forget),
        endpoint(rooms::membership::kick),
        endpoint(rooms::membership::ban),
        endpoint(rooms::membership::unban),
        // Saying things
        endpoint(rooms::send::send),
        endpoint(rooms::state::put),
        endpoint(rooms::redact::redact),
        // Reading rooms
        endpoint(rooms::messages::messages),
        endpoint(rooms::read::joined_rooms),
        endpoint(rooms::read::state),
        endpoint(rooms::read::state_event),
        endpoint(rooms::read::member_events),
        endpoint(rooms::read::joined),
        endpoint(rooms::read::event),
        // What has happened
        endpoint(sync::sync),
    ]
    .into_iter()
    .fold(Router::new(), Router::merge)
}
