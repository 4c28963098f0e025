//! The doors: a table of routes and thin handlers for each API.

pub mod admin;
pub mod client;
mod registration;
