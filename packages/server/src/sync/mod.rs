//! Telling clients what has happened.

pub mod filter;
mod notifier;
pub mod token;
pub mod v3;

pub use notifier::{Notifier, Waiter};
