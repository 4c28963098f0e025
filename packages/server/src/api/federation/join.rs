//! Joining through this server.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use matryx_core::{
    membership::{Action, Membership},
    room::{StateEntry, StateKey, StateMap},
};
use matryx_repository::StoredEvent;
use ruma::{
    EventId, OwnedServerName, UserId,
    api::federation::membership::{
        create_join_event::v2::{self as send, RoomState},
        prepare_join_event::v1 as make,
    },
    events::StateEventType,
};
use serde::Deserialize;

use super::{
    given::raw,
    handshake::{self, HandedIn, LetIn, Wanted},
    old::{Old, OldAnswer, old},
};
use crate::{
    app::App,
    http::{ApiError, Matrix},
    room::members,
};

/// How many members a nameless room is named after.
const HEROES: usize = 5;
/// Of how many members the events are read to find those who came first.
const FEW: usize = 100;

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
pub(super) async fn template(
    app: App,
    matrix: Matrix<make::Request>,
) -> Result<make::Response, ApiError> {
    let Matrix { request, identity: origin, .. } = matrix;
    let wanted = Wanted {
        origin: &origin,
        room: &request.room_id,
        user: &request.user_id,
        versions: Some(&request.ver),
    };
    let template = handshake::make(&app, wanted, Action::Join).await?;
    let mut response = make::Response::new(template.event);
    response.room_version = Some(template.version);
    Ok(response)
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
pub(super) async fn hand_in(
    app: App,
    Matrix { request, identity, .. }: Matrix<send::Request>,
) -> Result<send::Response, ApiError> {
    Ok(send::Response::new(join(&app, identity, request).await?))
}

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`
pub(super) async fn hand_in_old(
    app: App,
    Matrix { request, identity, .. }: Matrix<Old<send::Request, RoomState>>,
) -> Result<OldAnswer<RoomState>, ApiError> {
    Ok(old(join(&app, identity, request.request).await?))
}

async fn join(
    app: &App,
    origin: OwnedServerName,
    request: send::Request,
) -> Result<RoomState, ApiError> {
    let send::Request { room_id: room, event_id: event, pdu, omit_members, .. } = request;
    let handed = HandedIn { origin, room, event, pdu };
    let joined = handshake::let_in(app, handed, Action::Join).await?;
    let before = app.rooms.state_before_event(&joined.event).await?;
    let before = before
        .ok_or_else(|| ApiError::internal("the state before a join that was let in is not kept"))?;
    answer(app, &joined, &before, omit_members).await
}

/// The room as it was before the join, and what allows it. Without members, but for those after whom it is named, if the
/// other server would rather be quick than know them at once; then also without repeating anything.
async fn answer(
    app: &App,
    joined: &LetIn,
    before: &StateMap,
    omit_members: bool,
) -> Result<RoomState, ApiError> {
    let rules = &joined.room.look().rules;
    let wanted = |key: &StateKey| !omit_members || key.kind != StateEventType::RoomMember;
    let ids = before.iter().filter(|(key, _)| wanted(key)).map(|(_, entry)| &*entry.event_id);
    let mut state = events(app, ids).await?;
    if omit_members && !named(&state) {
        state.extend(heroes(app, before).await?);
    }
    let pdus = state.iter().chain([&joined.event]).map(|event| &*event.pdu);
    let mut chain = app.rooms.auth_chain(rules, pdus).await?;
    if omit_members {
        let said: HashSet<&EventId> = state.iter().map(|event| &**event.pdu.event_id()).collect();
        chain.retain(|event| !said.contains(&**event.pdu.event_id()));
    }
    let texts = |events: &[Arc<StoredEvent>]| {
        events.iter().map(|event| raw(&event.pdu)).collect::<Result<Vec<_>, _>>()
    };
    let mut response = RoomState::new();
    response.members_omitted = omit_members;
    response.auth_chain = texts(&chain)?;
    response.state = texts(&state)?;
    response.event = Some(raw(&joined.event.pdu)?);
    response.servers_in_room = Some(servers(before));
    Ok(response)
}

async fn events<'a>(
    app: &App,
    ids: impl Iterator<Item = &'a EventId>,
) -> Result<Vec<Arc<StoredEvent>>, ApiError> {
    let ids: Vec<&EventId> = ids.collect();
    let mut found = app.rooms.events().get_all(ids.iter().copied()).await?;
    Ok(ids.into_iter().filter_map(|id| found.remove(id)).collect())
}

/// Whether a room has a name or an alias that is not empty.
fn named(state: &[Arc<StoredEvent>]) -> bool {
    #[derive(Deserialize)]
    struct Content {
        name: Option<String>,
        alias: Option<String>,
    }
    state.iter().any(|event| {
        let content = || event.pdu.content_as::<Content>().ok();
        let text = match (event.pdu.kind().to_string().as_str(), event.pdu.state_key()) {
            ("m.room.name", Some("")) => content().and_then(|content| content.name),
            ("m.room.canonical_alias", Some("")) => content().and_then(|content| content.alias),
            _ => None,
        };
        text.is_some_and(|text| !text.is_empty())
    })
}

/// The members after whom a nameless room is named: the first ones who are joined or invited, or else the first ones who
/// are neither any more.
async fn heroes(app: &App, state: &StateMap) -> Result<Vec<Arc<StoredEvent>>, ApiError> {
    let with = |fits: fn(Membership) -> bool| {
        members(state)
            .map(|(_, entry)| entry)
            .filter(move |entry: &&StateEntry| entry.membership.is_some_and(fits))
    };
    let here = |membership| matches!(membership, Membership::Joined | Membership::Invited);
    let gone = |membership| matches!(membership, Membership::Left | Membership::Banned);
    let mut found: Vec<_> = with(here).take(FEW).collect();
    if found.is_empty() {
        found = with(gone).take(FEW).collect();
    }
    let mut found = events(app, found.into_iter().map(|entry| &*entry.event_id)).await?;
    found.sort_by_key(|event| (event.n.unwrap_or(i64::MAX), event.pdu.origin_server_ts()));
    found.truncate(HEROES);
    Ok(found)
}

/// The servers with somebody in the room.
fn servers(state: &StateMap) -> Vec<String> {
    let joined = members(state).filter(|(_, entry)| entry.membership == Some(Membership::Joined));
    let names = joined.filter_map(|(key, _)| <&UserId>::try_from(&*key.key).ok());
    let names: BTreeSet<&str> = names.map(|user| user.server_name().as_str()).collect();
    names.into_iter().map(str::to_owned).collect()
}
