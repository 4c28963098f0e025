//! `GET /_matrix/client/v3/rooms/{roomId}/messages`
//!
//! A room's history, page by page. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use std::{collections::BTreeSet, sync::Arc};

use matryx_core::room::StateKey;
use matryx_repository::StoredEvent;
use ruma::{
    OwnedRoomId,
    api::{
        Direction,
        client::message::get_message_events::v3::{Request, Response},
    },
    events::AnyStateEvent,
    serde::Raw,
};

use super::{
    pages::{Cursor, Wish, back, forth},
    read::written,
};
use crate::{
    app::App,
    http::{ApiError, Late, Matrix},
    room::Reading,
    sync::{
        filter::EventFilter,
        token::{self, LineToken},
    },
    user::Requester,
};

/// The most events of a page, whatever the client asks for.
const PAGE: usize = 1000;

pub(in super::super) async fn messages(
    app: App,
    matrix: Matrix<Late<Request, [OwnedRoomId; 1]>>,
) -> Result<Response, ApiError> {
    let [room] = &matrix.request.path;
    let mut reading = app.rooms.reading(room, &matrix.identity.user_id).await?;
    let request = matrix.request.whole()?;
    let place = async |token: &Option<String>| match token {
        Some(token) => token::line_at(&app.rooms, &reading.room, token).await.map(Some),
        None => Ok(None),
    };
    let newest = Cursor::at(reading.until);
    let start = match (place(&request.from).await?, request.dir) {
        (Some(n), _) => Cursor::at(n).min(newest),
        (None, Direction::Backward) => newest,
        (None, Direction::Forward) => Cursor::beginning(&reading.room),
    };
    let stop = place(&request.to).await?.map(Cursor::at);
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(PAGE).min(PAGE);
    let filter = EventFilter(&request.filter);
    let wish = Wish { start, stop, limit, filter };
    let page = match request.dir {
        Direction::Backward => back(&app, &mut reading, &wish).await?,
        Direction::Forward => forth(&app, &mut reading, &wish).await?,
    };
    let mut response = Response::new();
    response.start = LineToken(start.number()).to_string();
    response.end = page.end.map(|end| LineToken(end.number()).to_string());
    if filter.lazy_members() {
        response.state = senders(&app, &reading, &matrix.identity, &page.events).await?;
    }
    response.chunk = written(&app, &reading, &matrix.identity, &page.events).await?;
    Ok(response)
}

/// The member events of those who sent what is on a page, for clients that load members lazily.
async fn senders(
    app: &App,
    reading: &Reading,
    requester: &Requester,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<Raw<AnyStateEvent>>, ApiError> {
    let state = reading.known_as_of(&app.rooms, reading.until).await?;
    let senders: BTreeSet<_> = events.iter().map(|event| event.pdu.sender()).collect();
    let ids: Vec<_> = senders
        .into_iter()
        .filter_map(|sender| state.get(&StateKey::member(sender)))
        .map(|entry| &*entry.event_id)
        .collect();
    let members: Vec<_> = app.rooms.events().get_all(ids).await?.into_values().collect();
    written(app, reading, requester, &members).await
}
