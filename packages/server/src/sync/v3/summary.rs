//! A room's summary: how many are in it, and after whom to name it.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use matryx_core::{
    membership::Membership,
    room::{StateEntry, StateKey},
};
use matryx_repository::StoreError;
use ruma::{OwnedUserId, UserId, events::StateEventType};
use serde::Deserialize;

use super::{View, answer::Summary};
use crate::room::{Look, Rooms};

/// How many members a nameless room is named after.
const HEROES: usize = 5;

/// Of how many members the events are read, to name a room after those who came first. Of more, it is named after the
/// first ones by their ids: which ones makes no difference to the reader of such a name.
const FEW: usize = 100;

/// Up to how many pieces of state are looked through for somebody who has left.
const SEARCHED: usize = 1000;

impl View<'_> {
    /// The summary of a room as of a look.
    pub(super) async fn summary(&self, look: &Look) -> Result<Summary, StoreError> {
        let heroes = if named(self.rooms, look).await? {
            None
        } else {
            Some(heroes(self.rooms, look, &self.question.user).await?)
        };
        Ok(Summary { heroes, joined: look.joined, invited: look.invited })
    }
}

/// Whether a room has a name or an alias that is not empty.
async fn named(rooms: &Rooms, look: &Look) -> Result<bool, StoreError> {
    #[derive(Deserialize)]
    struct Content {
        name: Option<String>,
        alias: Option<String>,
    }
    for kind in [StateEventType::RoomName, StateEventType::RoomCanonicalAlias] {
        let alias = kind == StateEventType::RoomCanonicalAlias;
        let Some(entry) = look.entry(&StateKey::new(kind, "")) else { continue };
        let Some(event) = rooms.events().get(&entry.event_id).await? else { continue };
        if let Ok(Content { name, alias: other }) = event.pdu.content_as()
            && (if alias { other } else { name }).is_some_and(|text| !text.is_empty())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The members that a room without a name is named after: the first ones who are joined or invited, or if there are none
/// the first ones who have left or are banned; never who asks.
async fn heroes(rooms: &Rooms, look: &Look, me: &UserId) -> Result<Vec<OwnedUserId>, StoreError> {
    let present = usize::try_from(look.joined + look.invited).unwrap_or(usize::MAX);
    let others = |fits: fn(Membership) -> bool| {
        look.members()
            .filter(move |(user, entry)| *user != me.as_str() && entry.membership.is_some_and(fits))
    };
    let here = |membership| matches!(membership, Membership::Joined | Membership::Invited);
    if present > FEW {
        return Ok(ids(others(here).take(HEROES)));
    }
    let mut found: Vec<(&str, &StateEntry)> = others(here).collect();
    if found.is_empty() && look.state.len() <= SEARCHED {
        let gone = |membership| matches!(membership, Membership::Left | Membership::Banned);
        found = others(gone).take(FEW).collect();
    }
    let events = rooms.events().get_all(found.iter().map(|(_, entry)| &*entry.event_id)).await?;
    found.sort_by_key(|(_, entry)| {
        events.get(&entry.event_id).and_then(|event| event.n).unwrap_or(i64::MAX)
    });
    Ok(ids(found.into_iter().take(HEROES)))
}

fn ids<'a>(members: impl Iterator<Item = (&'a str, &'a StateEntry)>) -> Vec<OwnedUserId> {
    members.filter_map(|(user, _)| UserId::parse(user).ok()).collect()
}
