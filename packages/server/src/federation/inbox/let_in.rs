//! A single event that a server answers with, as our join is when another server vouches for it.

use std::{sync::Arc, time::Duration};

use matryx_core::event::Pdu;
use ruma::ServerName;

use super::{fetch::Search, missing};
use crate::{
    app::App,
    room::{Door, Received, SendError},
};

/// How long somebody waits for what is missing before it.
const PATIENCE: Duration = Duration::from_secs(50);

/// Lets in an event of a room that we are in, and asks whoever gave it for what is missing before it.
///
/// # Errors
/// Why the server could not judge it.
pub async fn let_in(app: &App, origin: &ServerName, pdu: Pdu) -> Result<Received, SendError> {
    let received = app.rooms.receive(pdu.clone(), Door::Transaction).await?;
    if !matches!(received, Received::Missing(_)) {
        return Ok(received);
    }
    let room = app.rooms.room(pdu.room_id()).await?.ok_or(SendError::UnknownRoom)?;
    let search = Search::new(app, origin, &room);
    let complete = Box::pin(missing::complete(&search, Arc::new(pdu.clone())));
    if let Some(completed) = app.clock.within(PATIENCE, complete).await {
        return completed;
    }
    tracing::info!(%origin, event = %pdu.event_id(), "inbox.missing_took_too_long");
    app.rooms.receive(pdu, Door::Transaction).await
}
