//! `GET /_matrix/client/v3/rooms/{roomId}/messages`
//!
//! A room's history, page by page. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use std::{collections::BTreeSet, sync::Arc};

use matryx_core::room::StateKey;
use matryx_repository::StoredEvent;
use ruma::{
    api::{
        Direction,
        client::message::get_message_events::v3::{Request, Response},
    },
    events::AnyStateEvent,
    serde::Raw,
};

use super::read::written;
use crate::{
    app::App,
    http::{ApiError, Matrix},
    room::Reading,
    sync::{
        filter::EventFilter,
        token::{self, LineToken},
    },
    user::Requester,
};

/// The most events of a page, whatever the client asks for.
const PAGE: usize = 1000;

/// The most lines that are read for a page: where few of them are to be shown, the client asks again from where it ended.
const READ: i64 = 4000;

/// How many lines are read at a time.
const STRIDE: i64 = 100;

/// A page: what is on it, and behind which line it ended.
struct Page {
    events: Vec<Arc<StoredEvent>>,
    end: Option<i64>,
}

pub(in super::super) async fn messages(
    app: App,
    matrix: Matrix<Request>,
) -> Result<Response, ApiError> {
    let request = matrix.request;
    let reading = app.rooms.reading(&request.room_id, &matrix.identity.user_id).await?;
    let place = async |token: &Option<String>| match token {
        Some(token) => token::line_at(&app.rooms, &reading.room, token).await.map(Some),
        None => Ok(None),
    };
    let start = match (place(&request.from).await?, request.dir) {
        (Some(n), _) => n.clamp(0, reading.until),
        (None, Direction::Backward) => reading.until,
        (None, Direction::Forward) => 0,
    };
    let stop = place(&request.to).await?;
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(PAGE).min(PAGE);
    let filter = EventFilter(&request.filter);
    let page = match request.dir {
        Direction::Backward => back(&app, &reading, start, stop, limit, filter).await?,
        Direction::Forward => forth(&app, &reading, start, stop, limit, filter).await?,
    };
    let mut response = Response::new();
    response.start = LineToken(start).to_string();
    response.end = page.end.map(|n| LineToken(n).to_string());
    if filter.lazy_members() {
        response.state = senders(&app, &reading, &matrix.identity, &page.events).await?;
    }
    response.chunk = written(&app, &reading, &matrix.identity, &page.events).await?;
    Ok(response)
}

/// From behind line `start` towards the beginning.
async fn back(
    app: &App,
    reading: &Reading,
    start: i64,
    stop: Option<i64>,
    limit: usize,
    filter: EventFilter<'_>,
) -> Result<Page, ApiError> {
    let stop = stop.unwrap_or(0).max(0);
    let mut events = Vec::new();
    let mut n = start;
    while n > stop && start - n < READ {
        let lines = app.rooms.lines(&reading.room, (n - STRIDE + 1).max(stop + 1), n).await?;
        for line in lines.into_iter().rev() {
            if events.len() == limit {
                return Ok(Page { events, end: Some(n) });
            }
            n = line.n - 1;
            if reading.sight.sees(line.n, &line.event) && filter.event(&line.event.pdu) {
                events.push(Arc::clone(&line.event));
            }
        }
    }
    Ok(Page { events, end: (n > stop).then_some(n) })
}

/// From behind line `start` towards now.
async fn forth(
    app: &App,
    reading: &Reading,
    start: i64,
    stop: Option<i64>,
    limit: usize,
    filter: EventFilter<'_>,
) -> Result<Page, ApiError> {
    let stop = stop.unwrap_or(reading.until).min(reading.until);
    let mut events = Vec::new();
    let mut n = start;
    while n < stop && n - start < READ {
        let lines = app.rooms.lines(&reading.room, n + 1, (n + STRIDE).min(stop)).await?;
        for line in lines {
            if events.len() == limit {
                return Ok(Page { events, end: Some(n) });
            }
            n = line.n;
            if reading.sight.sees(line.n, &line.event) && filter.event(&line.event.pdu) {
                events.push(Arc::clone(&line.event));
            }
        }
    }
    Ok(Page { events, end: (n < stop).then_some(n) })
}

/// The member events of those who sent what is on a page, for clients that load members lazily.
async fn senders(
    app: &App,
    reading: &Reading,
    requester: &Requester,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<Raw<AnyStateEvent>>, ApiError> {
    let state = app.rooms.state_at(&reading.room.id, reading.until).await?;
    let senders: BTreeSet<_> = events.iter().map(|event| event.pdu.sender()).collect();
    let ids: Vec<_> = senders
        .into_iter()
        .filter_map(|sender| state.get(&StateKey::member(sender)))
        .map(|entry| &*entry.event_id)
        .collect();
    let members: Vec<_> = app.rooms.events().get_all(ids).await?.into_values().collect();
    written(app, reading, requester, &members).await
}
