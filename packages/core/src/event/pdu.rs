//! An event: said, hashed, signed and named.

use std::{fmt, ops::Range, sync::Arc};

use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomId, UserId,
    canonical_json::{CanonicalJsonFieldError, redact},
    events::TimelineEventType,
    room_version_rules::RoomVersionRules,
    state_res::Event,
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::value::RawValue;

use crate::{membership::Membership, room::StateKey};

/// An event as it stands in a room's graph: its canonical text and what is read from it once.
///
/// Made by [`seal`](super::seal()) and [`open`](super::open()) only, and [restored](Pdu::restore) from the store. It does
/// not change, and is meant to be held in an [`Arc`].
#[derive(Clone)]
pub struct Pdu {
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    kind: TimelineEventType,
    state_key: Option<Arc<str>>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    prev_events: Box<[OwnedEventId]>,
    auth_events: Box<[OwnedEventId]>,
    redacts: Option<Box<Redacts>>,
    membership: Option<Membership>,
    text: Box<str>,
    /// Where in the text the content stands.
    content: Range<usize>,
    /// Whether the text has a room id. The create event of version 12 has none.
    says_room: bool,
    rejected: bool,
}

/// What a redaction names, in the two places where room versions look for it.
#[derive(Clone)]
struct Redacts {
    top: Option<OwnedEventId>,
    content: Option<OwnedEventId>,
}

/// An event that cannot be redacted, because it has not the form of one.
#[derive(Debug, thiserror::Error)]
#[error("the event cannot be redacted: {0}")]
pub struct RedactError(String);

#[derive(Deserialize)]
struct Fields<'a> {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: TimelineEventType,
    state_key: Option<Arc<str>>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    prev_events: Box<[OwnedEventId]>,
    auth_events: Box<[OwnedEventId]>,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow)]
    redacts: Option<&'a RawValue>,
}

/// The two fields of contents that are asked for again and again.
#[derive(Default, Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    membership: Option<&'a RawValue>,
    #[serde(borrow)]
    redacts: Option<&'a RawValue>,
}

impl Pdu {
    /// An event from the store. What is there was checked when it came in: this reads the text and believes it.
    ///
    /// # Errors
    ///
    /// When the text is no event.
    pub fn restore(
        event_id: OwnedEventId,
        room_id: OwnedRoomId,
        json: &str,
        rejected: bool,
    ) -> serde_json::Result<Self> {
        Self::read(event_id, Some(room_id), json.to_owned(), rejected)
    }

    /// Reads the canonical text. Without a room id, neither here nor in the text, the room is the one that is named
    /// after this event.
    pub(super) fn read(
        event_id: OwnedEventId,
        room_id: Option<OwnedRoomId>,
        text: String,
        rejected: bool,
    ) -> serde_json::Result<Self> {
        let text = text.into_boxed_str();
        let fields: Fields<'_> = serde_json::from_str(&text)?;
        let content = fields.content.get();
        let start = content.as_ptr() as usize - text.as_ptr() as usize;
        let content_range = start..start + content.len();

        let says_room = fields.room_id.is_some();
        let room_id = match room_id.or(fields.room_id) {
            Some(room_id) => room_id,
            None => room_named_after(&event_id)?,
        };
        let (mut redacts, mut membership) = (None, None);
        if matches!(fields.kind, TimelineEventType::RoomRedaction | TimelineEventType::RoomMember) {
            let content: Content<'_> = serde_json::from_str(content).unwrap_or_default();
            if fields.kind == TimelineEventType::RoomRedaction {
                let (top, content) = (fields.redacts, content.redacts);
                redacts = Some(Box::new(Redacts {
                    top: top.and_then(read_value),
                    content: content.and_then(read_value),
                }));
            } else if let Some(word) = content.membership.and_then(read_value::<String>) {
                membership = word.parse().ok();
            }
        }

        Ok(Self {
            event_id,
            room_id,
            sender: fields.sender,
            kind: fields.kind,
            state_key: fields.state_key,
            origin_server_ts: fields.origin_server_ts,
            depth: fields.depth,
            prev_events: fields.prev_events,
            auth_events: fields.auth_events,
            redacts,
            membership,
            content: content_range,
            text,
            says_room,
            rejected,
        })
    }

    /// The event's name.
    #[must_use]
    pub fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    /// The room. Known for the create event of version 12 too, whose text does not say it.
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// Who said it.
    #[must_use]
    pub fn sender(&self) -> &OwnedUserId {
        &self.sender
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> &TimelineEventType {
        &self.kind
    }

    /// The state key; `None` for what is no state event.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    /// The key that this event has in a room's state; `None` for what is no state event.
    #[must_use]
    pub fn key(&self) -> Option<StateKey> {
        let key = self.state_key.clone()?;
        Some(StateKey { kind: self.kind.to_string().into(), key })
    }

    /// The content, as JSON.
    #[must_use]
    pub fn content(&self) -> &RawValue {
        // The range was taken from a parsed text: this finds the end of the value and cannot fail.
        serde_json::from_str(&self.text[self.content.clone()]).unwrap_or(RawValue::NULL)
    }

    /// The content, read as a type.
    ///
    /// # Errors
    ///
    /// When the content is not of this type.
    pub fn content_as<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.text[self.content.clone()])
    }

    /// What a member event makes of its target; `None` for all other events and for words that no room version knows.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.membership
    }

    /// The time that its server gave it.
    #[must_use]
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    /// Its depth in the graph, as its server saw it. No rule depends on it.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// The events that it follows.
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.prev_events
    }

    /// The events that allow it.
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.auth_events
    }

    /// What a redaction redacts: in the content since version 11, before it beside the content.
    #[must_use]
    pub fn redacts(&self, rules: &RoomVersionRules) -> Option<&EventId> {
        let redacts = self.redacts.as_deref()?;
        if rules.redaction.content_field_redacts { &redacts.content } else { &redacts.top }
            .as_deref()
    }

    /// The canonical text, with hashes and signatures and without `unsigned`.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.text
    }

    /// Whether the event was rejected. Then it never becomes state, and no event may name it as what allows it.
    #[must_use]
    pub fn rejected(&self) -> bool {
        self.rejected
    }

    /// The same event, rejected.
    #[must_use]
    pub fn into_rejected(mut self) -> Self {
        self.rejected = true;
        self
    }

    /// The event with only what the room version protects from redaction. Its id and its signatures stay valid.
    ///
    /// # Errors
    ///
    /// When the event has not the form of one; then it would not have come in.
    pub fn redact(&self, rules: &RoomVersionRules) -> Result<Self, RedactError> {
        let object: CanonicalJsonObject = serde_json::from_str(&self.text)?;
        let text = serde_json::to_string(&redact(object, &rules.redaction, None)?)?;
        Ok(Self::read(self.event_id.clone(), Some(self.room_id.clone()), text, self.rejected)?)
    }
}

/// Since version 12 a room's id is the create event's id with another sigil.
fn room_named_after(event_id: &EventId) -> serde_json::Result<OwnedRoomId> {
    let hash = event_id.as_str().trim_start_matches('$');
    OwnedRoomId::try_from(format!("!{hash}")).map_err(serde_json::Error::custom)
}

/// A value, if it is of this type. Content is whatever its sender made of it: another type is no error here.
fn read_value<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

impl From<serde_json::Error> for RedactError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<CanonicalJsonFieldError> for RedactError {
    fn from(error: CanonicalJsonFieldError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Debug for Pdu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pdu")
            .field("event_id", &self.event_id)
            .field("rejected", &self.rejected)
            .field("json", &self.text)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Pdu {
    fn eq(&self, other: &Self) -> bool {
        self.event_id == other.event_id
            && self.text == other.text
            && self.rejected == other.rejected
    }
}

impl Eq for Pdu {}

/// How the law sees an event.
impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    /// What the text says: the law forbids the create event of version 12 to name its room.
    fn room_id(&self) -> Option<&RoomId> {
        self.says_room.then_some(&*self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }

    fn content(&self) -> &RawValue {
        self.content()
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    /// Only the authorisation rules of versions 1 and 2 ask, and they look beside the content.
    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_deref()?.top.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}
