//! Invites and knocks of rooms that nobody of this server is in, and what becomes of them.
//!
//! The user's own view changes at once and is durable when they are answered; what other servers have to be told is an
//! errand ([`Errands`]), kept until it is done.

mod arrived;
mod errands;
mod leave;
mod received;
mod undo;
mod visit;

use matryx_core::{event::Pdu, membership::Membership};
use matryx_repository::{Mine, Source, StoreError};
use ruma::{OwnedServerName, RoomId, RoomVersionId, ServerName, UserId};

pub use self::{
    arrived::{Arrival, arrived},
    errands::Errands,
    received::{Heard, delivered, received, room_version},
};
pub(super) use self::{leave::leave, undo::Undo};
use crate::{
    app::App,
    room::{Known, Look},
};

/// How many servers an errand goes to at most.
const MOST_SERVERS: usize = 8;

/// The way to a room that we are not in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The room's version.
    pub version: RoomVersionId,
    /// Servers that are said to be in it, the likeliest first.
    pub via: Vec<OwnedServerName>,
}

/// The way to a room for a user of ours who has or had to do with it; nothing if we are in it ourselves, or know no way.
///
/// # Errors
/// When the database fails.
pub async fn way(app: &App, room: &RoomId, user: &UserId) -> Result<Option<Way>, StoreError> {
    let standing = app.rooms.stream().standing(user).await?;
    let look = app.rooms.room(room).await?.map(|room| room.look());
    let known = Known { look: look.as_deref(), mine: standing.rooms.get(room).map(|mine| &**mine) };
    Ok(way_of(app, known))
}

fn way_of(app: &App, known: Known<'_>) -> Option<Way> {
    let us = &app.server_name;
    if is_resident(app, known.look) {
        return None;
    }
    let others = known.look.into_iter().flat_map(|look| look.servers.keys());
    let (version, mut via) = match (known.mine.map(|mine| &mine.source), known.look) {
        (Some(Source::OutOfBand { version, via }), _) => (version.clone(), via.clone()),
        // Where nobody is left, we decide alone.
        (Some(Source::Room), Some(look)) if look.joined > 0 => (look.version.clone(), Vec::new()),
        _ => return None,
    };
    for server in others {
        add(&mut via, server);
    }
    via.retain(|server| server != us);
    via.truncate(MOST_SERVERS);
    Some(Way { version, via })
}

fn add(via: &mut Vec<OwnedServerName>, server: &ServerName) {
    if via.len() < MOST_SERVERS && !via.iter().any(|known| known == server) {
        via.push(server.to_owned());
    }
}

/// A record that is still open: the user is invited or knocking, and nobody of this server is in the room.
fn pending<'a>(app: &App, known: Known<'a>) -> Option<(&'a Mine, Way)> {
    let mine = known.mine.filter(|mine| is_open(mine))?;
    Some((mine, way_of(app, known)?))
}

/// A record that is still open although users of ours are in the room: the room has never heard of it.
fn unheard_of<'a>(app: &App, known: Known<'a>) -> Option<(&'a Mine, Way)> {
    let mine = known.mine.filter(|mine| is_open(mine))?;
    let look = known.look.filter(|look| is_resident(app, Some(look)))?;
    let Source::OutOfBand { version, via } = &mine.source else { return None };
    let way = || Way { version: version.clone(), via: via.clone() };
    (look.membership(&mine.user) == Membership::Left).then(|| (mine, way()))
}

fn is_open(mine: &Mine) -> bool {
    matches!(mine.membership, Membership::Invited | Membership::Knocking)
}

/// A record of this user out of band, in place of the one that stands.
fn record(known: Known<'_>, user: &UserId, room: &RoomId, way: Way, event: &Pdu) -> Mine {
    let membership = event.membership().unwrap_or(Membership::Left);
    Mine {
        user: user.to_owned(),
        room: room.to_owned(),
        membership,
        event: event.event_id().clone(),
        source: Source::OutOfBand { version: way.version, via: way.via },
        n: known.mine.map_or(0, |mine| mine.n),
        pos: 0,
        stripped: None,
        forgotten: false,
    }
}

/// Whether users of ours are in a room that is held here. What the others do there is known only then.
pub(super) fn is_resident(app: &App, look: Option<&Look>) -> bool {
    look.is_some_and(|look| look.servers.contains_key(&app.server_name))
}
