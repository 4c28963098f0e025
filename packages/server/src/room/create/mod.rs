//! Creating a room: everything that is said at first, in the specification's order, as one append.
//! <https://spec.matrix.org/v1.19/client-server-api/#creation>

mod creation;
mod first;
mod levels;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use matryx_core::{
    event::{Draft, Pdu, Place, seal},
    refusal::{Refusal, RefusalKind},
};
use matryx_repository::{Alias, StoreError};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId,
    OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, RoomVersionId, UInt, UserId,
    events::TimelineEventType, room_version_rules::RoomVersionRules,
};
use serde::Deserialize;

use super::{Changes, Intent, Proposal, Said, SendError};
use crate::{app::App, membership};

/// What somebody wants of a new room.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// The room version.
    pub version: RoomVersionId,
    /// What the create event says besides what the server says in it.
    pub creation_content: CanonicalJsonObject,
    /// Who may join and read.
    pub preset: Preset,
    /// State of the creator's own choice. It goes before the preset.
    pub initial_state: Vec<InitialState>,
    /// What of the power levels is to be otherwise.
    pub levels: CanonicalJsonObject,
    /// The room's name.
    pub name: Option<String>,
    /// The room's topic.
    pub topic: Option<String>,
    /// An alias of this server.
    pub alias: Option<OwnedRoomAliasId>,
    /// Who is invited.
    pub invite: Vec<OwnedUserId>,
    /// Whether the invites say that this is a conversation with the invited alone.
    pub is_direct: bool,
}

/// Who may join and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Preset {
    /// The invited.
    #[serde(rename = "private_chat")]
    Private,
    /// The invited, who have as much power as the creator.
    #[serde(rename = "trusted_private_chat")]
    TrustedPrivate,
    /// Everybody.
    #[serde(rename = "public_chat")]
    Public,
}

/// A piece of state of the creator's own choice.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// The event type.
    pub kind: TimelineEventType,
    /// The state key.
    pub state_key: String,
    /// The content.
    pub content: CanonicalJsonObject,
}

/// The profiles of those who are in the first events.
type Profiles = BTreeMap<OwnedUserId, CanonicalJsonObject>;

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many invites and pieces of initial state a room begins with.
const MOST: usize = 1000;

/// How many rooms with the same create event somebody may make in the same millisecond.
const AT_ONCE: u32 = 10_000;

/// How many users of other servers are invited at the same time. Their invites follow the same event, so that the room forks
/// for a moment.
const AT_ONCE_ELSEWHERE: usize = 4;

/// What a new room begins with, beside its create event.
struct First {
    events: Vec<Draft>,
    alias: Option<OwnedRoomAliasId>,
    creator: OwnedUserId,
}

/// A room that has been created.
#[derive(Debug)]
pub struct Created {
    /// Its id.
    pub room: OwnedRoomId,
    /// The users of other servers who could not be invited, and why.
    pub not_invited: BTreeMap<OwnedUserId, SendError>,
}

/// Creates a room.
///
/// # Errors
/// What is wrong with what is wanted, or why the server could not. There is no room then.
pub async fn create(app: &App, creator: &UserId, wanted: NewRoom) -> Result<Created, SendError> {
    let rules = wanted.version.rules().ok_or_else(|| unsupported(&wanted.version))?;
    check_size(&wanted)?;
    let create = creation::event(creator, &wanted, &rules)?;
    let profiles = profiles(app, creator, &wanted).await?;
    let first = First {
        events: first::events(creator, &wanted, &rules, &create, &profiles)?,
        alias: wanted.alias.clone(),
        creator: creator.to_owned(),
    };
    check_alias(app, first.alias.as_deref()).await?;
    let room = if rules.authorization.room_create_event_id_as_room_id {
        named_by_its_event(app, &wanted.version, &rules, create, &first).await
    } else {
        named_at_random(app, &wanted.version, create, &first).await
    };
    match room {
        Ok(room) => {
            let not_invited = invite_elsewhere(app, &room, creator, &wanted).await;
            Ok(Created { room, not_invited })
        }
        Err(SendError::Refused(refusal)) => Err(contradiction(refusal).into()),
        Err(error) => {
            // Another room may have taken the alias in the meantime: its row is what cannot be written twice.
            check_alias(app, first.alias.as_deref()).await?;
            Err(error)
        }
    }
}

/// Before version 12 the server chooses the room's id.
async fn named_at_random(
    app: &App,
    version: &RoomVersionId,
    create: Draft,
    first: &First,
) -> Result<OwnedRoomId, SendError> {
    let name = app.random.text(18, LETTERS);
    let room = RoomId::parse(format!("!{name}:{}", app.server_name))
        .map_err(|error| Refusal::new(RefusalKind::Unknown, error.to_string()))?;
    let intent = everything(&room, move || Said::Draft(create.clone()), first);
    app.rooms.create(room.clone(), version.clone(), intent).await?;
    Ok(room)
}

/// Since version 12 the room's id is its create event's. Somebody who makes two equal rooms in one millisecond means two
/// rooms: the second is dated a millisecond later.
async fn named_by_its_event(
    app: &App,
    version: &RoomVersionId,
    rules: &RoomVersionRules,
    create: Draft,
    first: &First,
) -> Result<OwnedRoomId, SendError> {
    let now = app.clock.now().0;
    for later in 0..AT_ONCE {
        let place = Place {
            room_id: None,
            prev_events: Vec::new(),
            auth_events: Vec::new(),
            depth: 1,
            origin_server_ts: MilliSecondsSinceUnixEpoch(now.saturating_add(UInt::from(later))),
        };
        let event = seal(create.clone(), place, &app.server_name, app.rooms.key(), rules)?;
        let room = event.room_id().to_owned();
        let intent = everything(&room, move || Said::Sealed(Pdu::clone(&event)), first);
        match app.rooms.create(room.clone(), version.clone(), intent).await {
            Err(SendError::Refused(refusal)) if refusal.kind == RefusalKind::RoomInUse => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(room),
        }
    }
    let sentence = "You have made too many equal rooms in this moment. Try again in the next.";
    Err(Refusal::new(RefusalKind::Unknown, sentence).into())
}

fn everything(
    room: &RoomId,
    create: impl Fn() -> Said + Send + Sync + 'static,
    first: &First,
) -> Intent {
    let aliases: Vec<Alias> = first
        .alias
        .iter()
        .map(|alias| Alias {
            alias: alias.clone(),
            room: room.to_owned(),
            creator: first.creator.clone(),
        })
        .collect();
    let events = first.events.clone();
    Intent::new(Vec::new(), move |_| {
        let rest = events.iter().cloned().map(Said::Draft);
        let say = std::iter::once(create()).chain(rest).collect();
        Ok(Proposal::Change(Changes { say, aliases: aliases.clone() }))
    })
}

async fn profiles(app: &App, creator: &UserId, wanted: &NewRoom) -> Result<Profiles, StoreError> {
    let mut profiles = Profiles::new();
    for user in wanted.invite.iter().map(|user| &**user).chain([creator]) {
        if !profiles.contains_key(user) {
            profiles.insert(user.to_owned(), membership::profile_of(app, user).await?);
        }
    }
    Ok(profiles)
}

/// A room begins in one append, which all other rooms wait for.
fn check_size(wanted: &NewRoom) -> Result<(), Refusal> {
    let events = wanted.invite.len() + wanted.initial_state.len();
    if events <= MOST {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::InvalidParam,
        format!(
            "A room begins with at most {MOST} invites and pieces of initial state, not {events}. Add the rest when it is there."
        ),
    ))
}

/// Invites the users of other servers, whose servers sign their invites first. The room is there already: somebody who cannot
/// be invited is no reason to tell the client that it is not, which would make another one. It is told who that is.
async fn invite_elsewhere(
    app: &App,
    room: &RoomId,
    creator: &UserId,
    wanted: &NewRoom,
) -> BTreeMap<OwnedUserId, SendError> {
    let mut users: Vec<OwnedUserId> = wanted.invite.clone();
    users.retain(|user| user.server_name() != app.server_name);
    users.sort();
    users.dedup();
    stream::iter(users)
        .map(|user| {
            let mut content = CanonicalJsonObject::new();
            if wanted.is_direct {
                content.insert("is_direct".to_owned(), CanonicalJsonValue::Bool(true));
            }
            async move {
                let error = membership::invite(app, room, creator, &user, content).await.err()?;
                tracing::warn!(%room, %user, %error, "create.not_invited");
                Some((user, error))
            }
        })
        .buffer_unordered(AT_ONCE_ELSEWHERE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn check_alias(app: &App, alias: Option<&RoomAliasId>) -> Result<(), SendError> {
    let Some(alias) = alias else { return Ok(()) };
    if app.database.alias(alias).await?.is_none() {
        return Ok(());
    }
    let sentence = format!("The alias {alias} belongs to another room already.");
    Err(Refusal::new(RefusalKind::RoomInUse, sentence).into())
}

fn unsupported(version: &RoomVersionId) -> Refusal {
    let sentence = format!("This server does not make rooms of version {version}.");
    Refusal::new(RefusalKind::UnsupportedRoomVersion, sentence)
}

/// What the rules forbid the creator in a room that they describe themselves is a contradiction in the description.
fn contradiction(refusal: Refusal) -> Refusal {
    match refusal.kind {
        RefusalKind::Forbidden => Refusal::new(
            RefusalKind::InvalidRoomState,
            format!("The room cannot begin like this: {}", refusal.sentence),
        ),
        _ => refusal,
    }
}
