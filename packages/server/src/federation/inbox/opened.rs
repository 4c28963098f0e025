//! Texts of a room's events, checked.

use matryx_core::event::{OpenError, Pdu, event_id_of};
use ruma::{OwnedEventId, RoomId, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;

use crate::{app::App, federation::parse};

/// What a text turned out to be.
pub(super) enum Opened {
    /// An event of the room.
    Event(Box<Pdu>),
    /// What can't be verified yet, and why; its id, where it can be named.
    Early(Option<OwnedEventId>, String),
    /// Nothing that can be let in, and why; its id, where it can be named.
    Unfit(Option<OwnedEventId>, String),
}

/// Checks form, signatures and hashes of events of a room; the answers are in the order of the texts.
pub(super) async fn open_all(
    app: &App,
    room: &RoomId,
    texts: Vec<Box<RawValue>>,
    rules: &RoomVersionRules,
) -> Vec<Opened> {
    let results = app.federation.open_all(texts.clone(), rules).await;
    let checked = |(text, result): (&RawValue, Result<Pdu, OpenError>)| {
        let pdu = match result {
            Ok(pdu) => pdu,
            // Rejected events are kept.
            Err(OpenError::Rejected { event, .. }) => *event,
            Err(OpenError::Key(why)) => return Opened::Early(name_of(text, rules), why),
            Err(error) => return Opened::Unfit(name_of(text, rules), error.to_string()),
        };
        if pdu.room_id() != room {
            let why = format!("the event belongs to {}", pdu.room_id());
            return Opened::Unfit(Some(pdu.event_id().clone()), why);
        }
        Opened::Event(Box::new(pdu))
    };
    texts.iter().map(|text| &**text).zip(results).map(checked).collect()
}

/// The id of an event that may not be fit for anything.
pub(super) fn name_of(text: &RawValue, rules: &RoomVersionRules) -> Option<OwnedEventId> {
    let mut object = parse(text).ok()?;
    object.remove("unsigned");
    event_id_of(&object, rules).ok()
}
