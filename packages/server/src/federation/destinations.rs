//! Which servers are there: one place that knows, for everyone who sends something.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use matryx_repository::{Absence, Database, StoreError};
use moka::sync::Cache;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use tokio::sync::{
    Mutex,
    broadcast::{self, error::RecvError},
};

use crate::{
    clock::{Clock, later},
    random::Random,
};

/// How long it is remembered that a server was not there, after it might have been tried again.
const MEMORY: Duration = Duration::from_hours(7 * 24);
/// How many servers are remembered of which it is not written down that they were not there.
const IN_PASSING: u64 = 50_000;
/// How many servers may come back before somebody who is told has missed one.
const NEWS: usize = 1024;

/// How long to wait after something has failed, such as that a server was not reached.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure; doubled after each that follows.
    pub first: Duration,
    /// At the most.
    pub longest: Duration,
}

impl Backoff {
    /// For servers: seconds at first, hours in the end.
    pub const USUAL: Self =
        Self { first: Duration::from_secs(5), longest: Duration::from_hours(6) };
    /// For tests, which bring servers back quickly.
    pub const SHORT: Self =
        Self { first: Duration::from_millis(20), longest: Duration::from_millis(500) };

    /// How long after so many failures in a row, before chance has its part.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.longest)
    }
}

/// Remembers which servers do not answer, over restarts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Destinations(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    absent: RwLock<HashMap<OwnedServerName, Absence>>,
    /// Absences that are not written down.
    in_passing: Cache<OwnedServerName, Absence>,
    /// Held while a change is written: what is written last is what is known last.
    writing: Mutex<()>,
    up: broadcast::Sender<OwnedServerName>,
    /// Servers that are there and yet refuse something: whoever waits for them hears of it when they next show themselves.
    watched: RwLock<HashSet<OwnedServerName>>,
    backoff: Backoff,
    database: Database,
    clock: Clock,
    random: Random,
}

impl Destinations {
    /// Reads what was remembered.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn open(
        database: Database,
        backoff: Backoff,
        clock: Clock,
        random: Random,
    ) -> Result<Self, StoreError> {
        let mut absent = HashMap::new();
        for (server, absence) in database.absences().await? {
            if later(absence.until, MEMORY) > clock.now() {
                absent.insert(server, absence);
            } else {
                // Nobody has wanted anything of it for long.
                database.set_absence(&server, None).await?;
            }
        }
        let (absent, in_passing) = (RwLock::new(absent), Cache::new(IN_PASSING));
        let (up, _) = broadcast::channel(NEWS);
        let (writing, watched) = (Mutex::new(()), RwLock::default());
        Ok(Self(Arc::new(Parts {
            absent,
            in_passing,
            writing,
            up,
            watched,
            backoff,
            database,
            clock,
            random,
        })))
    }

    /// Whether nothing speaks against a server: it has answered last time, or was never asked.
    #[must_use]
    pub fn is_up(&self, server: &ServerName) -> bool {
        self.absence(server).is_none()
    }

    /// Whether a server may be tried now.
    ///
    /// # Errors
    /// Until when it is left alone.
    pub fn may_try(&self, server: &ServerName) -> Result<(), MilliSecondsSinceUnixEpoch> {
        match self.absence(server) {
            Some(absence) if absence.until > self.0.clock.now() => Err(absence.until),
            _ => Ok(()),
        }
    }

    /// What is known of a server that does not answer.
    #[must_use]
    pub fn absence(&self, server: &ServerName) -> Option<Absence> {
        let kept = self.kept(server);
        kept.or_else(|| self.0.in_passing.get(server))
    }

    fn kept(&self, server: &ServerName) -> Option<Absence> {
        self.0.absent.read().unwrap_or_else(PoisonError::into_inner).get(server).copied()
    }

    /// A server has done what it was asked, or has asked us something.
    pub async fn succeeded(&self, server: &ServerName) {
        if self.is_up(server) {
            if self.is_watched(server) {
                self.set_watched(server, false);
                // Fails when nobody listens.
                let _ = self.0.up.send(server.to_owned());
            }
            return;
        }
        self.answered(server).await;
    }

    /// A server has answered, if only to refuse: it is there. Who waits until it can do again what it was asked for does not
    /// hear of it: its own refusal would end the wait that it began.
    pub async fn answered(&self, server: &ServerName) {
        if self.is_up(server) {
            return;
        }
        let writing = self.0.writing.lock().await;
        let kept = self.0.absent.write().unwrap_or_else(PoisonError::into_inner).remove(server);
        let passing = self.0.in_passing.remove(server);
        if kept.or(passing).is_none() {
            return;
        }
        tracing::info!(%server, "server.up");
        if kept.is_some() {
            self.write(server, None).await;
        }
        drop(writing);
        // Fails when nobody listens.
        let _ = self.0.up.send(server.to_owned());
    }

    /// A server was tried and not reached. Attempts that were on their way together count once.
    pub async fn failed(&self, server: &ServerName) {
        let _writing = self.0.writing.lock().await;
        // What was remembered in passing is written down with the first failure of who wants something of it.
        let kept = self.kept(server).is_some();
        let Some(absence) = self.next_absence(server, kept) else { return };
        self.set(server, absence);
        self.0.in_passing.remove(server);
        self.write(server, Some(&absence)).await;
    }

    /// The same for a server that anybody may have named, of whom none has to be known: nothing is written down, and what is
    /// remembered has its bounds.
    pub(super) async fn failed_in_passing(&self, server: &ServerName) {
        if self.kept(server).is_some() {
            return self.failed(server).await;
        }
        if let Some(absence) = self.next_absence(server, true) {
            self.0.in_passing.insert(server.to_owned(), absence);
        }
    }

    /// What is to be remembered of a server that was not reached once more; nothing if it is, and was tried too soon.
    fn next_absence(&self, server: &ServerName, remembered: bool) -> Option<Absence> {
        let now = self.0.clock.now();
        let known = self.absence(server);
        if let Some(absence) = known.filter(|absence| absence.until > now) {
            return (!remembered).then_some(absence);
        }
        let failures = known.map_or(0, |absence| absence.failures).saturating_add(1);
        tracing::info!(%server, failures, "server.down");
        Some(Absence {
            failures,
            since: known.map_or(now, |absence| absence.since),
            until: later(now, self.spread(self.0.backoff.after(failures))),
        })
    }

    /// Counts a server that has answered, and yet could not do what it was asked for, among those that come back when they
    /// next show themselves.
    pub fn watch(&self, server: &ServerName) {
        self.set_watched(server, true);
    }

    fn is_watched(&self, server: &ServerName) -> bool {
        self.0.watched.read().unwrap_or_else(PoisonError::into_inner).contains(server)
    }

    fn set_watched(&self, server: &ServerName, is: bool) {
        let mut watched = self.0.watched.write().unwrap_or_else(PoisonError::into_inner);
        if is {
            watched.insert(server.to_owned());
        } else {
            watched.remove(server);
        }
    }

    /// Servers as they come back, from now on.
    #[must_use]
    pub fn on_up(&self) -> Returns {
        Returns(self.0.up.subscribe())
    }

    fn set(&self, server: &ServerName, absence: Absence) {
        let mut absent = self.0.absent.write().unwrap_or_else(PoisonError::into_inner);
        absent.insert(server.to_owned(), absence);
    }

    /// Up to a quarter longer, so that not everybody is tried at the same time.
    fn spread(&self, wait: Duration) -> Duration {
        let share = u32::from(u16::from_le_bytes(self.0.random.bytes()));
        wait.saturating_add((wait / 4).saturating_mul(share) / u32::from(u16::MAX))
    }

    async fn write(&self, server: &ServerName, absence: Option<&Absence>) {
        // What could not be written is found out again.
        if let Err(error) = self.0.database.set_absence(server, absence).await {
            tracing::warn!(%server, %error, "destination.write");
        }
    }
}

/// Servers as they come back.
#[derive(Debug)]
pub struct Returns(broadcast::Receiver<OwnedServerName>);

impl Returns {
    /// The next server that is back. `None` for whoever has fallen behind: some are back, and nobody knows which.
    pub async fn next(&mut self) -> Option<OwnedServerName> {
        match self.0.recv().await {
            Ok(server) => Some(server),
            Err(RecvError::Lagged(_)) => None,
            // Nobody is left who could say so.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
