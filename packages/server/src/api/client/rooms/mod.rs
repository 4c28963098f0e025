//! Rooms: a file is a chapter of the specification.

pub(super) mod read;
