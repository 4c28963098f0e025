//! Templates: what a server that is in a room proposes that we say there.

use matryx_core::event::{Draft, Pdu, Place, seal};
use matryx_core::membership::Membership;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::TimelineEventType, room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::app::App;

/// What has to be said about somebody, and where.
pub(super) struct Wanted<'a> {
    pub(super) room: &'a RoomId,
    pub(super) user: &'a UserId,
    pub(super) membership: Membership,
    pub(super) content: CanonicalJsonObject,
}

#[derive(Deserialize)]
struct Template {
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    state_key: OwnedUserId,
    #[serde(rename = "type")]
    kind: TimelineEventType,
    content: Content,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    depth: u64,
}

#[derive(Deserialize)]
struct Content {
    membership: String,
}

/// Makes an event of a template. Of the template it takes only where the event stands in the room: what we say and sign is
/// ours to choose. <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid>
///
/// # Errors
/// A sentence: what is wrong with the template.
pub(super) fn sealed(
    app: &App,
    template: &RawValue,
    wanted: Wanted<'_>,
    rules: &RoomVersionRules,
) -> Result<Pdu, String> {
    let template: Template = serde_json::from_str(template.get())
        .map_err(|error| format!("its template is no event: {error}"))?;
    let fits = template.room_id == wanted.room
        && template.sender == wanted.user
        && template.state_key == wanted.user
        && template.kind == TimelineEventType::RoomMember
        && template.content.membership == wanted.membership.as_str();
    if !fits {
        return Err("its template is for something else than what it was asked for".to_owned());
    }
    let draft = Draft {
        sender: wanted.user.to_owned(),
        kind: TimelineEventType::RoomMember,
        state_key: Some(wanted.user.to_string()),
        content: wanted.content,
        redacts: None,
    };
    let place = Place {
        room_id: Some(template.room_id),
        prev_events: template.prev_events,
        auth_events: template.auth_events,
        depth: template.depth,
        origin_server_ts: app.clock.now(),
    };
    seal(draft, place, &app.server_name, &app.key, rules)
        .map_err(|refusal| format!("its template makes no event: {refusal}"))
}
