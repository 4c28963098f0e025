//! Reading a room: its state, its members, one event.
//!
//! Members read what is, those who were members what was when they left. See [`crate::room::Reading`].

use std::{collections::BTreeMap, sync::Arc};

use matryx_core::{
    membership::{Membership, UnknownMembership},
    room::{StateEntry, StateKey},
};
use matryx_repository::StoredEvent;
use ruma::{
    OwnedUserId, UserId,
    api::client::{
        membership::{get_member_events, joined_members, joined_rooms},
        room::get_room_event,
        state::{get_state_event_for_key, get_state_events},
    },
    events::room::member::MembershipState,
    serde::Raw,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Map;

use crate::{
    app::App,
    http::{ApiError, Matrix, Mend, Mended, Plain},
    room::{Reading, Viewer, members},
    sync::token,
    user::Requester,
};

/// The line with which somebody is in a room: its creator joins. `prev_batch` of a timeline that shows all of a room is a place
/// before that, where nobody was.
const BEGUN: i64 = 2;

/// `GET /_matrix/client/v3/rooms/{roomId}/state`
///
/// The whole state. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate>
pub(in super::super) async fn state(
    app: App,
    matrix: Matrix<get_state_events::v3::Request>,
) -> Result<get_state_events::v3::Response, ApiError> {
    let reading = app.rooms.reading(&matrix.request.room_id, &matrix.identity.user_id).await?;
    let state = reading.state(&app.rooms).await?;
    let events = events_of(&app, state.values()).await?;
    let events = written(&app, &reading, &matrix.identity, &events).await?;
    Ok(get_state_events::v3::Response::new(events))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
///
/// The content of one state event, or the event with `format=event`.
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey>
pub(in super::super) async fn state_event(
    app: App,
    matrix: Matrix<get_state_event_for_key::v3::Request>,
) -> Result<get_state_event_for_key::v3::Response, ApiError> {
    use get_state_event_for_key::v3::{Response, StateEventFormat};
    let request = matrix.request;
    let whole = match &request.format {
        StateEventFormat::Content => false,
        StateEventFormat::Event => true,
        other => {
            let sentence =
                format!("{:?} is no `format`; `content` and `event` are.", other.as_str());
            return Err(ApiError::invalid_param(sentence));
        }
    };
    let reading = app.rooms.reading(&request.room_id, &matrix.identity.user_id).await?;
    let key = StateKey::new(request.event_type, request.state_key);
    let state = reading.state(&app.rooms).await?;
    let event = match state.get(&key) {
        Some(entry) => app.rooms.events().get(&entry.event_id).await?,
        None => None,
    };
    let Some(event) = event else {
        return Err(ApiError::not_found(format!(
            "The room has no {} event with the state key \"{}\".",
            key.kind, key.key
        )));
    };
    if whole {
        let event = written::<Raw<()>>(&app, &reading, &matrix.identity, &[event]).await?.remove(0);
        return Ok(Response::new(event.into_json()));
    }
    Ok(Response::new(event.pdu.content().to_owned()))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/members`
///
/// Everybody with a member event, now or at a token.
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers>
pub(in super::super) async fn member_events(
    app: App,
    matrix: Matrix<get_member_events::v3::Request>,
) -> Result<get_member_events::v3::Response, ApiError> {
    let request = matrix.request;
    let reading = app.rooms.reading(&request.room_id, &matrix.identity.user_id).await?;
    let n = match &request.at {
        Some(at) => token::line_at(&app.rooms, &reading.room, at).await?,
        None => reading.until,
    };
    let mut state = reading.state_as_of(&app.rooms, n).await?;
    if n < BEGUN && members(&state).next().is_none() {
        state = reading.state_as_of(&app.rooms, BEGUN).await?;
    }
    let (yes, no) = (known(request.membership.as_ref())?, known(request.not_membership.as_ref())?);
    let wanted = |membership: Membership| match (yes, no) {
        (None, None) => true,
        (yes, no) => yes == Some(membership) || no.is_some_and(|no| no != membership),
    };
    let entries = members(&state)
        .map(|(_, entry)| entry)
        .filter(|entry| entry.membership.is_some_and(wanted));
    let events = events_of(&app, entries).await?;
    let events = written(&app, &reading, &matrix.identity, &events).await?;
    Ok(get_member_events::v3::Response::new(events))
}

/// A membership that is asked for. ruma takes any word for one.
fn known(asked: Option<&MembershipState>) -> Result<Option<Membership>, ApiError> {
    let known = asked.map(|asked| asked.as_str().parse()).transpose();
    known.map_err(|unknown: UnknownMembership| ApiError::invalid_param(format!("{unknown}.")))
}

/// Who is in a room. ruma leaves out what is not there; clients have always been given it as null.
#[derive(Debug, Serialize)]
pub(in super::super) struct Joined {
    joined: BTreeMap<OwnedUserId, Profile>,
}

/// What a member event says of its user. Others may have written anything into it; what is no text is no name.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Profile {
    #[serde(rename(deserialize = "displayname"), default, deserialize_with = "text")]
    display_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    avatar_url: Option<String>,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().map(str::to_owned))
}

impl Mend for Joined {
    type Reply = Plain<Self>;

    fn mend(_: &mut Map<String, serde_json::Value>) -> Result<(), serde_json::Error> {
        Ok(())
    }
}

/// `GET /_matrix/client/v3/rooms/{roomId}/joined_members`
///
/// Who is in the room, with name and picture; for those who are in it themselves.
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidjoined_members>
pub(in super::super) async fn joined(
    app: App,
    matrix: Matrix<Mended<joined_members::v3::Request, Joined>>,
) -> Result<Plain<Joined>, ApiError> {
    let room = &matrix.request.request.room_id;
    let reading = app.rooms.reading(room, &matrix.identity.user_id).await?;
    if reading.membership != Membership::Joined {
        return Err(ApiError::forbidden("You are not in this room."));
    }
    let here = members(&reading.look.state)
        .filter(|(_, entry)| entry.membership == Some(Membership::Joined))
        .map(|(_, entry)| entry);
    let mut joined = BTreeMap::new();
    for event in events_of(&app, here).await? {
        let Some(Ok(user)) = event.pdu.state_key().map(UserId::parse) else { continue };
        joined.insert(user, event.pdu.content_as().unwrap_or_default());
    }
    Ok(Plain(Joined { joined }))
}

/// `GET /_matrix/client/v3/joined_rooms`
///
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3joined_rooms>
pub(in super::super) async fn joined_rooms(
    app: App,
    matrix: Matrix<joined_rooms::v3::Request>,
) -> Result<joined_rooms::v3::Response, ApiError> {
    let standing = app.rooms.stream().standing(&matrix.identity.user_id).await?;
    let mut rooms: Vec<_> = standing
        .rooms
        .values()
        .filter(|mine| mine.membership == Membership::Joined)
        .map(|mine| mine.room.clone())
        .collect();
    rooms.sort();
    Ok(joined_rooms::v3::Response::new(rooms))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`
///
/// One event. What the user may not see does not exist for them: 404.
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid>
pub(in super::super) async fn event(
    app: App,
    matrix: Matrix<get_room_event::v3::Request>,
) -> Result<get_room_event::v3::Response, ApiError> {
    let request = matrix.request;
    let hidden = || ApiError::not_found("There is no such event, or you may not see it.");
    let mut reading =
        app.rooms.reading(&request.room_id, &matrix.identity.user_id).await.map_err(|error| {
            match ApiError::from(error) {
                refused if refused.status() == http::StatusCode::FORBIDDEN => hidden(),
                failed => failed,
            }
        })?;
    let event = app.rooms.events().get(&request.event_id).await?.ok_or_else(hidden)?;
    app.rooms.reach_back(&reading.room, &mut reading.sight, std::slice::from_ref(&event)).await?;
    let visible = event.pdu.room_id() == request.room_id
        && event.n.is_some_and(|n| reading.reaches(n) && reading.sight.sees(n, &event));
    if !visible {
        return Err(hidden());
    }
    let event = written(&app, &reading, &matrix.identity, &[event]).await?.remove(0);
    Ok(get_room_event::v3::Response::new(event))
}

/// The events that stand in a state.
async fn events_of<'a>(
    app: &App,
    entries: impl Iterator<Item = &'a StateEntry>,
) -> Result<Vec<Arc<StoredEvent>>, ApiError> {
    let ids: Vec<_> = entries.map(|entry| &*entry.event_id).collect();
    let mut found = app.rooms.events().get_all(ids.iter().copied()).await?;
    Ok(ids.into_iter().filter_map(|id| found.remove(id)).collect())
}

/// Events as the requester is given them.
pub(super) async fn written<T>(
    app: &App,
    reading: &Reading,
    requester: &Requester,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<Raw<T>>, ApiError> {
    let viewer = Viewer {
        user: &requester.user_id,
        device: requester.device_id.as_deref(),
        sight: Some(&reading.sight),
        now: app.clock.now(),
        with_room_id: true,
    };
    let events = events.iter().map(|event| &**event);
    Ok(app.rooms.events().for_client(events, &reading.look.rules, viewer).await?)
}
