//! One server's transactions, one at a time.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use matryx_repository::StoreError;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName,
    api::federation::transactions::send_transaction_message::v1 as send_transaction,
};
use serde_json::{Value, value::RawValue};

use super::{
    Outbox,
    queue::{Batch, Parcel},
    settled,
};
use crate::{clock::later, federation::PeerError};

/// How long a server may take to answer. It has a transaction of up to 50 events to work through.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the answer's body may take after its head, and how large it may be.
const BODY: (Duration, usize) = (Duration::from_secs(10), 1 << 20);

/// Why a transaction was not acknowledged.
enum Failure {
    Peer(PeerError),
    Store(StoreError),
}

impl Outbox {
    /// Works until nothing waits for the server, or ours stops.
    pub(super) async fn send_to(self, server: OwnedServerName) {
        let Some(ground) = self.0.ground.get() else { return };
        let mut failures = 0_u32;
        loop {
            let Some(batch) = self.take(&server) else { return };
            let attempt = tokio::select! {
                biased;
                () = ground.shutdown.cancelled() => return,
                attempt = self.attempt(&server, &batch) => attempt,
            };
            match attempt {
                Ok(()) => {
                    failures = 0;
                    self.acknowledged(&server, &batch.parcels);
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    let until = self.until(&server, &failure, failures);
                    let earliest = self.earliest(&failure).min(until);
                    let wake = self.put_back(&server, batch, &failure);
                    let rest = async {
                        self.0.clock.sleep_until(earliest).await;
                        tokio::select! {
                            () = self.0.clock.sleep_until(until) => {}
                            () = wake.notified() => {}
                        }
                    };
                    tokio::select! {
                        biased;
                        () = ground.shutdown.cancelled() => return,
                        () = rest => {}
                    }
                }
            }
        }
    }

    /// The next transaction. Where nothing waits, the server is forgotten until something does.
    fn take(&self, server: &ServerName) -> Option<Batch> {
        let mut slots = self.slots();
        let batch = slots.get_mut(server)?.queue.take(|| self.nonce());
        if batch.is_none() {
            slots.remove(server);
        }
        batch
    }

    /// Sends a transaction. The answer's status says whether it has arrived; what it says of single events is noted.
    async fn attempt(&self, server: &ServerName, batch: &Batch) -> Result<(), Failure> {
        let pdus = self.pdus(&batch.parcels).await.map_err(Failure::Store)?;
        let now = self.0.clock.now();
        let mut request = send_transaction::Request::new(batch.id.clone(), self.0.us.clone(), now);
        request.pdus = pdus;
        request.edus.clone_from(&batch.edus);
        let response = self.0.client.ask_streamed(server, request, PATIENCE).await;
        let body = response.map_err(Failure::Peer)?.into_body();
        self.0.clock.within(BODY.0, note(server, body)).await;
        Ok(())
    }

    /// The events as they are stored now: what has been redacted in the meantime goes out redacted.
    async fn pdus(&self, parcels: &[Arc<Parcel>]) -> Result<Vec<Box<RawValue>>, StoreError> {
        let Some(ground) = self.0.ground.get() else { return Ok(Vec::new()) };
        let found = ground.events.get_all(parcels.iter().map(|parcel| &*parcel.event_id)).await?;
        let mut pdus = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let json = found.get(&parcel.event_id).map(|event| event.pdu.json().to_owned());
            if let Some(Ok(pdu)) = json.map(RawValue::from_string) {
                pdus.push(pdu);
            } else {
                tracing::error!(event = %parcel.event_id, "outbox.event_not_kept");
            }
        }
        Ok(pdus)
    }

    fn acknowledged(&self, server: &OwnedServerName, parcels: &[Arc<Parcel>]) {
        if let Some(slot) = self.slots().get_mut(server) {
            slot.queue.succeeded();
        }
        let done = settled(parcels);
        // Where nobody else is owed any of it, the rows go, and the cursor says nothing more.
        if let Some(last) = parcels.last()
            && done.len() < parcels.len()
        {
            self.0.ledger.reached(server.clone(), last.place);
        }
        self.0.ledger.done(done);
    }

    fn put_back(
        &self,
        server: &ServerName,
        batch: Batch,
        failure: &Failure,
    ) -> Arc<tokio::sync::Notify> {
        let mut slots = self.slots();
        let slot = slots.entry(server.to_owned()).or_default();
        let gone = if failure.is_refusal() {
            let gone = slot.queue.refused(batch);
            for parcel in &gone {
                tracing::warn!(%server, event = %parcel.event_id, "outbox.event_not_taken");
            }
            gone
        } else {
            slot.queue.failed(batch)
        };
        let wake = Arc::clone(&slot.wake);
        drop(slots);
        self.0.ledger.done(settled(&gone));
        wake
    }

    /// When the server is tried again.
    fn until(
        &self,
        server: &ServerName,
        failure: &Failure,
        failures: u32,
    ) -> MilliSecondsSinceUnixEpoch {
        match failure {
            Failure::Peer(PeerError::BackingOff { until, .. }) => return *until,
            Failure::Peer(error) => tracing::info!(%server, %error, "outbox.failed"),
            Failure::Store(error) => tracing::error!(%error, "outbox.read"),
        }
        if let Err(until) = self.0.destinations.may_try(server) {
            return until;
        }
        // It is there: once it shows itself again, it may be able to.
        self.0.destinations.watch(server);
        let now = self.0.clock.now();
        later(now, self.0.backoff.after(failures)).max(self.earliest(failure))
    }

    /// Before when a server is left alone, even if it shows itself: one that answers says how long it wants that, or is given
    /// a moment. One that did not answer is tried as soon as it is back.
    fn earliest(&self, failure: &Failure) -> MilliSecondsSinceUnixEpoch {
        let now = self.0.clock.now();
        let Failure::Peer(PeerError::Refused { retry_after, .. }) = failure else { return now };
        let wait = retry_after.unwrap_or_default().max(self.0.backoff.first);
        later(now, wait.min(self.0.backoff.longest))
    }
}

impl Failure {
    /// Whether the server has read the transaction and does not want it as it is.
    fn is_refusal(&self) -> bool {
        let Self::Peer(error) = self else { return false };
        matches!(error.status(), Some(StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE))
            && error.errcode().is_some()
    }
}

/// Notes which events a server has not taken. They are not sent again: it has seen them, and has its reasons.
async fn note(server: &ServerName, body: Body) {
    let Ok(body) = Limited::new(body, BODY.1).collect().await else { return };
    let answer: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    let Some(pdus) = answer.get("pdus").and_then(Value::as_object) else { return };
    for (event, outcome) in pdus {
        if let Some(error) = outcome.get("error").and_then(Value::as_str) {
            tracing::info!(%server, %event, %error, "outbox.event_refused");
        }
    }
}
