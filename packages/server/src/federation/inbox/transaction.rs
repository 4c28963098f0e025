//! A transaction of another server. <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use ruma::{OwnedRoomId, OwnedServerName, OwnedTransactionId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::{Answers, room};
use crate::{app::App, room::SendError};

/// How many events a transaction may have.
/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>
pub const MOST_PDUS: usize = 50;

/// How many ephemeral messages a transaction may have.
pub const MOST_EDUS: usize = 100;

/// What a server sends at once.
#[derive(Debug)]
pub struct Transaction {
    /// The server that has signed the request.
    pub origin: OwnedServerName,
    /// What the server calls it.
    pub id: OwnedTransactionId,
    /// Events, as they came.
    pub pdus: Vec<Box<RawValue>>,
    /// The types of the ephemeral messages.
    pub edus: Vec<String>,
}

/// Takes a transaction in. The same transaction again gets the same answer, also while the first is still being worked on.
///
/// Its rooms are worked on side by side, the events of one room in their order.
///
/// # Errors
/// When this server fails for the moment: the transaction can come again, and what of it has been let in already is known
/// then. A room that can't be judged at all holds up nothing of the others.
pub async fn take(app: &App, transaction: Transaction) -> Result<Answers, SendError> {
    let Transaction { origin, id, pdus, edus } = transaction;
    let memory = &app.federation.inbox().0;
    let answer = memory.answers.get_with((origin.clone(), id), Arc::default);
    let answer = answer.get_or_try_init(|| async {
        for kind in &edus {
            // Nothing that EDUs carry is kept here so far.
            tracing::trace!(%origin, kind, "inbox.edu_passed_over");
        }
        deliver(app, &origin, pdus).await
    });
    answer.await.cloned()
}

async fn deliver(
    app: &App,
    origin: &ServerName,
    pdus: Vec<Box<RawValue>>,
) -> Result<Answers, SendError> {
    let mut by_room: HashMap<OwnedRoomId, Vec<Box<RawValue>>> = HashMap::new();
    for pdu in pdus {
        if let Some(room) = room_of(&pdu) {
            by_room.entry(room).or_default().push(pdu);
        } else {
            // What has no room can't be named either: its id depends on the room's version.
            tracing::debug!(%origin, "inbox.no_room");
        }
    }
    let mut rooms = JoinSet::new();
    for (room, pdus) in by_room {
        let (app, origin) = (app.clone(), origin.to_owned());
        rooms.spawn(async move {
            let delivered = AssertUnwindSafe(room::deliver(&app, &origin, &room, pdus));
            let delivered = delivered.catch_unwind().await;
            (room, delivered.unwrap_or(Err(SendError::Panicked)))
        });
    }
    let mut answers = Answers::new();
    let mut failed = None;
    while let Some(done) = rooms.join_next().await {
        match done {
            Ok((_, Ok(of_room))) => answers.extend(of_room),
            // It would fail again, and the sender would send nothing else any more.
            Ok((room, Err(error))) if error.lasts() => {
                tracing::error!(%error, %room, %origin, "inbox.not_judged");
            }
            Ok((_, Err(error))) => failed = Some(error),
            Err(_) => failed = Some(SendError::Closed),
        }
    }
    failed.map_or(Ok(answers), Err)
}

/// The room that an event says it belongs to.
fn room_of(pdu: &RawValue) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Named {
        room_id: OwnedRoomId,
    }
    serde_json::from_str::<Named>(pdu.get()).ok().map(|named| named.room_id)
}
