//! What is kept. This crate knows SurrealDB and no rules.
//!
//! [`Database`] is the one handle. A file here is a family of tables: a private struct for each row, plain values of
//! `matryx-core` outside, `Ok(None)` for what is not there. Rooms are written in one place, [`Append`]: everything
//! that one accepted intent changes, many appends in one durable transaction.
//!
//! Three habits of the engine shape the code (measured, see `docs/architecture.md`): uniqueness is a record id;
//! pages are exact ranges of array ids over dense numbers, because a range ignores LIMIT; no secondary index
//! stands on a table that is written often.

mod ahead;
mod alias;
mod append;
mod database;
mod destination;
mod device;
mod errand;
mod error;
mod event;
mod filter;
mod fork;
mod gap;
mod intact;
mod line;
mod migrations;
mod mine;
mod out;
mod profile;
mod room;
mod runtime;
mod segments;
mod server_key;
mod state;
mod time;
mod token;
mod transaction;
mod user;
mod value;
mod waiting;

pub use ahead::Ahead;
pub use alias::Alias;
pub use append::{Append, NewLine, Written};
pub use database::{Database, DatabaseSettings, OpenError};
pub use destination::Absence;
pub use device::{Device, Login, Removed};
pub use errand::{Errand, Task};
pub use error::StoreError;
pub use event::{Before, Sent, StoredEvent};
pub use fork::Fork;
pub use gap::Gap;
pub use line::Line;
pub use mine::{Mine, Source};
pub use out::{Out, OutPlace, ServerSet};
pub use room::{RoomHead, Tip};
pub use runtime::runtime;
pub use server_key::ServerKey;
pub use state::Version;
pub use token::{Grant, NextPair, TokenHash};
pub use transaction::TransactionKey;
pub use user::Account;
pub use waiting::Waiting;
