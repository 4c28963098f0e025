//! Events that wait, tried again.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matryx_core::event::Pdu;
use matryx_repository::Waiting as Row;
use ruma::OwnedEventId;
use serde_json::value::RawValue;

use super::{
    fetch::Search,
    left_out::{self, Note},
    missing,
    opened::{Opened, open_all},
    room::followed,
    waiting::{Tried, Way},
};
use crate::{
    app::App,
    room::{Received, SendError},
};

/// Tries events of one server in one room, in the order in which they came. The answers are in their order; those are left out
/// that were not tried to the end.
///
/// # Errors
/// When the database fails.
pub(super) async fn try_all(app: &App, way: &Way, rows: &[Row]) -> Result<Vec<Tried>, SendError> {
    let (room, origin) = way;
    let texts = app.database.waiting_texts(rows).await?;
    let mut texts: HashMap<String, String> = texts.into_iter().collect();
    let texts = rows.iter().map(|row| texts.remove(&row.hash).unwrap_or_else(|| "{}".to_owned()));
    let texts: Vec<Box<RawValue>> =
        texts.map(|text| RawValue::from_string(text).unwrap_or_default()).collect();
    let all_done = || rows.iter().map(|_| Tried::Done).collect();
    let Some(held) = followed(app, origin, room, &texts).await? else {
        // The join that they have waited for has come to nothing, or the last of us has left.
        return Ok(all_done());
    };
    let look = held.look();
    if look.acl().check(origin).is_err() {
        return Ok(all_done());
    }
    let mut pass = Pass { search: Search::new(app, origin, &held), in_vain: HashSet::new() };
    let mut tried = Vec::with_capacity(rows.len());
    let notes: Vec<Option<Note>> = texts.iter().map(|text| Note::read(text)).collect();
    for (note, opened) in notes.into_iter().zip(open_all(app, room, texts, &look.rules).await) {
        tried.push(match (note, opened) {
            (Some(note), _) => left_out::bring(&pass.search, note).await?,
            (_, Opened::Event(pdu)) => pass.let_in(Arc::from(pdu)).await,
            (_, Opened::Early(..)) => Tried::Missing(Vec::new()),
            (_, Opened::Unfit(..)) => Tried::Done,
        });
    }
    if !held.look().servers.contains_key(&app.server_name) {
        // Others have put us out, and this has not shown that we still are in: nobody need tell us what led to it.
        return Ok(all_done());
    }
    Ok(tried)
}

/// Events of one server in one room, one after another.
struct Pass<'a> {
    search: Search<'a>,
    /// What could not be let in. What follows it directly need not be asked for.
    in_vain: HashSet<OwnedEventId>,
}

impl Pass<'_> {
    async fn let_in(&mut self, pdu: Arc<Pdu>) -> Tried {
        let id = pdu.event_id().clone();
        match self.attempt(pdu).await {
            Ok(Received::Missing(missing)) => {
                tracing::info!(event = %id, room = %self.search.room.id, ?missing, "inbox.missing");
                self.in_vain.insert(id);
                Tried::Missing(missing)
            }
            Ok(_) => Tried::Done,
            Err(error) => {
                tracing::error!(%error, event = %id, "inbox.again");
                Tried::Missing(Vec::new())
            }
        }
    }

    async fn attempt(&self, pdu: Arc<Pdu>) -> Result<Received, SendError> {
        match missing::receive(&self.search, &pdu).await? {
            Received::Missing(missing) if !missing.iter().any(|id| self.in_vain.contains(id)) => {
                missing::complete(&self.search, pdu).await
            }
            received => Ok(received),
        }
    }
}
