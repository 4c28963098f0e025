//! What the tests are written with: servers, users with the verbs of the client API, and what to expect of answers.

mod abroad;
mod answer;
mod ca;
mod folder;
mod gate;
mod guest;
mod homeserver;
mod hosted;
mod http;
mod kept;
mod matryx;
mod neighbours;
mod pair;
mod peer;
mod place;
mod process;
mod server;
mod shared;
mod synapse;
mod sync;
mod user;
pub mod venv;

pub use self::{
    abroad::Abroad,
    answer::Answer,
    ca::ca,
    folder::empty as empty_folder,
    guest::{Guest, Ready, escaped},
    homeserver::{Homeserver, Software},
    hosted::{Hosted, MAKE_JOIN, SEND_JOIN, user_of},
    http::Http,
    neighbours::{Neighbours, SharedNeighbours},
    pair::SharedPair,
    peer::{Asked, KEYS, Peer, Told, new_key},
    place::free_address,
    process::{ServerProcess, command},
    server::{SharedServer, TestServer, runtime, standing_clock},
    sync::{Listener, Sync, SyncAnswer, eventually, find, has},
    user::{TestUser, fresh, v3},
};
