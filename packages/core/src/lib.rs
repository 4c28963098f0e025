//! The vocabulary and the law. No network, no storage, no clock, no randomness: everything here is a value or a pure
//! function of its arguments.
//!
//! * [`event`]: what someone wants to say ([`event::Draft`]), and what was said, hashed, signed and named
//!   ([`event::Pdu`]). Only [`event::seal`] (ours) and [`event::open`] (theirs) make one.
//! * [`membership`]: the table of seven verbs by five states, [`membership::decide`].
//! * [`room`]: state as a persistent map, power levels, the judging of events and the resolution of forks.
//! * [`refusal`]: a no with a sentence that helps.
//!
//! Room versions are data ([`ruma::room_version_rules::RoomVersionRules`]) and never compared. Versions 3 to 12 can be
//! handled; 1 and 2 are refused, because their events name one another in another form and their state is resolved
//! by another algorithm.

pub mod event;
pub mod membership;
pub mod refusal;
pub mod room;
