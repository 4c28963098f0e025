//! The pipeline without HTTP, on the real engine.

mod appends;
mod forks;
mod imports;
pub(crate) mod onward;
pub(crate) mod world;
