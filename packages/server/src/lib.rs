//! Matryx, a Matrix homeserver: everything between the network and what is kept.
//!
//! [`http`] glues ruma's requests to axum, [`api`] holds the doors, and behind them stand the subjects: [`room`] and
//! [`membership`], [`sync`], [`user`], [`directory`], and other servers in [`federation`]. [`lifecycle::Server`] starts it all,
//! for the binary and for tests alike.

mod allocator;
pub mod api;
pub mod app;
pub mod clock;
pub mod commands;
pub mod config;
pub mod directory;
pub mod federation;
mod files;
pub mod http;
pub mod lifecycle;
mod listener;
pub mod membership;
pub mod random;
pub mod room;
pub mod sync;
pub mod user;
