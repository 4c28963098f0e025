//! What this server tells of the keys of others. Anybody may ask, and nobody is to make this server ask the whole world: what
//! is known is always told, and who is asked for more is bounded for each request and for all of them together.
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use tokio::time::timeout;

use super::{Keys, Wanted, known::Known};

/// How many servers are asked at the same time for all requests together.
pub(super) const AT_ONCE: usize = 32;

/// How many servers are asked for one request. What is told of all others is what is known.
const ASKED: usize = 100;

/// How long a request waits. Whoever answers later is known when it is made again.
const PATIENCE: Duration = Duration::from_secs(20);

impl Keys {
    /// The documents that publish the keys of these servers, signed by us as well: what a notary answers. Where nothing that
    /// is known is valid at the time that is wanted, the server is asked; what it has published before is told where it does
    /// not answer.
    pub async fn documents(
        &self,
        wanted: BTreeMap<OwnedServerName, MilliSecondsSinceUnixEpoch>,
    ) -> Vec<CanonicalJsonObject> {
        let mut left = ASKED;
        let mut found = Vec::new();
        let mut asked = Vec::new();
        for (server, at) in wanted {
            if server == self.0.us {
                found.extend(self.own_document());
                continue;
            }
            let known = self.known(&server).await;
            if known.is_valid_at(at) || left == 0 || self.may_ask(&server).is_err() {
                found.extend(self.countersigned(&known));
            } else {
                left -= 1;
                asked.push(server);
            }
        }
        let answers = stream::iter(asked)
            .map(|server| async move {
                // Whoever comes in time is told, and the others as they are known.
                drop(timeout(PATIENCE, self.ask_for_others(&server)).await);
                self.known(&server).await
            })
            .buffer_unordered(ASKED);
        let answers: Vec<_> = answers.collect().await;
        found.extend(answers.iter().flat_map(|known| self.countersigned(known)));
        found
    }

    async fn ask_for_others(&self, server: &ServerName) {
        // Nobody closes the semaphore.
        let Ok(_place) = self.0.for_others.acquire().await else { return };
        // Another request may have asked meanwhile.
        if self.may_ask(server).is_ok() {
            // What came of it is known then, whatever it is.
            drop(self.fetch(server, &Wanted::new(), true).await);
        }
    }

    fn countersigned(&self, known: &Known) -> Vec<CanonicalJsonObject> {
        let read = |json: &str| {
            let mut document: CanonicalJsonObject = serde_json::from_str(json).ok()?;
            self.0.own.countersign(&self.0.us, &mut document).ok()?;
            Some(document)
        };
        known.documents().into_iter().filter_map(read).collect()
    }
}
