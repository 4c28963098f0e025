//! What another server may read of a room: servers in it as much as the history's visibility shows to one of their users,
//! servers that were in it the same up to where their last user left. It is the same when we have left ourselves: what leads
//! to our leaving can be had as long as we keep it.

use std::sync::Arc;

use matryx_core::{
    event::{Pdu, RedactError},
    refusal::Refusal,
    room::Judgement,
};
use matryx_repository::{Before, Gap, StoreError, StoredEvent};
use ruma::{RoomId, ServerName};

use super::{Look, Room, Rooms, SendError, Sight};

/// A room as another server may read it.
#[derive(Debug, Clone)]
pub struct PeerReading {
    /// The room.
    pub room: Arc<Room>,
    /// The room as it is.
    pub look: Arc<Look>,
    /// The last line that they may read, where they are not in the room any more.
    until: Option<i64>,
    sight: Sight,
}

impl Rooms {
    /// A room as another server may read it.
    ///
    /// # Errors
    /// [`SendError::UnknownRoom`] for rooms that are not held here, a refusal to servers that were never in it.
    pub async fn peer_reading(
        &self,
        room: &RoomId,
        server: &ServerName,
    ) -> Result<PeerReading, SendError> {
        let room = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        let look = room.look();
        let inside = look.servers.contains_key(server);
        let sight = self.server_sight(&room, server, inside).await?;
        let until = if inside {
            None
        } else {
            let left = sight.left_for_good();
            Some(left.ok_or_else(|| Refusal::forbidden("Your server is not in this room."))?)
        };
        Ok(PeerReading { room, look, until, sight })
    }
}

impl PeerReading {
    /// Makes the reading ready for these events: of what fills a gap, what held there has to be read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reach_back(
        &mut self,
        rooms: &Rooms,
        events: &[Arc<StoredEvent>],
    ) -> Result<(), StoreError> {
        rooms.reach_back(&self.room, &mut self.sight, events).await
    }

    /// Whether an event is of this room, part of it, and not of later than they left.
    #[must_use]
    pub fn reaches(&self, event: &StoredEvent) -> bool {
        event.pdu.room_id() == self.room.id
            && !matches!(event.fate, Judgement::Rejected(_))
            && self.until.is_none_or(|until| match self.place(event) {
                // They may have left in the gap that it fills.
                n @ ..=0 => Gap::place(n).0 <= until || self.sight.was_there(n),
                n => n <= until,
            })
    }

    /// An event as they may see it: whole, or where the history is not visible to them redacted, so that what follows it
    /// still has something to follow. `None` for what is none of theirs.
    ///
    /// # Errors
    /// When the event cannot be redacted, which no kept event is.
    pub fn shown(&self, event: &StoredEvent) -> Result<Option<Arc<Pdu>>, RedactError> {
        if !self.reaches(event) {
            return Ok(None);
        }
        if self.sight.sees(self.place(event), event) {
            return Ok(Some(Arc::clone(&event.pdu)));
        }
        Ok(Some(Arc::new(event.pdu.redact(&self.look.rules)?)))
    }

    /// The line by which an event is judged: its own; for what is in no timeline the one after which it was said, or if
    /// that is not known, the newest.
    fn place(&self, event: &StoredEvent) -> i64 {
        match (event.n, event.before) {
            (Some(n), _) | (None, Before::Log(n)) => n,
            _ => self.look.n,
        }
    }
}
