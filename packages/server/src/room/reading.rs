//! As of when a user may read a room: now, as of when they left, or not at all.

use std::sync::Arc;

use matryx_core::{
    membership::Membership,
    refusal::Refusal,
    room::{StateEntry, StateKey, StateMap},
};
use matryx_repository::{Gap, Source, StoreError};
use ruma::{RoomId, UserId, events::StateEventType};

use super::{Look, Room, Rooms, SendError, Sight};

/// A room as a user may read it.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The room.
    pub room: Arc<Room>,
    /// The room as it is.
    pub look: Arc<Look>,
    /// The last line that they may read.
    pub until: i64,
    /// Where the state that they may read ends, if that is before `until`.
    parted: Option<Parted>,
    /// What the user is.
    pub membership: Membership,
    /// What they may see on the way there.
    pub sight: Sight,
}

/// Somebody left a room, and has been invited to it, knocked on it or been banned since.
#[derive(Debug, Clone)]
struct Parted {
    /// The line with which they ceased to be in it.
    n: i64,
    /// Their member event's key.
    key: StateKey,
    /// What became of them later: the one thing about the room that they know beyond that line.
    own: StateEntry,
}

impl Rooms {
    /// As of when a user may read a room: members as it is, those who were members as they left it, everybody if it is
    /// `world_readable`. <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>
    ///
    /// # Errors
    /// A refusal, the same whether the room does not exist, was never theirs or was forgotten by them; to those who are
    /// invited or have knocked it says so.
    pub async fn reading(&self, room: &RoomId, user: &UserId) -> Result<Reading, SendError> {
        let outside = || {
            SendError::from(Refusal::forbidden(
                "You are not in this room, nor were you a member of it.",
            ))
        };
        let room = self.room(room).await?.ok_or_else(outside)?;
        let look = room.look();
        let sight = self.sight(&room, user).await?;
        let mut membership = look.membership(user);
        let (until, parted) = if membership == Membership::Joined || sight.world_readable_at(look.n)
        {
            (look.n, None)
        } else {
            let standing = self.stream().standing(user).await?;
            let mine = standing.rooms.get(&room.id);
            // The room may have gone on without us, and the user may have been invited to it anew since.
            if let Some(mine) = mine.filter(|mine| mine.source != Source::Room) {
                membership = mine.membership;
            }
            if let Some(sentence) = mine.filter(|mine| !mine.forgotten).and(at_the_door(membership))
            {
                return Err(Refusal::forbidden(sentence).into());
            }
            match mine {
                Some(mine) if mine.forgotten || !sight.ever_joined() => return Err(outside()),
                Some(mine) if matches!(membership, Membership::Left | Membership::Banned) => {
                    let own = || StateEntry {
                        event_id: mine.event.clone(),
                        membership: Some(mine.membership),
                    };
                    let parted = sight.left_for_good().filter(|n| *n < mine.n);
                    let parted =
                        parted.map(|n| Parted { n, key: StateKey::member(user), own: own() });
                    (mine.n, parted)
                }
                _ => return Err(outside()),
            }
        };
        Ok(Reading { room, look, until, parted, membership, sight })
    }
}

impl Reading {
    /// Whether the line with this number, or what fills a gap with it, comes before what they may not read any more.
    #[must_use]
    pub fn reaches(&self, n: i64) -> bool {
        let line = if n <= 0 { Gap::place(n).0 } else { n };
        line <= self.until
    }

    /// The room's state as of the last line that they may read; but for those who are out of it as of when they left, whatever
    /// became of them later: a knock that they take back lets nobody look in.
    ///
    /// # Errors
    /// Those who are banned read none; or the database fails.
    pub async fn state(&self, rooms: &Rooms) -> Result<StateMap, SendError> {
        self.state_as_of(rooms, self.until).await
    }

    /// The room's state as it was at a line, at most the last one that they may read.
    ///
    /// # Errors
    /// Those who are banned read none; or the database fails.
    pub async fn state_as_of(&self, rooms: &Rooms, n: i64) -> Result<StateMap, SendError> {
        // Who has just been banned has missed nothing yet, and reads the state no more for that.
        if self.membership == Membership::Banned && !self.sight.world_readable_at(self.look.n) {
            return Err(Refusal::forbidden("You are banned from this room.").into());
        }
        Ok(self.known_as_of(rooms, n).await?)
    }

    /// The same for whoever they are, to show with what they may read of the timeline.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known_as_of(&self, rooms: &Rooms, n: i64) -> Result<StateMap, StoreError> {
        // Of what fills a gap, the state before the gap is the nearest that is known.
        let n = if n < 0 { Gap::place(n).0 - 1 } else { n };
        let n = n.min(self.until);
        if let Some(parted) = self.parted.as_ref().filter(|parted| n > parted.n) {
            let mut state = rooms.state_at(&self.room.id, parted.n).await?;
            if n == self.until {
                state.insert(parted.key.clone(), parted.own.clone());
            }
            return Ok(state);
        }
        if n == self.look.n {
            return Ok(self.look.state.clone());
        }
        rooms.state_at(&self.room.id, n).await
    }
}

/// The member entries of a state, by user.
pub fn members(state: &StateMap) -> impl Iterator<Item = (&StateKey, &StateEntry)> {
    matryx_core::room::of_kind(state, &StateEventType::RoomMember)
}

/// What is said to those who are invited or have knocked: until that is over, they read nothing.
fn at_the_door(membership: Membership) -> Option<&'static str> {
    match membership {
        Membership::Invited => Some("You are invited to this room: join it to read it."),
        Membership::Knocking => {
            Some("You have knocked on this room; only those who are in it read it.")
        }
        _ => None,
    }
}
