//! Events of other servers: from what was sent to what can be judged.

use std::sync::Arc;

use matryx_core::event::{self, OpenError, Pdu};
use ruma::{CanonicalJsonObject, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;

use super::{
    Federation,
    keys::{Found, Needs},
};

impl Federation {
    /// Checks an event's form, size, signatures and hash; keys that are not known are fetched.
    ///
    /// # Errors
    /// The first of these checks that fails.
    pub async fn open(
        &self,
        event: CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<Pdu, OpenError> {
        let mut needs = Needs::default();
        needs.add_event(&event, rules);
        let found = self.keys().map_for(needs).await;
        verify(event, &found, rules)
    }

    /// [`Self::open`] for many events, in their order. Keys are fetched once, and all cores verify.
    pub async fn open_all(
        &self,
        events: Vec<Box<RawValue>>,
        rules: &RoomVersionRules,
    ) -> Vec<Result<Pdu, OpenError>> {
        let room_rules = rules.clone();
        let parsed = spread(events, move |part: Vec<Box<RawValue>>| {
            let mut needs = Needs::default();
            let read = |event: Box<RawValue>| {
                let event = parse(&event)?;
                needs.add_event(&event, &room_rules);
                Ok(event)
            };
            (part.into_iter().map(read).collect::<Vec<_>>(), needs)
        })
        .await;
        let mut needs = Needs::default();
        for (_, of_part) in &parsed {
            needs.add_all(of_part);
        }
        let found = Arc::new(self.keys().map_for(needs).await);
        let rules = rules.clone();
        let events = parsed.into_iter().flat_map(|(events, _)| events).collect();
        let verified = spread(events, move |part: Vec<Result<_, OpenError>>| {
            part.into_iter().map(|event| verify(event?, &found, &rules)).collect::<Vec<_>>()
        });
        verified.await.into_iter().flatten().collect()
    }
}

/// Reads an event's text.
///
/// # Errors
/// When it is no object of canonical JSON.
pub fn parse(event: &RawValue) -> Result<CanonicalJsonObject, OpenError> {
    serde_json::from_str(event.get()).map_err(|error| {
        OpenError::Format(format!("the event is no object of canonical JSON: {error}"))
    })
}

fn verify(
    event: CanonicalJsonObject,
    found: &Found,
    rules: &RoomVersionRules,
) -> Result<Pdu, OpenError> {
    let keys = found.for_event(&event, rules);
    let missing = found.why_missing(&event, rules).map(str::to_owned);
    event::open(event, &keys, rules).map_err(|error| match (error, missing) {
        (OpenError::Signature(why), Some(missing)) => OpenError::Key(format!("{why} ({missing})")),
        (error, _) => error,
    })
}

/// Does something with a part of the items on each core, on the blocking pool; the parts keep their order.
async fn spread<T, U>(items: Vec<T>, work: impl Fn(Vec<T>) -> U + Clone + Send + 'static) -> Vec<U>
where
    T: Send + 'static,
    U: Send + 'static,
{
    if items.len() <= 1 {
        return vec![work(items)];
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let size = items.len().div_ceil(cores);
    let mut items = items.into_iter();
    let mut tasks = Vec::new();
    loop {
        let part: Vec<T> = items.by_ref().take(size).collect();
        if part.is_empty() {
            break;
        }
        let work = work.clone();
        tasks.push(tokio::task::spawn_blocking(move || work(part)));
    }
    let mut done = Vec::new();
    for task in tasks {
        match task.await {
            Ok(part) => done.push(part),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    done
}
