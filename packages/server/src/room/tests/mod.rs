//! The pipeline without HTTP, on the real engine.

mod appends;
mod forks;
pub(crate) mod world;
