//! An invite has come, or a knock of ours has been let in.

use std::sync::Arc;

use matryx_core::event::Pdu;
use matryx_repository::{Mine, Source};
use ruma::{OwnedServerName, OwnedUserId, RoomVersionId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Way, add, is_open, is_resident, record};
use crate::{
    app::App,
    room::{Aside, Known, Record, SendError, from_elsewhere},
};

/// An invite or a knock of a room that nobody of this server is in.
#[derive(Debug)]
pub struct Arrival {
    /// Who is invited or knocks.
    pub user: OwnedUserId,
    /// The event.
    pub pdu: Arc<Pdu>,
    /// The room's version.
    pub version: RoomVersionId,
    /// What the other server shows of the room.
    pub stripped: Vec<Box<RawValue>>,
    /// Servers that are known to be in the room, the likeliest first.
    pub via: Vec<OwnedServerName>,
}

/// Writes down that a user of ours is invited or knocks. It takes the place of whatever they were before. False if we are in
/// the room: then its own events say what they are.
///
/// # Errors
/// Why the server could not.
pub async fn arrived(app: &App, arrival: Arrival) -> Result<bool, SendError> {
    let Arrival { user, pdu, version, stripped, via } = arrival;
    let way = Way { via: servers(app, &via, &stripped, &pdu), version };
    let stripped = from_elsewhere(&stripped, &pdu, &way.version);
    let room = pdu.room_id().to_owned();
    let (here, who, event) = (app.clone(), user.clone(), pdu.event_id().clone());
    let aside = Aside::new(user, move |known| {
        let same = known.mine.is_some_and(|mine| mine.event == *pdu.event_id());
        if same || is_resident(&here, known.look) {
            return Ok(None);
        }
        let way = with_the_known(known, way.clone());
        let mine = record(known, &who, pdu.room_id(), way, &pdu);
        let mine = Mine { stripped: Some(stripped.clone()), ..mine };
        Ok(Some(Record { mine, event: Some(Arc::clone(&pdu)), errand: None }))
    });
    let done = app.rooms.aside(&room, aside).await?;
    Ok(done.events.contains(&event))
}

/// A way with the servers of an older record that was open: who has knocked through one still reaches the room through it. The
/// first of them comes before hints.
fn with_the_known(known: Known<'_>, way: Way) -> Way {
    let Some(mine) = known.mine else { return way };
    let (true, Source::OutOfBand { via, .. }) = (is_open(mine), &mine.source) else { return way };
    let mut all = Vec::new();
    let through = via.iter().take(1);
    for server in way.via.iter().take(1).chain(through).chain(&way.via).chain(via) {
        add(&mut all, server);
    }
    Way { via: all, ..way }
}

/// The servers through which the room is reached: those that are known, and those of whom the stripped state tells.
fn servers(
    app: &App,
    via: &[OwnedServerName],
    stripped: &[Box<RawValue>],
    pdu: &Pdu,
) -> Vec<OwnedServerName> {
    #[derive(Deserialize)]
    struct Sent {
        sender: OwnedUserId,
    }
    let mut all = Vec::new();
    for server in via {
        add(&mut all, server);
    }
    add(&mut all, pdu.sender().server_name());
    for sent in stripped {
        if let Ok(Sent { sender }) = serde_json::from_str(sent.get()) {
            add(&mut all, sender.server_name());
        }
    }
    // Since version 12 no server stands in a room's id, and before that it only says who made the room.
    if let Some(server) = pdu.room_id().server_name() {
        add(&mut all, server);
    }
    all.retain(|server| *server != app.server_name);
    all
}

/// Whether a user is of this server.
pub(super) fn is_ours(app: &App, user: &UserId) -> bool {
    user.server_name() == app.server_name
}
