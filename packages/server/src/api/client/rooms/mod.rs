//! Rooms: a file is a chapter of the specification.

pub(super) mod messages;
pub(super) mod read;
