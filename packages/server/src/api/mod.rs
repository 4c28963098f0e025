//! The doors: a table of routes and thin handlers for each API.

pub mod admin;
pub mod client;
pub mod federation;
mod key;
mod registration;
mod well_known;
