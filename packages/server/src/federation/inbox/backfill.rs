//! Older history than what is held, fetched when somebody of ours pages back to it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use matryx_core::{event::Pdu, room::StateMap};
use matryx_repository::{Before, Gap};
use ruma::{
    OwnedEventId, ServerName, UInt,
    api::federation::backfill::get_backfill::v1::Request as GetBackfill,
};
use tokio::sync::oneshot;

use super::{fetch::Search, order::leading_to};
use crate::{
    app::App,
    room::{Filling, Room, SendError},
};

/// How many events are asked for at once.
const CHUNK: usize = 100;

/// How many ends of a gap are named.
const ENDS: usize = 10;

/// How many states are asked for in one chunk: one, unless its beginning has forked.
const STATES: usize = 5;

/// How long a server may take over a chunk.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of asking for older history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backfilled {
    /// More of it is held now.
    More,
    /// Whoever could be asked has no more to give.
    Nothing,
    /// Nobody who may have it could be reached.
    Unreachable,
}

/// How long whoever pages back waits for it, and how long it may go on then for whoever asks again.
const PAGE: Duration = Duration::from_secs(30);
const ALL: Duration = Duration::from_mins(5);

/// Fills a gap of a room further from its end. If somebody else does that already, waits for that. What takes long goes on while
/// nobody waits for it: a page is not held up by it.
///
/// # Errors
/// When this server fails.
pub async fn backfill(app: &App, room: &Arc<Room>, gap: &Gap) -> Result<Backfilled, SendError> {
    let (reply, filled) = oneshot::channel();
    let (here, room, gap) = (app.clone(), Arc::clone(room), gap.clone());
    app.tasks.spawn(async move {
        let filled = tokio::select! {
            () = here.shutdown.cancelled() => Err(SendError::Closed),
            filled = here.clock.within(ALL, fill(&here, &room, &gap)) => {
                filled.unwrap_or(Ok(Backfilled::Unreachable))
            }
        };
        // Who has waited may have gone.
        drop(reply.send(filled));
    });
    match app.clock.within(PAGE, filled).await {
        Some(filled) => filled.unwrap_or(Err(SendError::Closed)),
        None => Ok(Backfilled::Unreachable),
    }
}

async fn fill(app: &App, room: &Room, gap: &Gap) -> Result<Backfilled, SendError> {
    let _turn = app.federation.inbox().0.gaps.take((room.id.clone(), gap.n)).await;
    let now = room.look().gaps.get(&gap.n).cloned();
    let Some(gap) = now.filter(|now| now == gap) else { return Ok(Backfilled::More) };
    let line = app.rooms.lines(room, gap.n, gap.n).await?.pop();
    let Some(first) = line.map(|line| line.event.pdu.sender().server_name().to_owned()) else {
        return Ok(Backfilled::Nothing);
    };
    let search = Search::new(app, &first, room);
    let mut reached = false;
    for server in search.servers.iter().filter(|server| *server != &app.server_name) {
        match chunk(&search, server, &gap).await? {
            Some(events) if !events.is_empty() => {
                let filling = filling(&search, &gap, events).await?;
                app.rooms.fill(&room.id, filling).await?;
                if room.look().gaps.get(&gap.n) != Some(&gap) {
                    return Ok(Backfilled::More);
                }
                reached = true;
            }
            Some(_) => reached = true,
            None => {}
        }
    }
    Ok(if reached { Backfilled::Nothing } else { Backfilled::Unreachable })
}

/// What a server gives before the ends of a gap, each event after those that it follows; `None` if it can't be reached.
async fn chunk(
    search: &Search<'_>,
    server: &ServerName,
    gap: &Gap,
) -> Result<Option<Vec<Arc<Pdu>>>, SendError> {
    let ends: Vec<OwnedEventId> = gap.ends.iter().take(ENDS).cloned().collect();
    let limit = UInt::try_from(CHUNK).unwrap_or_default();
    let request = GetBackfill::new(search.room.id.clone(), ends.clone(), limit);
    let mut texts = match search.app.federation.client().ask(server, request, PATIENCE).await {
        Ok(answer) => answer.pdus,
        Err(error) => {
            tracing::debug!(%error, room = %search.room.id, "backfill.not_given");
            return Ok((!error.is_absent()).then(Vec::new));
        }
    };
    texts.truncate(CHUNK);
    let events = search.open(texts).await.into_iter().map(Arc::new).collect();
    Ok(Some(leading_to(ends, events)))
}

/// A chunk with the state at its beginnings, and with what allows its events kept.
async fn filling(
    search: &Search<'_>,
    gap: &Gap,
    mut events: Vec<Arc<Pdu>>,
) -> Result<Filling, SendError> {
    let mut before: HashMap<OwnedEventId, StateMap> = HashMap::new();
    let follows: HashSet<OwnedEventId> =
        events.iter().flat_map(|pdu| pdu.prev_events()).cloned().collect();
    let held = search.app.rooms.events().get_all(follows.iter().map(|id| &**id)).await?;
    let mut known: HashSet<OwnedEventId> = held
        .into_iter()
        .filter(|(_, event)| event.before != Before::Unknown)
        .map(|(id, _)| id)
        .collect();
    let mut asked = 0;
    let mut taken = Vec::with_capacity(events.len());
    for pdu in events.drain(..) {
        if !pdu.prev_events().iter().all(|id| known.contains(id)) {
            if asked == STATES {
                continue;
            }
            asked += 1;
            let Some(state) = search.state_before(pdu.event_id()).await? else { continue };
            before.insert(pdu.event_id().clone(), state);
        }
        known.insert(pdu.event_id().clone());
        taken.push(pdu);
    }
    // What allows an event may be among those that come before it.
    let own: HashSet<&OwnedEventId> = taken.iter().map(|pdu| pdu.event_id()).collect();
    let auth = taken.iter().flat_map(|pdu| pdu.auth_events());
    let auth: HashSet<OwnedEventId> = auth.filter(|id| !own.contains(id)).cloned().collect();
    search.learn(auth).await?;
    Ok(Filling { n: gap.n, filled: gap.filled, events: taken, before })
}
