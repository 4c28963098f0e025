//! What joining, knocking and leaving through this server have in common: another server asks for a template, finishes and
//! signs it, and hands it in. We judge both times, because what comes back may be another user's event; let it in by the
//! room's lane; and bring it to all servers in the room.
//!
//! Faults of form are 400, signatures and what the rules forbid 403, rooms that we are not in 404.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::sync::Arc;

use http::StatusCode;
use matryx_core::{
    event::{OpenError, Pdu},
    membership::Action,
    room::Judgement,
};
use matryx_repository::StoredEvent;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedServerName,
    OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    api::error::{ErrorKind, IncompatibleRoomVersionErrorData},
    signatures::sign_event,
};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    app::App,
    http::ApiError,
    membership,
    room::{Door, NOT_INSIDE, Received, Room},
};

/// A template that is asked for.
pub(super) struct Wanted<'a> {
    pub(super) origin: &'a ServerName,
    pub(super) room: &'a RoomId,
    pub(super) user: &'a UserId,
    /// The room versions that the other server can handle, where it says so.
    pub(super) versions: Option<&'a [RoomVersionId]>,
}

/// An event that is handed in, as it came.
pub(super) struct HandedIn {
    pub(super) origin: OwnedServerName,
    pub(super) room: OwnedRoomId,
    pub(super) event: OwnedEventId,
    pub(super) pdu: Box<RawValue>,
}

/// A template that is given.
pub(super) struct Template {
    pub(super) version: RoomVersionId,
    pub(super) event: Box<RawValue>,
}

/// An event that has been let in.
pub(super) struct LetIn {
    pub(super) room: Arc<Room>,
    pub(super) event: Arc<StoredEvent>,
}

/// Answers `make_join`, `make_knock` and `make_leave`.
pub(super) async fn make(
    app: &App,
    wanted: Wanted<'_>,
    action: Action,
) -> Result<Template, ApiError> {
    let room = inside(app, wanted.room, wanted.origin).await?;
    if wanted.user.server_name() != wanted.origin {
        let message = format!("{} is no user of {}.", wanted.user, wanted.origin);
        return Err(ApiError::forbidden(message));
    }
    let version = room.look().version.clone();
    if wanted.versions.is_some_and(|versions| !versions.contains(&version)) {
        return Err(incompatible(version));
    }
    let event = membership::template(app, &room, action, wanted.user).await?;
    let event = to_raw_value(&event).map_err(ApiError::internal)?;
    Ok(Template { version, event })
}

/// Answers `send_join`, `send_knock` and `send_leave`: judges the event and lets it in. What was let in before is not
/// judged again: the other server has not heard our answer.
pub(super) async fn let_in(app: &App, handed: HandedIn, action: Action) -> Result<LetIn, ApiError> {
    let room = inside(app, &handed.room, &handed.origin).await?;
    let look = room.look();
    let mut object: CanonicalJsonObject = serde_json::from_str(handed.pdu.get())
        .map_err(|error| ApiError::bad_json(format!("The event is no canonical JSON: {error}.")))?;
    let user = own_membership(&object, &handed, action)?;
    if user.server_name() != handed.origin {
        let message = format!("{user} is no user of {}, which hands the event in.", handed.origin);
        return Err(ApiError::forbidden(message));
    }
    if action == Action::Join {
        // Ours is the signature of whoever vouches for a join by a condition. It leaves the house with the answer only.
        sign_event(app.server_name.as_str(), &*app.key, &mut object, &look.rules.redaction)
            .map_err(|error| ApiError::bad_json(format!("The event cannot be signed: {error}.")))?;
    }
    let vouching = membership::vouching(&object);
    let pdu = app.federation.open(object, &look.rules).await.map_err(unopened)?;
    if *pdu.event_id() != handed.event {
        let message = format!("The event is {}, and not the one of the path.", pdu.event_id());
        return Err(ApiError::invalid_param(message));
    }
    if let Some(event) = known(app, &pdu).await? {
        return Ok(LetIn { room, event });
    }
    // Its keys may have been looked for for long, at a server that the asker chose: the room counts as it is now.
    let room = inside(app, &handed.room, &handed.origin).await?;
    membership::check(app, &room.look(), action, &user, vouching.as_deref()).await?;
    receive(app, room, pdu).await
}

/// A room that we are in, and that lets the other server take part.
async fn inside(app: &App, room: &RoomId, origin: &ServerName) -> Result<Arc<Room>, ApiError> {
    let room = app.rooms.room(room).await?;
    let room = room.filter(|room| room.look().servers.contains_key(&app.server_name));
    let room = room.ok_or_else(|| ApiError::not_found(NOT_INSIDE))?;
    room.look().acl().check(origin)?;
    Ok(room)
}

/// Checks the form: a user's own membership of the room, and the one that belongs here. Returns whose.
fn own_membership(
    event: &CanonicalJsonObject,
    handed: &HandedIn,
    action: Action,
) -> Result<OwnedUserId, ApiError> {
    let text = |object: &CanonicalJsonObject, field: &str| match object.get(field) {
        Some(CanonicalJsonValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let wrong = |why: String| ApiError::invalid_param(why);
    if text(event, "type").as_deref() != Some("m.room.member") {
        return Err(wrong("Only events of the type m.room.member are taken here.".to_owned()));
    }
    let membership = match event.get("content") {
        Some(CanonicalJsonValue::Object(content)) => text(content, "membership"),
        _ => None,
    };
    if membership.as_deref() != Some(action.result().as_str()) {
        let wanted = action.result();
        return Err(wrong(format!("Only events with the membership `{wanted}` are taken here.")));
    }
    if text(event, "room_id").as_deref() != Some(handed.room.as_str()) {
        return Err(wrong("The event is not of the room of the path.".to_owned()));
    }
    let sender = text(event, "sender");
    if text(event, "state_key") != sender {
        return Err(wrong("The event must be about its sender (state_key).".to_owned()));
    }
    let user = sender.and_then(|sender| UserId::parse(sender).ok());
    user.ok_or_else(|| wrong("The event has no sender that is a user id.".to_owned()))
}

/// An event that was let in before.
async fn known(app: &App, pdu: &Pdu) -> Result<Option<Arc<StoredEvent>>, ApiError> {
    let event = app.rooms.events().get(pdu.event_id()).await?;
    Ok(event.filter(|event| event.n.is_some() && event.fate == Judgement::Accepted))
}

async fn receive(app: &App, room: Arc<Room>, pdu: Pdu) -> Result<LetIn, ApiError> {
    let id = pdu.event_id().clone();
    match app.rooms.receive(pdu, Door::Handshake).await? {
        Received::Judged(Judgement::Accepted) | Received::Known(Judgement::Accepted) => {}
        Received::Judged(Judgement::SoftFailed(why) | Judgement::Rejected(why))
        | Received::Known(Judgement::SoftFailed(why) | Judgement::Rejected(why)) => {
            return Err(ApiError::forbidden(format!("The event is not allowed {why}")));
        }
        Received::Missing(missing) => {
            let [first, ..] = missing.as_slice() else {
                return Err(ApiError::internal("events are missing, and none of them is named"));
            };
            return Err(ApiError::invalid_param(format!(
                "The event names {first} among its auth_events or prev_events, which this server does not have: take those of the template."
            )));
        }
    }
    let event = app.rooms.events().get(&id).await?;
    let event =
        event.ok_or_else(|| ApiError::internal(format!("{id} was let in and is not kept")))?;
    Ok(LetIn { room, event })
}

fn incompatible(version: RoomVersionId) -> ApiError {
    let message = format!("The room has version {version}, which your server does not know.");
    let kind = ErrorKind::IncompatibleRoomVersion(IncompatibleRoomVersionErrorData::new(version));
    ApiError::new(StatusCode::BAD_REQUEST, kind, message)
}

fn unopened(error: OpenError) -> ApiError {
    match error {
        OpenError::TooLarge(why) => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, why)
        }
        OpenError::Format(why) | OpenError::Version(why) => ApiError::bad_json(format!(
            "The event does not have the form that the room's version asks for: {why}"
        )),
        error @ (OpenError::Signature(_) | OpenError::Key(_) | OpenError::Rejected { .. }) => {
            ApiError::forbidden(format!("The event is not let in: {error}."))
        }
    }
}
