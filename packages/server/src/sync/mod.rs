//! Telling clients what has happened.

mod notifier;
pub mod token;

pub use notifier::{Notifier, Waiter};
