//! Telling clients what has happened.

mod notifier;

pub use notifier::{Notifier, Waiter};
