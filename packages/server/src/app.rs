//! What every handler has in its hand.

use std::{fmt, ops::Deref, sync::Arc};

use matryx_core::event::SigningKey;
use matryx_repository::{Database, StoreError};
use ruma::OwnedServerName;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock,
    config::Config,
    federation::{Federation, Ground, OwnKeys, Transport},
    http::Uia,
    membership::{Entering, out_of_band::Errands},
    random::Random,
    room::Rooms,
    user::Users,
};

/// The running server as its handlers see it. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    /// The configuration that the server was started with.
    pub config: Config,
    /// What time it is.
    pub clock: Clock,
    /// The server's own name.
    pub server_name: OwnedServerName,
    /// What signs our events.
    pub key: Arc<SigningKey>,
    /// The store.
    pub database: Database,
    /// Where secrets and ids come from.
    pub random: Random,
    /// The rooms.
    pub rooms: Rooms,
    /// Other servers.
    pub federation: Federation,
    /// The joins through other servers that are under way.
    pub entering: Entering,
    /// What rooms that we are not in have still to be told.
    pub errands: Errands,
    /// Accounts.
    pub users: Users,
    /// What has been shown so far of what an endpoint asks for besides a token.
    pub uia: Uia,
    /// Cancelled when the server begins to stop: what waits for something, /sync above all, answers at once.
    pub shutdown: CancellationToken,
    /// What must be finished before the server stops.
    pub tasks: TaskTracker,
}

impl App {
    /// Puts the parts together, and starts what works in the background. `transport` is the way to other servers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open(
        config: Config,
        clock: Clock,
        own_keys: impl Into<OwnKeys>,
        database: Database,
        transport: Arc<dyn Transport>,
        random: Random,
    ) -> Result<Self, StoreError> {
        let server_name = config.server_name.clone();
        let own_keys = Arc::new(own_keys.into());
        let key = Arc::clone(own_keys.signing());
        let users = Users::new(
            database.clone(),
            server_name.clone(),
            clock.clone(),
            random.clone(),
            config.testing.cheap_password_hashing,
        );
        let rooms =
            Rooms::open(database.clone(), server_name.clone(), Arc::clone(&key), clock.clone())
                .await?;
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(rooms.clone().tie_tips(shutdown.clone()));
        let federation = Federation::begin(Ground {
            config: &config,
            own_keys,
            transport,
            database: database.clone(),
            clock: clock.clone(),
            random: random.clone(),
        })
        .await?;
        federation.outbox().start(&rooms, shutdown.clone(), &tasks).await?;
        let errands = Errands::open(&database).await?;
        let app = Self(Arc::new(Parts {
            federation,
            entering: Entering::default(),
            errands,
            users,
            uia: Uia::new(random.clone()),
            random,
            config,
            clock,
            server_name,
            key,
            database,
            rooms,
            shutdown,
            tasks,
        }));
        app.tasks.spawn(app.errands.clone().work(app.clone()));
        app.tasks.spawn(app.federation.inbox().clone().work(app.clone()));
        Ok(app)
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
