//! The keys of servers: which there are, until when they are believed, and who is asked for them.

mod canonical;
mod fetch;
mod known;
mod notary;
mod own;
mod request;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use known::{Known, Wanted};
use matryx_repository::{Database, ServerKey};
use moka::sync::Cache;
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName, UInt,
    canonical_json::redact,
    room_version_rules::RoomVersionRules,
    signatures::{JsonError, PublicKeyMap, required_server_signatures_to_verify_event},
};
use tokio::sync::Semaphore;

pub use self::{
    own::{OldKey, OwnKeys, OwnKeysError},
    request::RequestError,
};
use super::Client;
use crate::clock::{Clock, later};

/// The keys of how many servers are kept in memory.
const IN_MEMORY: u64 = 20_000;
/// How many servers are asked at the same time for one purpose.
const AT_ONCE: usize = 64;

/// How soon a server is asked for its keys again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When it could not be asked.
    pub failed: Duration,
    /// When it answered, and its answer did not have what was wanted.
    pub answered: Duration,
}

impl Pace {
    /// Nobody who names keys that do not exist can make us a burden for their server.
    pub const USUAL: Self =
        Self { failed: Duration::from_mins(1), answered: Duration::from_secs(10) };
    /// For tests.
    pub const SHORT: Self =
        Self { failed: Duration::from_millis(50), answered: Duration::from_millis(10) };
}

/// The keys of servers, ours among them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    us: OwnedServerName,
    own: Arc<OwnKeys>,
    notaries: Vec<OwnedServerName>,
    pace: Pace,
    client: Client,
    database: Database,
    clock: Clock,
    known: Cache<OwnedServerName, Arc<Known>>,
    /// When a server was last asked, and why that failed.
    attempts: Cache<OwnedServerName, (MilliSecondsSinceUnixEpoch, Option<Arc<str>>)>,
    running: Mutex<HashMap<OwnedServerName, fetch::Fetch>>,
    /// For who reads the large body of a request.
    large: Semaphore,
    /// Places for those who ask for the sake of others.
    for_others: Semaphore,
}

/// Which keys are needed, and at which times they must be valid.
#[derive(Clone, Debug, Default)]
pub struct Needs(BTreeMap<OwnedServerName, Wanted>);

impl Needs {
    /// A key of a server, valid at a time; at any without one.
    pub fn add(&mut self, server: &ServerName, key: &str, at: Option<MilliSecondsSinceUnixEpoch>) {
        let latest =
            self.0.entry(server.to_owned()).or_default().entry(key.to_owned()).or_default();
        *latest = (*latest).max(at);
    }

    /// What others need too.
    pub(crate) fn add_all(&mut self, others: &Self) {
        for (server, wanted) in &others.0 {
            for (key, at) in wanted {
                self.add(server, key, *at);
            }
        }
    }

    /// What an event needs: the keys with which those have signed it who must have. Nothing of what is no event.
    pub fn add_event(&mut self, event: &CanonicalJsonObject, rules: &RoomVersionRules) {
        let at = time_of(event, rules);
        for server in signers(event, rules) {
            for key in known::signing_keys(event, &server) {
                self.add(&server, key, at);
            }
        }
    }

    /// What all signatures of a server need.
    fn add_signatures(
        &mut self,
        object: &CanonicalJsonObject,
        server: &ServerName,
        at: Option<MilliSecondsSinceUnixEpoch>,
    ) {
        known::signing_keys(object, server).for_each(|key| self.add(server, key, at));
    }
}

/// The keys that were needed, as far as they could be had.
#[derive(Clone, Debug)]
pub struct Found {
    us: OwnedServerName,
    own: Arc<OwnKeys>,
    known: BTreeMap<OwnedServerName, Arc<Known>>,
    missing: BTreeMap<OwnedServerName, Arc<str>>,
}

impl Found {
    /// The keys that verify an event.
    #[must_use]
    pub fn for_event(&self, event: &CanonicalJsonObject, rules: &RoomVersionRules) -> PublicKeyMap {
        let at = time_of(event, rules);
        signers(event, rules)
            .into_iter()
            .map(|server| (server.to_string(), self.public(&server, at)))
            .collect()
    }

    /// Why keys that an event needs are not there: a sentence, where something went wrong.
    #[must_use]
    pub fn why_missing(
        &self,
        event: &CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Option<&str> {
        signers(event, rules).iter().find_map(|server| self.missing.get(server)).map(|why| &**why)
    }

    fn public(
        &self,
        server: &ServerName,
        at: Option<MilliSecondsSinceUnixEpoch>,
    ) -> ruma::signatures::PublicKeySet {
        if server == self.us {
            return self.own.public(at);
        }
        self.known.get(server).map(|known| known.public(at)).unwrap_or_default()
    }
}

impl Keys {
    pub(super) fn new(
        us: OwnedServerName,
        own: Arc<OwnKeys>,
        notaries: Vec<OwnedServerName>,
        pace: Pace,
        client: Client,
        database: Database,
        clock: Clock,
    ) -> Self {
        let known = Cache::new(IN_MEMORY);
        let attempts = Cache::new(IN_MEMORY);
        let running = Mutex::default();
        Self(Arc::new(Parts {
            us,
            own,
            notaries,
            pace,
            client,
            database,
            clock,
            known,
            attempts,
            running,
            large: Semaphore::new(request::LARGE_AT_ONCE),
            for_others: Semaphore::new(notary::AT_ONCE),
        }))
    }

    /// Our own keys.
    #[must_use]
    pub fn own(&self) -> &OwnKeys {
        &self.0.own
    }

    /// Finds keys: remembered ones where they do, and else by asking, all servers at the same time.
    pub async fn map_for(&self, needs: Needs) -> Found {
        let others = needs.0.into_iter().filter(|(server, _)| *server != self.0.us);
        let asked = stream::iter(others)
            .map(|(server, wanted)| async move {
                let known = self.find(&server, &wanted, false).await;
                (server, known)
            })
            .buffer_unordered(AT_ONCE);
        let found = Found {
            us: self.0.us.clone(),
            own: Arc::clone(&self.0.own),
            known: BTreeMap::new(),
            missing: BTreeMap::new(),
        };
        asked
            .fold(found, async |mut found, (server, (known, missing))| {
                if let Some(why) = missing {
                    found.missing.insert(server.clone(), why);
                }
                found.known.insert(server, known);
                found
            })
            .await
    }

    /// Checks that a server has signed an object with a key that is valid now.
    ///
    /// # Errors
    /// A sentence: what is wrong with the signature, or why the key can't be had.
    pub async fn verify_json(
        &self,
        server: &ServerName,
        object: &CanonicalJsonObject,
    ) -> Result<(), String> {
        let now = Some(self.now());
        self.verify_at(server, object, object.clone(), now).await
    }

    /// Checks that a server has signed an event, whether or not it is the sender's.
    ///
    /// # Errors
    /// A sentence: what is wrong with the signature, or why the key can't be had.
    pub async fn verify_event_by(
        &self,
        server: &ServerName,
        event: &CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<(), String> {
        let redacted = redact(event.clone(), &rules.redaction, None)
            .map_err(|error| format!("it can't be redacted: {error}"))?;
        self.verify_at(server, event, redacted, time_of(event, rules)).await
    }

    async fn verify_at(
        &self,
        server: &ServerName,
        signed: &CanonicalJsonObject,
        object: CanonicalJsonObject,
        at: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<(), String> {
        let mut needs = Needs::default();
        needs.add_signatures(signed, server, at);
        let found = self.map_for(needs).await;
        known::verify_object(server, found.public(server, at), object).map_err(|error| {
            let missing = found.missing.get(server);
            let missing = missing.map(|why| format!(" ({why})")).unwrap_or_default();
            format!("the signature of {server} can't be verified: {error}{missing}")
        })
    }

    /// The document that publishes our keys.
    ///
    /// # Errors
    /// Never, with keys that could be read.
    pub fn own_document(&self) -> Result<CanonicalJsonObject, JsonError> {
        self.0.own.document(&self.0.us, self.now())
    }

    /// What is known of a server's keys, after asking for what is wanted and not there; also why that failed.
    async fn find(
        &self,
        server: &ServerName,
        wanted: &Wanted,
        anyway: bool,
    ) -> (Arc<Known>, Option<Arc<str>>) {
        let known = self.known(server).await;
        if known.satisfies(wanted) {
            if known.is_stale(self.now()) && self.may_ask(server).is_ok() {
                let (keys, server) = (self.clone(), server.to_owned());
                tokio::spawn(async move { keys.fetch(&server, &Wanted::new(), false).await });
            }
            return (known, None);
        }
        if let Err(why) = self.may_ask(server) {
            return (known, why);
        }
        match self.fetch(server, wanted, anyway).await {
            Ok(known) => (known, None),
            Err(why) => (known, Some(why)),
        }
    }

    /// Whether a server may be asked for its keys now; if not, why it is not asked again.
    fn may_ask(&self, server: &ServerName) -> Result<(), Option<Arc<str>>> {
        let Some((when, error)) = self.0.attempts.get(server) else { return Ok(()) };
        let pause = if error.is_some() { self.0.pace.failed } else { self.0.pace.answered };
        if later(when, pause) <= self.now() { Ok(()) } else { Err(error) }
    }

    /// What is known of a server's keys without asking anyone.
    async fn known(&self, server: &ServerName) -> Arc<Known> {
        if let Some(known) = self.0.known.get(server) {
            return known;
        }
        let kept = match self.0.database.server_keys(server).await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%server, %error, "server_key.read");
                return Arc::default();
            }
        };
        self.0.known.get_with(server.to_owned(), || Arc::new(Known::new(kept)))
    }

    /// Keeps what was learned.
    async fn keep(&self, server: &ServerName, learned: &[ServerKey]) -> Arc<Known> {
        let known = Arc::new(self.known(server).await.with(learned, self.now()));
        // What can't be written is fetched again after the next start.
        if let Err(error) = self.0.database.keep_server_keys(server, &known.of(learned)).await {
            tracing::error!(%server, %error, "server_key.write");
        }
        self.0.known.insert(server.to_owned(), Arc::clone(&known));
        known
    }

    fn remember_attempt(&self, server: &ServerName, error: Option<Arc<str>>) {
        self.0.attempts.insert(server.to_owned(), (self.now(), error));
    }

    fn lock_running(&self) -> MutexGuard<'_, HashMap<OwnedServerName, fetch::Fetch>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> &Client {
        &self.0.client
    }

    fn notaries(&self) -> &[OwnedServerName] {
        &self.0.notaries
    }

    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        self.0.clock.now()
    }
}

/// Who must have signed an event; nobody, where it is none.
fn signers(
    event: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> std::collections::BTreeSet<OwnedServerName> {
    required_server_signatures_to_verify_event(event, &rules.signatures).unwrap_or_default()
}

/// When an event's keys must have been valid: at its time, where the room version cares.
fn time_of(
    event: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Option<MilliSecondsSinceUnixEpoch> {
    if !rules.enforce_key_validity {
        return None;
    }
    let time = i64::from(event.get("origin_server_ts")?.as_integer()?);
    let time = u64::try_from(time).unwrap_or_default();
    Some(MilliSecondsSinceUnixEpoch(UInt::new_saturating(time)))
}
