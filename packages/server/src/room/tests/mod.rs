//! The pipeline without HTTP, on the real engine.

mod appends;
mod forks;
mod world;
