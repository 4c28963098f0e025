//! Asking for keys: the server itself first, then those who keep the keys of others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use matryx_repository::ServerKey;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName,
    api::federation::discovery::{
        ServerSigningKeys, get_remote_server_keys_batch::v2 as batch, get_server_keys::v2 as direct,
    },
    serde::Raw,
};

use super::{
    Keys,
    known::{self, Known, Wanted},
};
use crate::federation::brief;

/// How long a server is waited for, when it is asked for its keys.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fetch that may be waited for by many.
pub(super) type Fetch = futures::future::Shared<BoxFuture<'static, Result<Arc<Known>, Arc<str>>>>;

impl Keys {
    /// Asks for a server's keys. Requests for the same server at the same time are one, as far as they want the same.
    ///
    /// # Errors
    /// A sentence: why they can't be had.
    pub(super) async fn fetch(
        &self,
        server: &ServerName,
        wanted: &Wanted,
        anyway: bool,
    ) -> Result<Arc<Known>, Arc<str>> {
        let (fetch, ours) = self.attach(server, wanted, anyway);
        let outcome = fetch.await;
        let lacking = outcome.as_ref().is_ok_and(|known| !known.satisfies(wanted));
        if ours || !lacking {
            return outcome;
        }
        // Others have asked for other keys, or before these were published.
        self.attach(server, wanted, anyway).0.await
    }

    /// The fetch that runs, or else a new one; and whether it is new.
    fn attach(&self, server: &ServerName, wanted: &Wanted, anyway: bool) -> (Fetch, bool) {
        let mut running = self.lock_running();
        if let Some(fetch) = running.get(server) {
            return (fetch.clone(), false);
        }
        let task = self.clone().fetch_once(server.to_owned(), wanted.clone(), anyway);
        // A task of its own: whoever waits for it may go away.
        let task = tokio::spawn(task)
            .map(|done| done.unwrap_or_else(|_| Err("the search for its keys was cut".into())));
        let fetch = task.boxed().shared();
        running.insert(server.to_owned(), fetch.clone());
        (fetch, true)
    }

    async fn fetch_once(
        self,
        server: OwnedServerName,
        wanted: Wanted,
        anyway: bool,
    ) -> Result<Arc<Known>, Arc<str>> {
        let outcome = self.ask_everyone(&server, &wanted, anyway).await;
        let error = outcome.as_ref().err().cloned();
        self.remember_attempt(&server, error);
        self.lock_running().remove(&server);
        outcome
    }

    async fn ask_everyone(
        &self,
        server: &ServerName,
        wanted: &Wanted,
        anyway: bool,
    ) -> Result<Arc<Known>, Arc<str>> {
        let mut known = self.known(server).await;
        let told = self.ask_itself(server, anyway).await;
        if let Ok(keys) = &told {
            known = self.keep(server, keys).await;
            if known.satisfies(wanted) {
                return Ok(known);
            }
        }
        for notary in self.notaries().iter().filter(|notary| *notary != server) {
            match self.ask_notary(notary, server, wanted).await {
                Ok(keys) => known = self.keep(server, &keys).await,
                Err(why) => tracing::debug!(%server, %notary, %why, "keys.notary"),
            }
            if known.satisfies(wanted) {
                return Ok(known);
            }
        }
        told.map(|_| known).map_err(Into::into)
    }

    async fn ask_itself(
        &self,
        server: &ServerName,
        anyway: bool,
    ) -> Result<Vec<ServerKey>, String> {
        // Anybody can name a server, by a request or an event.
        let client = self.client().in_passing();
        let client = if anyway { client.anyway() } else { client };
        let answer = client.ask(server, direct::Request::new(), PATIENCE).await;
        let answer = answer.map_err(|error| error.to_string())?;
        known::learn(server, answer.server_key.json().get(), self.now())
            .map_err(|why| brief(&format!("{server} is not believed: {why}")))
    }

    /// Asks someone else for a server's keys; both must have signed the answer.
    async fn ask_notary(
        &self,
        notary: &ServerName,
        server: &ServerName,
        wanted: &Wanted,
    ) -> Result<Vec<ServerKey>, String> {
        let criteria = |at: &Option<MilliSecondsSinceUnixEpoch>| {
            let mut criteria = batch::QueryCriteria::new();
            criteria.minimum_valid_until_ts = *at;
            criteria
        };
        let keys =
            wanted.iter().filter_map(|(id, at)| Some((id.as_str().try_into().ok()?, criteria(at))));
        let query = BTreeMap::from([(server.to_owned(), keys.collect())]);
        let answer = self.client().ask(notary, batch::Request::new(query), PATIENCE).await;
        let answer = answer.map_err(|error| error.to_string())?;

        let mut known = self.known(notary).await;
        if !known.is_valid_at(self.now()) {
            let keys = self.ask_itself(notary, false).await?;
            known = self.keep(notary, &keys).await;
        }
        let believed = |document: &Raw<ServerSigningKeys>| {
            let json = document.json().get();
            let now = self.now();
            known::verify(notary, known.public(Some(now)), json)
                .map_err(|error| format!("the answer of {notary} is not signed by it: {error}"))?;
            known::learn(server, json, now)
        };
        let mut learned = Vec::new();
        let mut refused = None;
        for document in &answer.server_keys {
            match believed(document) {
                Ok(keys) => learned.extend(keys),
                Err(why) => refused = Some(why),
            }
        }
        match refused {
            Some(why) if learned.is_empty() => Err(why),
            _ => Ok(learned),
        }
    }
}
