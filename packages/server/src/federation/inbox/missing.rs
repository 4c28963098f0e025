//! What is missing before an event: asked for with `get_missing_events`, and where that does not reach what we hold, the state
//! behind the gap.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use matryx_core::event::Pdu;
use matryx_repository::Before;
use ruma::{
    OwnedEventId, UInt, api::federation::event::get_missing_events::v1::Request as GetMissingEvents,
};

use super::{fetch::Search, order::leading_to};
use crate::room::{Door, Given, Received, SendError};

/// How many events are asked for at once.
const MOST: usize = 20;

/// How often more is asked for, as long as a server gives all that is asked for.
const ROUNDS: usize = 5;

/// How many extremities are named.
const ENDS: usize = 20;

/// How long a server may take over its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Fetches what is missing before an event, and lets it in if that succeeds. Otherwise nothing of the event is kept: it can come
/// again, or be fetched by what follows it.
pub(super) async fn complete(search: &Search<'_>, pdu: Arc<Pdu>) -> Result<(), SendError> {
    let Received::Missing(missing) = receive(search, &pdu).await? else { return Ok(()) };
    // One fetches, those who miss the same wait and look again.
    let mut turns = Vec::with_capacity(missing.len());
    for id in missing {
        turns.push(search.app.federation.inbox().0.fetches.take(id).await);
    }
    let Received::Missing(missing) = receive(search, &pdu).await? else { return Ok(()) };
    let (prev, auth): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|id| pdu.prev_events().contains(id));
    if !prev.is_empty() {
        for event in pull(search, &pdu).await? {
            take(search, &event).await?;
        }
    }
    search.learn(auth).await?;
    if let Received::Missing(missing) = receive(search, &pdu).await? {
        tracing::info!(event = %pdu.event_id(), room = %search.room.id, ?missing, "inbox.missing");
    }
    Ok(())
}

async fn receive(search: &Search<'_>, pdu: &Pdu) -> Result<Received, SendError> {
    search.app.rooms.receive(pdu.clone(), Door::Transaction).await
}

/// Lets in an event that we have asked for. What it follows and is not to be had is made up for by the state there.
async fn take(search: &Search<'_>, pdu: &Pdu) -> Result<(), SendError> {
    let Received::Missing(missing) = receive(search, pdu).await? else { return Ok(()) };
    let (prev, auth): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|id| pdu.prev_events().contains(id));
    search.learn(auth).await?;
    let mut given = Given::default();
    for id in prev {
        let Some(state) = search.state_after(&id).await? else { return Ok(()) };
        given.after.insert(id, state);
    }
    let received = search.app.rooms.receive_at(pdu.clone(), given).await?;
    tracing::debug!(event = %pdu.event_id(), ?received, "inbox.behind_a_gap");
    Ok(())
}

/// What leads to an event, as far as the servers give it, each event after those that it follows.
async fn pull(search: &Search<'_>, pdu: &Pdu) -> Result<Vec<Arc<Pdu>>, SendError> {
    let mut got: BTreeMap<OwnedEventId, Arc<Pdu>> = BTreeMap::new();
    for server in &search.servers {
        let mut latest = vec![pdu.event_id().clone()];
        for _ in 0..ROUNDS {
            let look = search.room.look();
            let mut request =
                GetMissingEvents::new(search.room.id.clone(), look.prev_events().0, latest);
            request.limit = UInt::try_from(MOST).unwrap_or_default();
            let answer = search.app.federation.client().ask(server, request, PATIENCE).await;
            let mut texts = match answer {
                Ok(answer) => answer.events,
                Err(error) => {
                    tracing::debug!(%error, event = %pdu.event_id(), "inbox.missing_not_given");
                    break;
                }
            };
            let full = texts.len() >= MOST;
            texts.truncate(MOST);
            let before = got.len();
            let new = search.open(texts).await.into_iter();
            got.extend(new.map(|pdu| (pdu.event_id().clone(), Arc::new(pdu))));
            let open = open_ends(search, pdu, &got).await?;
            if open.is_empty() || got.len() == before || !full {
                break;
            }
            latest = open.into_iter().take(ENDS).collect();
        }
        if !got.is_empty() {
            break;
        }
    }
    Ok(leading_to(pdu.prev_events().iter().cloned(), got.into_values().collect()))
}

/// Those of the events that have been got which follow something that is neither held nor got.
async fn open_ends(
    search: &Search<'_>,
    pdu: &Pdu,
    got: &BTreeMap<OwnedEventId, Arc<Pdu>>,
) -> Result<BTreeSet<OwnedEventId>, SendError> {
    let leading = leading_to(pdu.prev_events().iter().cloned(), got.values().cloned().collect());
    let named: HashSet<&OwnedEventId> = leading
        .iter()
        .flat_map(|pdu| pdu.prev_events())
        .filter(|id| !got.contains_key(*id))
        .collect();
    let held = search.app.rooms.events().get_all(named.iter().map(|id| &***id)).await?;
    let has = |id: &OwnedEventId| {
        got.contains_key(id) || held.get(id).is_some_and(|event| event.before != Before::Unknown)
    };
    let open = leading.iter().filter(|pdu| !pdu.prev_events().iter().all(has));
    Ok(open.map(|pdu| pdu.event_id().clone()).collect())
}
