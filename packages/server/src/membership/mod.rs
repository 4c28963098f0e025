//! Memberships: seven verbs, and forgetting.
//!
//! Every verb has the same stem (`change`): facts from elsewhere are loaded, then the table of `matryx-core` decides inside
//! the room's lane, by how the room looks there and then. All of them succeed only when the event is durable and visible.
//!
//! Rooms that nobody of this server is in are joined through a server that is (`entering`), and knocked on through one. Invites
//! and knocks of such rooms, and what becomes of them, are [out of band](out_of_band).

mod change;
mod content;
mod elsewhere;
mod entering;
mod invite;
mod join;
mod knock;
mod leave;
mod moderation;
pub mod out_of_band;
mod profile;
mod resident;
mod template;
#[cfg(test)]
mod tests;

pub use self::{
    change::put,
    entering::Entering,
    invite::invite,
    join::join,
    knock::knock,
    leave::{forget, leave},
    moderation::{ban, kick, unban},
    profile::rewrite,
    resident::{check, template, vouching},
};
pub(crate) use self::{
    content::{invitation, joined},
    profile::of as profile_of,
};
