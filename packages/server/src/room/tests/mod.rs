//! The pipeline without HTTP, on the real engine.

mod appends;
mod forks;
mod gaps;
mod imports;
mod invites;
pub(crate) mod onward;
mod places;
mod two;
pub(crate) mod world;
