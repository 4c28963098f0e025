//! Which servers are there: one place that knows, for everyone who sends something.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use matryx_repository::{Absence, Database, StoreError};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName, UInt};
use tokio::sync::{Mutex, broadcast};

use crate::{clock::Clock, random::Random};

/// How many servers may come back before somebody who is told has missed one.
const NEWS: usize = 1024;

/// How long a server that was not reached is left alone.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure; doubled after each that follows.
    pub first: Duration,
    /// At the most.
    pub longest: Duration,
}

impl Backoff {
    /// Seconds at first, hours in the end.
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
    /// Held while a change is written: what is written last is what is known last.
    writing: Mutex<()>,
    up: broadcast::Sender<OwnedServerName>,
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
        let absent = RwLock::new(database.absences().await?.into_iter().collect());
        let (up, _) = broadcast::channel(NEWS);
        let writing = Mutex::new(());
        Ok(Self(Arc::new(Parts { absent, writing, up, backoff, database, clock, random })))
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
        self.0.absent.read().unwrap_or_else(PoisonError::into_inner).get(server).copied()
    }

    /// A server has answered, or has asked us something.
    pub async fn succeeded(&self, server: &ServerName) {
        if self.is_up(server) {
            return;
        }
        let writing = self.0.writing.lock().await;
        let was = self.0.absent.write().unwrap_or_else(PoisonError::into_inner).remove(server);
        if was.is_none() {
            return;
        }
        tracing::info!(%server, "server.up");
        self.write(server, None).await;
        drop(writing);
        // Fails when nobody listens.
        let _ = self.0.up.send(server.to_owned());
    }

    /// A server was tried and not reached. Attempts that were on their way together count once.
    pub async fn failed(&self, server: &ServerName) {
        let now = self.0.clock.now();
        let _writing = self.0.writing.lock().await;
        let known = self.absence(server);
        if known.is_some_and(|absence| absence.until > now) {
            return;
        }
        let failures = known.map_or(0, |absence| absence.failures).saturating_add(1);
        let wait = self.spread(self.0.backoff.after(failures));
        let absence = Absence {
            failures,
            since: known.map_or(now, |absence| absence.since),
            until: MilliSecondsSinceUnixEpoch(now.0.saturating_add(wait)),
        };
        tracing::info!(%server, failures, "server.down");
        self.set(server, absence);
        self.write(server, Some(&absence)).await;
    }

    /// Servers as they come back. Who falls behind is told that something was missed, and looks at what waits.
    #[must_use]
    pub fn on_up(&self) -> broadcast::Receiver<OwnedServerName> {
        self.0.up.subscribe()
    }

    fn set(&self, server: &ServerName, absence: Absence) {
        let mut absent = self.0.absent.write().unwrap_or_else(PoisonError::into_inner);
        absent.insert(server.to_owned(), absence);
    }

    /// Up to a quarter longer, so that not everybody is tried at the same time.
    fn spread(&self, wait: Duration) -> UInt {
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let share = u64::from(u16::from_le_bytes(self.0.random.bytes()));
        let extra = (milliseconds / 4).saturating_mul(share) / u64::from(u16::MAX);
        UInt::new_saturating(milliseconds.saturating_add(extra))
    }

    async fn write(&self, server: &ServerName, absence: Option<&Absence>) {
        // What could not be written is found out again.
        if let Err(error) = self.0.database.set_absence(server, absence).await {
            tracing::warn!(%server, %error, "destination.write");
        }
    }
}
