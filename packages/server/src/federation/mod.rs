//! Other servers: finding them, asking them, believing them.

mod client;
mod destinations;
mod discovery;
mod error;
pub mod inbox;
pub mod keys;
mod network;
mod open;
mod outbox;
mod transport;

use std::sync::Arc;

use matryx_repository::{Database, StoreError};
use ruma::OwnedServerName;

pub(crate) use self::network::tls;
pub use self::{
    client::{Client, Sign},
    destinations::{Backoff, Destinations, Returns},
    error::{PeerError, brief},
    keys::{Keys, OwnKeys},
    network::{Network, NetworkError},
    open::parse,
    outbox::Outbox,
    transport::{Transport, TransportError},
};
use crate::{clock::Clock, config, random::Random};

/// What this server has to do with others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Federation(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    client: Client,
    destinations: Destinations,
    keys: Keys,
    outbox: Outbox,
    inbox: inbox::Inbox,
}

/// What federation is built on.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The configuration.
    pub config: &'a config::Config,
    /// Our own keys.
    pub own_keys: Arc<OwnKeys>,
    /// The way to other servers.
    pub transport: Arc<dyn Transport>,
    /// What is kept.
    pub database: Database,
    /// What time it is.
    pub clock: Clock,
    /// Chance.
    pub random: Random,
}

impl Federation {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin(ground: Ground<'_>) -> Result<Self, StoreError> {
        let Ground { config, own_keys, transport, database, clock, random } = ground;
        let us: OwnedServerName = config.server_name.clone();
        let short = config.testing.short_federation_backoff;
        let backoff = if short { Backoff::SHORT } else { Backoff::USUAL };
        let destinations =
            Destinations::open(database.clone(), backoff, clock.clone(), random.clone()).await?;
        let key = Arc::clone(own_keys.signing());
        let client = Client::new(us.clone(), key, transport, destinations.clone(), clock.clone());
        let outbox = Outbox::new(
            us.clone(),
            client.clone(),
            destinations.clone(),
            backoff,
            clock.clone(),
            &random,
        );
        let notaries = config.federation.key_notaries.clone();
        let pace = if short { keys::Pace::SHORT } else { keys::Pace::USUAL };
        let inbox = inbox::Inbox::open(&database).await?;
        let keys = Keys::new(us, own_keys, notaries, pace, client.clone(), database, clock);
        Ok(Self(Arc::new(Parts { client, destinations, keys, outbox, inbox })))
    }

    /// Asks other servers.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Which servers are there.
    #[must_use]
    pub fn destinations(&self) -> &Destinations {
        &self.0.destinations
    }

    /// What other servers send.
    #[must_use]
    pub fn inbox(&self) -> &inbox::Inbox {
        &self.0.inbox
    }

    /// The keys of servers, ours among them.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// What waits for other servers.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }
}
