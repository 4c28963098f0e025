//! Invites to users of ours, by users of other servers.
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::sync::Arc;

use http::StatusCode;
use matryx_core::{
    event::{OpenError, Pdu, event_id_of},
    membership::Membership,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, RoomVersionId, ServerName,
    api::{
        error::{ErrorKind, IncompatibleRoomVersionErrorData},
        federation::membership::create_invite,
    },
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    app::App,
    http::{ApiError, Matrix},
    membership::out_of_band::{Arrival, arrived},
    room::shown,
    user::UserError,
};

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
///
/// Invite a user of this server. <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>
pub(super) async fn invite(
    app: App,
    matrix: Matrix<create_invite::v2::Request>,
) -> Result<create_invite::v2::Response, ApiError> {
    let origin = matrix.origin().to_owned();
    let request = matrix.request;
    let version = request.room_version.clone();
    let rules = understood(&version)?;
    may_ask(&app, &request, &origin).await?;
    let object = object(&request.event)?;
    let pdu = open(&app, object.clone(), &rules).await?;
    let user = check(&app, &request, &pdu, &origin)?;
    let stripped: Vec<Box<RawValue>> = request.invite_room_state.into_iter().map(shown).collect();
    check_create(&app, &pdu, &stripped, &rules).await?;
    check_account(&app, &user).await?;
    let signed = countersigned(&app, object, &rules)?;
    let pdu = Arc::new(open(&app, signed.clone(), &rules).await?);
    let arrival = Arrival { user, pdu, version, stripped, via: vec![origin] };
    // Where we are in the room, its own servers send the event too: there it gets its place.
    arrived(&app, arrival).await?;
    let event = to_raw_value(&signed).map_err(ApiError::internal)?;
    Ok(create_invite::v2::Response::new(event))
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`
///
/// The same for rooms of versions 1 and 2, which this server does not support.
/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid>
pub(super) async fn invite_v1(
    _: App,
    _: Matrix<create_invite::v1::Request>,
) -> Result<create_invite::v1::Response, ApiError> {
    Err(incompatible(&RoomVersionId::V1))
}

fn understood(version: &RoomVersionId) -> Result<RoomVersionRules, ApiError> {
    use ruma::room_version_rules::EventsReferenceFormatVersion as Format;
    let rules = version.rules().filter(|rules| rules.events_reference_format != Format::V1);
    rules.ok_or_else(|| incompatible(version))
}

fn incompatible(version: &RoomVersionId) -> ApiError {
    let data = IncompatibleRoomVersionErrorData::new(version.clone());
    ApiError::new(
        StatusCode::BAD_REQUEST,
        ErrorKind::IncompatibleRoomVersion(data),
        format!("This server does not support rooms of version {version}."),
    )
}

/// Whether the room's access rules deny the server, and whether it knows what room that is. Of a room that we are not in, we
/// know neither.
async fn may_ask(
    app: &App,
    request: &create_invite::v2::Request,
    origin: &ServerName,
) -> Result<(), ApiError> {
    let Some(room) = app.rooms.room(&request.room_id).await? else { return Ok(()) };
    let look = room.look();
    if !look.servers.contains_key(&app.server_name) {
        return Ok(());
    }
    if !look.acl().allows(origin) {
        return Err(ApiError::forbidden("The access rules of this room deny your server."));
    }
    if look.version != request.room_version {
        let (named, version) = (&request.room_version, &look.version);
        let message = format!("The room has version {version}, and not {named}.");
        return Err(ApiError::invalid_param(message));
    }
    Ok(())
}

fn object(event: &RawValue) -> Result<CanonicalJsonObject, ApiError> {
    serde_json::from_str(event.get()).map_err(|error| {
        ApiError::bad_json(format!("`event` is no object of canonical JSON: {error}."))
    })
}

async fn open(
    app: &App,
    object: CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<Pdu, ApiError> {
    let hash = object.get("content").cloned();
    let pdu = app.federation.open(object, rules).await.map_err(|error| match error {
        OpenError::Signature(_) | OpenError::Key(_) | OpenError::Rejected { .. } => {
            ApiError::forbidden(format!("The invite is not signed as it must be: {error}."))
        }
        error => ApiError::bad_json(format!("The invite is no event: {error}.")),
    })?;
    // One whose content is not what was hashed is opened as its redacted copy, which we do not sign.
    let same = pdu
        .content_as::<CanonicalJsonObject>()
        .is_ok_and(|content| hash == Some(CanonicalJsonValue::Object(content)));
    if same {
        return Ok(pdu);
    }
    Err(ApiError::invalid_param("The content of the invite does not have the hash that it names."))
}

/// Whether it is an invite of a user of ours by one of theirs, and the one that the path names.
fn check(
    app: &App,
    request: &create_invite::v2::Request,
    pdu: &Pdu,
    origin: &ServerName,
) -> Result<OwnedUserId, ApiError> {
    let bad = |message: &str| Err(ApiError::invalid_param(message));
    if pdu.room_id() != request.room_id {
        return bad("The room in the path is not the event's.");
    }
    if *pdu.event_id() != request.event_id {
        return bad("The event id in the path is not the event's: it is its reference hash.");
    }
    if *pdu.kind() != TimelineEventType::RoomMember {
        return bad("The event is no `m.room.member`.");
    }
    if pdu.membership() != Some(Membership::Invited) {
        return bad("The event's `membership` is not `invite`.");
    }
    if pdu.sender().server_name() != origin {
        return Err(ApiError::forbidden("The sender of the invite is not of your server."));
    }
    let user = pdu.state_key().and_then(|user| OwnedUserId::try_from(user).ok());
    match user.filter(|user| user.server_name() == app.server_name) {
        Some(user) => Ok(user),
        None => bad("The `state_key` is no user of this server."),
    }
}

/// Whether the stripped state has the room's create event. Since version 12 the room's id is that event's hash, so that one
/// that is missing or false is noticed; before, servers send what they like, and it is only shown. Where the server that made
/// the room is gone, and its keys with it, the hash alone has to do: whoever joins is shown the signature's proof or no room.
/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>
async fn check_create(
    app: &App,
    pdu: &Pdu,
    stripped: &[Box<RawValue>],
    rules: &RoomVersionRules,
) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Sent {
        #[serde(rename = "type")]
        kind: StateEventType,
        state_key: String,
    }
    if !rules.authorization.room_create_event_id_as_room_id {
        return Ok(());
    }
    let is_create = |raw: &RawValue| {
        let sent: Result<Sent, _> = serde_json::from_str(raw.get());
        sent.is_ok_and(|sent| sent.kind == StateEventType::RoomCreate && sent.state_key.is_empty())
    };
    let Some(create) = stripped.iter().find(|raw| is_create(raw)) else {
        let message = "`invite_room_state` does not have the room's `m.room.create`.";
        return Err(ApiError::missing_param(message));
    };
    let bad = |why: String| {
        ApiError::invalid_param(format!("The `m.room.create` in `invite_room_state` is {why}."))
    };
    let object: CanonicalJsonObject =
        serde_json::from_str(create.get()).map_err(|error| bad(format!("no event: {error}")))?;
    let id = event_id_of(&object, rules).map_err(|why| bad(format!("no event: {why}")))?;
    if id.as_str().strip_prefix('$') != Some(pdu.room_id().strip_sigil()) {
        return Err(bad("another room's".to_owned()));
    }
    match app.federation.open(object, rules).await {
        Ok(_) => Ok(()),
        // Nobody tells the keys: its signature is neither right nor wrong, and its hash is the room's name.
        Err(OpenError::Key(why)) => {
            tracing::info!(room = %pdu.room_id(), %why, "invite.create_not_verified");
            Ok(())
        }
        Err(error) => Err(bad(format!("no event that can be believed: {error}"))),
    }
}

async fn check_account(app: &App, user: &OwnedUserId) -> Result<(), ApiError> {
    match app.users.in_use(user).await {
        Err(UserError::NotFound(_)) => {
            Err(ApiError::not_found(format!("There is no user {user}.")))
        }
        Err(UserError::Deactivated) => {
            Err(ApiError::forbidden(format!("The account of {user} is closed.")))
        }
        other => Ok(other?),
    }
}

/// The event as it came, with our signature on it.
fn countersigned(
    app: &App,
    mut event: CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonObject, ApiError> {
    let mut redacted = ruma::canonical_json::redact(event.clone(), &rules.redaction, None)
        .map_err(|error| ApiError::bad_json(format!("The invite is no event: {error}.")))?;
    redacted.remove("unsigned");
    let keys = app.federation.keys().own();
    keys.countersign(&app.server_name, &mut redacted).map_err(ApiError::internal)?;
    if let Some(signatures) = redacted.remove("signatures") {
        event.insert("signatures".to_owned(), signatures);
    }
    Ok(event)
}
