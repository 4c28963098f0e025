//! Through whom a room can be joined.

use std::collections::HashSet;

use matryx_core::{membership::Membership, room::Power};
use matryx_repository::{Source, StoreError};
use ruma::{OwnedServerName, ServerName};

use super::Wish;
use crate::{app::App, room::Look};

/// How many servers are tried.
const MOST: usize = 20;

/// Servers that may be in the room, each once, in the order in which they are to be asked: whom the client names, whom we
/// know from an invite or a knock, whom we know from the room itself. Those that did not answer lately come last.
pub(super) async fn of(app: &App, wish: &Wish) -> Result<Vec<OwnedServerName>, StoreError> {
    let mut found = wish.via.clone();
    let standing = app.rooms.stream().standing(&wish.user).await?;
    if let Some(mine) = standing.rooms.get(&wish.room) {
        if let Source::OutOfBand { via, .. } = &mine.source {
            found.extend(via.iter().cloned());
        }
        if mine.membership == Membership::Invited
            && let Some(event) = app.rooms.events().get(&mine.event).await?
        {
            found.push(event.pdu.sender().server_name().to_owned());
        }
    }
    let room = app.rooms.room(&wish.room).await?;
    let look = room.map(|room| room.look());
    let (here, left) = match &look {
        Some(look) if look.servers.contains_key(&app.server_name) => (in_room(look), Vec::new()),
        Some(look) => (Vec::new(), in_room(look)),
        None => Default::default(),
    };
    found.extend(here);
    found.retain(|server| *server != app.server_name);
    // Who was in a room when we left it need not be there any more, nor be whom the client wants to ask, and neither need
    // the server that a room's id names before version 12: hints, for those who know nobody else.
    if found.is_empty() {
        found.extend(left);
        found.extend(wish.room.server_name().map(ServerName::to_owned));
    }

    let mut seen = HashSet::new();
    found.retain(|server| *server != app.server_name && seen.insert(server.clone()));
    let (mut there, away): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|server| app.federation.destinations().may_try(server).is_ok());
    there.extend(away);
    there.truncate(MOST);
    Ok(there)
}

/// The servers in a room: first those with a user who may let somebody in, then those with the most users.
fn in_room(look: &Look) -> Vec<OwnedServerName> {
    let letting_in: HashSet<OwnedServerName> = match &look.law.powers {
        Some(powers) => {
            let needed = Power::Level(powers.invite());
            look.users(Membership::Joined)
                .filter(|user| powers.of(user) >= needed)
                .map(|user| user.server_name().to_owned())
                .collect()
        }
        None => HashSet::new(),
    };
    let mut servers: Vec<(&OwnedServerName, u64)> =
        look.servers.iter().map(|(server, count)| (server, *count)).collect();
    servers.sort_by_key(|(server, count)| (!letting_in.contains(*server), u64::MAX - count));
    servers.into_iter().take(MOST).map(|(server, _)| server.clone()).collect()
}
