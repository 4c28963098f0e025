//! What the tests are written with: servers, users with the verbs of the client API, and what to expect of answers.

mod answer;
mod ca;
mod folder;
mod http;
mod process;
mod server;
mod sync;
mod user;

pub use self::{
    answer::Answer,
    ca::ca,
    folder::empty as empty_folder,
    http::Http,
    process::{ServerProcess, command},
    server::{SharedServer, TestServer, runtime},
    sync::{Sync, SyncAnswer, find, has},
    user::{TestUser, fresh, v3},
};
