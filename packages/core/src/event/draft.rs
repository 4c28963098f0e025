//! What someone wants to say, and where it goes.

use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId,
    events::TimelineEventType,
};

/// What someone wants to say. It becomes a [`Pdu`](super::Pdu) when it is [sealed](super::seal()).
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Who says it.
    pub sender: OwnedUserId,
    /// The event's type.
    pub kind: TimelineEventType,
    /// The state key, for state events.
    pub state_key: Option<String>,
    /// The content. Canonical JSON: floats and integers outside of ±(2⁵³ - 1) never get this far.
    pub content: CanonicalJsonObject,
    /// The event that this one redacts; [`seal`](super::seal()) puts it where the room version wants it.
    pub redacts: Option<OwnedEventId>,
}

/// Where in a room's graph, and when, a draft is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The room. `None` for the create event of a room version that names the room after it (12 and later), and only
    /// for it.
    pub room_id: Option<OwnedRoomId>,
    /// The forward extremities that this event follows. At most 20.
    pub prev_events: Vec<OwnedEventId>,
    /// The state events that allow this one. At most 10.
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the deepest of `prev_events`.
    pub depth: u64,
    /// The time, in milliseconds.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}
