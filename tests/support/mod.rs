//! What the tests are written with: servers, users with the verbs of the client API, and what to expect of answers.

mod answer;
mod ca;
mod folder;
mod gate;
mod homeserver;
mod http;
mod kept;
mod matryx;
mod process;
mod server;
mod synapse;
mod sync;
mod user;
pub mod venv;

pub use self::{
    answer::Answer,
    ca::ca,
    folder::empty as empty_folder,
    homeserver::{Homeserver, Software},
    http::Http,
    process::{ServerProcess, command},
    server::{SharedServer, TestServer, runtime},
    sync::{Listener, Sync, SyncAnswer, eventually, find, has},
    user::{TestUser, fresh, v3},
};
