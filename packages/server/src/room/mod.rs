//! Rooms. A room is a value that anyone may look at and that only its lane may change. There are two doors into it:
//! [`Rooms::send`] (we make the event) and [`Rooms::receive`] (someone else made it). Behind both lies the same corridor:
//! judge, settle, derive, commit, publish.
//!
//! A job waits in its room's queue (`lane`), is worked through without waiting for anything but reads (`work`), goes to the
//! one `committer` of all rooms, and is shown by the `stream` when it is durable. Memory moves only then.

mod acl;
mod amend;
mod aside;
mod canonical_alias;
mod chain;
mod changes;
mod client_event;
mod committer;
mod create;
mod events;
mod fill;
mod find;
mod held;
mod import;
mod intent;
mod judge;
mod lane;
mod look;
mod memory;
mod onward;
mod outliers;
mod peer_reading;
mod place;
mod power_levels;
mod prepare;
mod presence;
mod reading;
mod receive;
mod redact;
mod resolution;
mod rooms;
mod say;
mod sight;
mod stream;
mod stripped;
mod template;
mod tips;
mod visibility;
mod work;

pub use acl::{Acl, NOT_INSIDE};
pub use aside::{Aside, Known, Record};
pub use chain::Walk;
pub use changes::add_up;
pub use client_event::Viewer;
pub use committer::{Tally, Totals};
pub use create::{Created, InitialState, NewRoom, Preset, create};
pub use events::Events;
pub use fill::Filling;
pub use held::Room;
pub use import::{Import, ImportError};
pub use intent::{Changes, Decide, Desk, Done, Elsewhere, Intent, Proposal, Said, SendError};
pub use look::{Law, Look, TipState};
pub use peer_reading::PeerReading;
pub use prepare::{Preparation, Prepared};
pub use reading::{Reading, members};
pub use receive::{Door, Given, Received};
pub use rooms::Rooms;
pub use say::Saying;
pub use sight::Sight;
pub use stream::{Standing, Standings, Stream};
pub use stripped::{from_elsewhere, shown};

#[cfg(test)]
pub(crate) mod tests;
