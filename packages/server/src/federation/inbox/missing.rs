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
    EventId, OwnedEventId, ServerName, UInt,
    api::federation::event::get_missing_events::v1::Request as GetMissingEvents,
};
use serde_json::value::RawValue;

use super::{fetch::Search, order::leading_to};
use crate::{
    federation::PeerError,
    room::{Door, Given, Received, SendError},
};

/// How many events are asked for at once.
const MOST: usize = 20;

/// How often more is asked for, as long as a server gives all that is asked for.
const ROUNDS: usize = 5;

/// How many extremities are named.
const ENDS: usize = 20;

/// How long a server may take over its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long somebody who misses what another is fetching already waits for that.
const TURN: Duration = Duration::from_secs(30);

/// How long one attempt may take over what is missing before one event.
const ATTEMPT: Duration = Duration::from_mins(3);

/// Fetches what is missing before an event, and lets it in if that succeeds.
pub(super) async fn complete(search: &Search<'_>, pdu: Arc<Pdu>) -> Result<Received, SendError> {
    let received = receive(search, &pdu).await?;
    let Received::Missing(missing) = received else { return Ok(received) };
    // One fetches, those who miss the same wait and look again; but nobody for ever: who fetches chooses whom to ask.
    let turns = async {
        let mut turns = Vec::with_capacity(missing.len());
        for id in missing {
            turns.push(search.app.federation.inbox().0.fetches.take(id).await);
        }
        turns
    };
    let _turns = search.app.clock.within(TURN, turns).await;
    let received = receive(search, &pdu).await?;
    let Received::Missing(missing) = received else { return Ok(received) };
    let bring = Box::pin(bring(search, &pdu, missing));
    if let Some(brought) = search.app.clock.within(ATTEMPT, bring).await {
        brought?;
    } else {
        tracing::info!(event = %pdu.event_id(), "inbox.missing_took_too_long");
    }
    receive(search, &pdu).await
}

/// Brings what is missing before an event, as far as somebody gives it.
async fn bring(
    search: &Search<'_>,
    pdu: &Arc<Pdu>,
    missing: Vec<OwnedEventId>,
) -> Result<(), SendError> {
    if missing.iter().any(|id| pdu.prev_events().contains(id)) {
        let Some(events) = pull(search, pdu).await? else { return Ok(()) };
        for event in events {
            take(search, &event).await?;
        }
    }
    // Where nothing leads to it, it stands behind a gap itself.
    take(search, pdu).await
}

pub(super) async fn receive(search: &Search<'_>, pdu: &Pdu) -> Result<Received, SendError> {
    let received = search.app.rooms.receive(pdu.clone(), Door::Transaction).await?;
    Ok(told(search, pdu, received))
}

/// Those who wait for an event learn that it has come.
fn told(search: &Search<'_>, pdu: &Pdu, received: Received) -> Received {
    if !matches!(received, Received::Missing(_)) {
        let waiting = &search.app.federation.inbox().0.waiting;
        waiting.placed(search.app, &search.room.id, std::slice::from_ref(pdu.event_id()));
    }
    received
}

/// Lets in an event that we have asked for. What it follows and is not to be had is made up for by the state there.
async fn take(search: &Search<'_>, pdu: &Pdu) -> Result<(), SendError> {
    let Received::Missing(missing) = receive(search, pdu).await? else { return Ok(()) };
    let (prev, auth): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|id| pdu.prev_events().contains(id));
    if auth.iter().any(|id| search.has_tried(id)) {
        // No state makes up for what allows it and is not to be had.
        return Ok(());
    }
    search.learn(auth).await?;
    let mut given = Given::default();
    for id in prev {
        let Some(state) = search.state_after(&id).await? else { return Ok(()) };
        given.after.insert(id, state);
    }
    let received = search.app.rooms.receive_at(pdu.clone(), given).await?;
    let received = told(search, pdu, received);
    tracing::debug!(event = %pdu.event_id(), ?received, "inbox.behind_a_gap");
    Ok(())
}

/// What leads to an event, as far as the servers give it, each event after those that it follows; `None` if they give nothing
/// but what is unfit. Who does that is not believed about a state either: the event waits until something leads to it.
async fn pull(search: &Search<'_>, pdu: &Arc<Pdu>) -> Result<Option<Vec<Arc<Pdu>>>, SendError> {
    let mut got: BTreeMap<OwnedEventId, Arc<Pdu>> = BTreeMap::new();
    let mut unfit = false;
    for server in &search.servers {
        let mut more = true;
        for _ in 0..ROUNDS {
            let latest = open_ends(search, pdu, &got).await?.into_iter().take(ENDS).collect();
            let texts = match ask(search, server, latest).await {
                Ok(texts) => texts,
                Err(error) => {
                    tracing::debug!(%error, room = %search.room.id, "inbox.missing_not_given");
                    unfit |= matches!(error, PeerError::Malformed(_));
                    break;
                }
            };
            let count = texts.len();
            more = count >= MOST;
            let before = got.len();
            let new = search.open(texts).await;
            unfit |= new.len() < count;
            let held = placed(search, new.iter().map(|pdu| &**pdu.event_id())).await?;
            // What leads to what we hold lies before it: nothing of that is missing.
            let new = new.into_iter().filter(|pdu| !held.contains(pdu.event_id()));
            got.extend(new.map(|pdu| (pdu.event_id().clone(), Arc::new(pdu))));
            if got.len() == before || !more {
                break;
            }
        }
        // Who has given all that was asked for would give more: the gap is only longer than we want to fetch now. Who has not
        // may have forgotten it, or may never have had it.
        if !got.is_empty() && (more || open_ends(search, pdu, &got).await?.is_empty()) {
            break;
        }
    }
    let leading = leading_to(pdu.prev_events().iter().cloned(), got.into_values().collect());
    Ok((!unfit || !leading.is_empty()).then_some(leading))
}

/// What a server gives of what leads from what we hold to these events.
async fn ask(
    search: &Search<'_>,
    server: &ServerName,
    latest: Vec<OwnedEventId>,
) -> Result<Vec<Box<RawValue>>, PeerError> {
    if latest.is_empty() {
        return Ok(Vec::new());
    }
    let earliest = search.room.look().prev_events().0;
    let mut request = GetMissingEvents::new(search.room.id.clone(), earliest, latest);
    request.limit = UInt::try_from(MOST).unwrap_or_default();
    let mut answer = search.app.federation.client().ask(server, request, PATIENCE).await?;
    answer.events.truncate(MOST);
    Ok(answer.events)
}

/// The event, or those that lead to it and have been got, which follow something that is neither held nor got.
async fn open_ends(
    search: &Search<'_>,
    pdu: &Arc<Pdu>,
    got: &BTreeMap<OwnedEventId, Arc<Pdu>>,
) -> Result<BTreeSet<OwnedEventId>, SendError> {
    let mut leading =
        leading_to(pdu.prev_events().iter().cloned(), got.values().cloned().collect());
    leading.push(Arc::clone(pdu));
    let named: HashSet<&OwnedEventId> = leading
        .iter()
        .flat_map(|pdu| pdu.prev_events())
        .filter(|id| !got.contains_key(*id))
        .collect();
    let held = placed(search, named.iter().map(|id| &***id)).await?;
    let has = |id: &OwnedEventId| got.contains_key(id) || held.contains(id);
    let open = leading.iter().filter(|pdu| !pdu.prev_events().iter().all(has));
    Ok(open.map(|pdu| pdu.event_id().clone()).collect())
}

/// Those of these events that have their place in the room here.
async fn placed(
    search: &Search<'_>,
    ids: impl Iterator<Item = &EventId>,
) -> Result<HashSet<OwnedEventId>, SendError> {
    let held = search.app.rooms.events().get_all(ids).await?;
    let placed = held.into_iter().filter(|(_, event)| event.before != Before::Unknown);
    Ok(placed.map(|(id, _)| id).collect())
}
