//! Knocking: asking to be invited. It is taken back by leaving, accepted by an invite, denied by a kick.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use matryx_core::{
    event::Pdu,
    membership::{Action, Membership},
};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId,
    api::{
        error::ErrorCode,
        federation::membership::{create_knock_event, prepare_knock_event},
    },
};
use serde_json::value::RawValue;

use super::{
    change::{Verb, change},
    content,
    elsewhere::{because, passed_on, told},
    out_of_band::{self, Arrival, arrived},
    profile,
    template::{Wanted, sealed},
};
use crate::{
    app::App,
    config::ROOM_VERSIONS,
    federation::PeerError,
    room::{Look, SendError, shown},
};

/// How long a server may take over each of the two questions. Somebody waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many servers are asked at most.
const MOST_SERVERS: usize = 5;

/// Knocks on a room: here if we are in it, else through the servers in `via` and those that are known to be in it.
///
/// # Errors
/// The rule that forbids it, why no other server could let the knock in, or why the server could not.
pub async fn knock(
    app: &App,
    room: &RoomId,
    via: Vec<OwnedServerName>,
    user: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    let look = app.rooms.room(room).await?.map(|room| room.look());
    if out_of_band::is_resident(app, look.as_deref()) {
        return change(app, room, Verb::Plain(Action::Knock), user, user, content).await;
    }
    let servers = servers(app, room, look.as_deref(), via, user).await?;
    if servers.is_empty() {
        // Nobody else is in it: we decide alone.
        return change(app, room, Verb::Plain(Action::Knock), user, user, content).await;
    }
    let profile = profile::of(app, user).await?;
    let content = content::of_member(Membership::Knocking, content::cleaned(content)?, &profile);
    let mut worst: Option<PeerError> = None;
    for (at, server) in servers.iter().enumerate() {
        match through(app, room, server, user, content.clone()).await {
            Ok(let_in) => {
                let mut via = servers.clone();
                via.swap(0, at);
                return settle(app, user, via, let_in).await;
            }
            Err(error) => {
                tracing::info!(%error, %room, %server, "knock.refused");
                if worst.as_ref().is_none_or(|worst| weight(&error) > weight(worst)) {
                    worst = Some(error);
                }
            }
        }
    }
    Err(worst.map_or(SendError::UnknownRoom, |error| refused(&error)))
}

/// The servers to knock through, in the order in which they are asked.
async fn servers(
    app: &App,
    room: &RoomId,
    look: Option<&Look>,
    via: Vec<OwnedServerName>,
    user: &UserId,
) -> Result<Vec<OwnedServerName>, SendError> {
    let known = out_of_band::way(app, room, user).await?.map(|way| way.via).unwrap_or_default();
    // Since version 12 no server stands in a room's id, and before that it only says who made the room.
    let maker = room.server_name().map(ToOwned::to_owned);
    // What the room was like when the last of us left it: who was in it then knows what it is like now.
    let left = look.into_iter().flat_map(|look| look.servers.keys().cloned());
    let mut servers: Vec<OwnedServerName> = Vec::new();
    for server in via.into_iter().chain(known).chain(left).chain(maker) {
        if server != app.server_name && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.truncate(MOST_SERVERS);
    Ok(servers)
}

/// A knock that another server has let in.
struct LetIn {
    pdu: Pdu,
    version: RoomVersionId,
    stripped: Vec<Box<RawValue>>,
}

/// Knocks through one server. <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>
async fn through(
    app: &App,
    room: &RoomId,
    server: &ServerName,
    user: &UserId,
    content: CanonicalJsonObject,
) -> Result<LetIn, PeerError> {
    let malformed = |why: String| PeerError::malformed(&format!("{server}: {why}"));
    let client = app.federation.client().anyway();
    let mut request = prepare_knock_event::v1::Request::new(room.to_owned(), user.to_owned());
    request.ver = ROOM_VERSIONS.to_vec();
    let answer = client.ask(server, request, PATIENCE).await?;
    let version = answer.room_version;
    let rules = version.rules().filter(|_| ROOM_VERSIONS.contains(&version));
    let rules = rules
        .ok_or_else(|| malformed(format!("it was not asked for a room of version {version}")))?;
    let wanted = Wanted { room, user, membership: Membership::Knocking, content };
    let pdu = sealed(app, &answer.event, wanted, &rules).map_err(malformed)?;
    let json = RawValue::from_string(pdu.json().to_owned());
    let json = json.map_err(|error| malformed(error.to_string()))?;
    let event_id = pdu.event_id().clone();
    let request = create_knock_event::v1::Request::new(room.to_owned(), event_id, json);
    let answer = client.ask(server, request, PATIENCE).await?;
    let stripped = answer.knock_room_state.into_iter().map(shown).collect();
    Ok(LetIn { pdu, version, stripped })
}

/// Writes down that the user knocks.
async fn settle(
    app: &App,
    user: &UserId,
    via: Vec<OwnedServerName>,
    let_in: LetIn,
) -> Result<OwnedEventId, SendError> {
    let LetIn { pdu, version, stripped } = let_in;
    let event = pdu.event_id().clone();
    let user = user.to_owned();
    arrived(app, Arrival { user, pdu: Arc::new(pdu), version, stripped, via }).await?;
    Ok(event)
}

/// Which of several errors says most about the room: that of a server which is in it and says no.
fn weight(error: &PeerError) -> u8 {
    match error.errcode().filter(|_| passed_on(error).is_some()) {
        Some(ErrorCode::NotFound) => 2,
        Some(ErrorCode::IncompatibleRoomVersion) => 3,
        Some(_) => 4,
        None if error.status().is_some() => 1,
        None => 0,
    }
}

fn refused(error: &PeerError) -> SendError {
    if let Some(theirs) = passed_on(error) {
        return theirs.into();
    }
    let sentence = because("No server that is in the room could let the knock in", error);
    told(StatusCode::BAD_GATEWAY, "M_UNKNOWN", sentence)
}
