//! Tips tied together: where a room has come to have many events that nothing follows, one of our users says something
//! that follows them all and means nothing. Each tip more makes every resolution of the room's state dearer.
//!
//! It is of the type that the field knows for it, is shown to no client and is brought to no server: the others get it when
//! something follows it.

use std::{collections::HashMap, time::Duration};

use matryx_core::{
    event::Draft,
    membership::Membership,
    refusal::{Refusal, RefusalKind},
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedUserId, RoomId, ServerName,
    events::TimelineEventType,
};
use tokio_util::sync::CancellationToken;

use super::{Desk, Intent, Proposal, Rooms, SendError, say::may_send};
use crate::clock::later;

/// More tips than this are tied together.
pub(super) const MANY: usize = 10;

/// More tips than this are tied together at once, however lately some were: whoever makes them can make more.
const TOO_MANY: usize = 50;

/// The type of what ties them.
const KNOT: &str = "org.matrix.dummy_event";

/// How much time passes between two knots of a room.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether an event of this type only ties tips together.
pub(super) fn is_knot(kind: &TimelineEventType) -> bool {
    matches!(kind, TimelineEventType::_Custom(_)) && kind.to_string() == KNOT
}

impl Rooms {
    /// Ties the tips of rooms together as they become too many, until `shutdown`.
    pub fn tie_tips(self, shutdown: CancellationToken) -> impl Future<Output = ()> + Send {
        let mut crowded = self.stream().crowded();
        // When they were tied the last time, and whether anybody might.
        let mut last: HashMap<OwnedRoomId, (MilliSecondsSinceUnixEpoch, bool)> = HashMap::new();
        async move {
            loop {
                let room = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    room = crowded.recv() => room,
                };
                let Some(room) = room else { return };
                let now = self.clock().now();
                last.retain(|_, (then, _)| later(*then, PAUSE) > now);
                let tips = self.tips_of(&room);
                if last.get(&room).is_some_and(|(_, tied)| !tied || tips <= TOO_MANY) {
                    // The next event that comes reminds us.
                    continue;
                }
                let tied = self.tie_all(&room).await;
                if let Err(error) = &tied {
                    tracing::debug!(%error, %room, "room.tie");
                }
                last.insert(room, (now, tied.is_ok()));
            }
        }
    }

    /// How many tips a room has that is in memory.
    fn tips_of(&self, room: &RoomId) -> usize {
        self.memory().get(room).map_or(0, |room| room.look().tips.len())
    }

    /// Ties the tips of a room together until they are few: one event names no more than some of them.
    async fn tie_all(&self, room: &RoomId) -> Result<(), SendError> {
        let mut before = usize::MAX;
        loop {
            self.tie(room).await?;
            let left = self.tips_of(room);
            if left <= MANY || left >= before {
                return Ok(());
            }
            before = left;
        }
    }

    /// Ties tips of a room together, if they still are many and one of our users may.
    async fn tie(&self, room: &RoomId) -> Result<(), SendError> {
        let us = self.server_name().to_owned();
        let intent = Intent::new(Vec::new(), move |desk| {
            if let ([tip, ..], ..=MANY) = (desk.look.tips.as_slice(), desk.look.tips.len()) {
                return Ok(Proposal::Unchanged(tip.tip.event_id.clone()));
            }
            Ok(Proposal::say(knot(desk, &us)?))
        });
        self.send(room, intent).await.map(drop)
    }
}

/// What ties tips together, by one of our users.
pub(super) fn knot(desk: &Desk<'_>, us: &ServerName) -> Result<Draft, Refusal> {
    Ok(Draft {
        sender: somebody(desk, us)?,
        kind: KNOT.into(),
        state_key: None,
        content: CanonicalJsonObject::new(),
        redacts: None,
    })
}

/// One of our users who has the level for it.
fn somebody(desk: &Desk<'_>, us: &ServerName) -> Result<OwnedUserId, Refusal> {
    let sentence = "None of our users may tie the room's tips together.";
    let nobody = || Refusal::new(RefusalKind::Forbidden, sentence);
    let powers = desk.look.law.powers.as_deref().ok_or_else(nobody)?;
    desk.look
        .users(Membership::Joined)
        .filter(|user| user.server_name() == us)
        .find(|user| may_send(powers, user, &KNOT.into(), false).is_ok())
        .ok_or_else(nobody)
}
