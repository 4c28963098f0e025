//! `POST /_matrix/client/v3/createRoom`
//!
//! Create a room. <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use std::collections::BTreeMap;

use http::StatusCode;
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomVersionId,
    api::{
        IncomingRequest,
        client::room::create_room::v3::Request as Known,
        error::{DeserializationError, ErrorKind},
    },
    events::TimelineEventType,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    app::App,
    config::ROOM_VERSIONS,
    directory,
    http::{ApiError, Matrix, NoPath, Own, Plain, alike},
    room::{self, Created, InitialState, NewRoom, Preset},
};

/// ruma's answer has no place for what went wrong beside the room.
pub(in crate::api::client) struct Request(Own<Known, NoPath, Body>);

/// The answer.
#[derive(Serialize)]
pub(in crate::api::client) struct Answer {
    room_id: OwnedRoomId,
    /// Those who could not be invited, each with an errcode and a sentence. No part of the specification, which knows only
    /// all or nothing; and a client that is told "nothing" makes another room.
    #[serde(rename = "org.matryx.not_invited", skip_serializing_if = "BTreeMap::is_empty")]
    not_invited: BTreeMap<OwnedUserId, Value>,
}

alike!(Request => Known);

impl IncomingRequest for Request {
    type EndpointError = <Known as IncomingRequest>::EndpointError;
    type OutgoingResponse = Plain<Answer>;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        Own::try_from_http_request_inner(request, path).map(Self)
    }
}

/// ruma's type refuses a version that is no version before anybody can say that it is not supported.
#[derive(Deserialize)]
pub(in crate::api::client) struct Body {
    #[serde(default)]
    creation_content: Option<CanonicalJsonObject>,
    #[serde(default)]
    initial_state: Vec<Initial>,
    #[serde(default)]
    invite: Vec<OwnedUserId>,
    #[serde(default)]
    invite_3pid: Vec<Value>,
    #[serde(default)]
    is_direct: bool,
    name: Option<String>,
    power_level_content_override: Option<CanonicalJsonObject>,
    preset: Option<Preset>,
    room_alias_name: Option<String>,
    room_version: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    visibility: Visibility,
}

#[derive(Deserialize)]
struct Initial {
    #[serde(rename = "type")]
    kind: TimelineEventType,
    #[serde(rename = "state_key", default)]
    key: String,
    content: CanonicalJsonObject,
}

/// The directory of public rooms is not built: this only chooses a preset where none is named.
#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Visibility {
    #[default]
    Private,
    Public,
}

pub(in crate::api::client) async fn create(
    app: App,
    matrix: Matrix<Request>,
) -> Result<Plain<Answer>, ApiError> {
    let creator = matrix.identity.user_id;
    let wanted = matrix.request.0.body.read(&app)?;
    let Created { room, not_invited } = room::create(&app, &creator, wanted).await?;
    let told = |(user, error)| (user, ApiError::from(error).told());
    let not_invited = not_invited.into_iter().map(told).collect();
    Ok(Plain(Answer { room_id: room, not_invited }))
}

impl Body {
    fn read(self, app: &App) -> Result<NewRoom, ApiError> {
        if !self.invite_3pid.is_empty() {
            let message = "This server asks no identity servers: invite people by their user ids.";
            return Err(ApiError::new(StatusCode::FORBIDDEN, ErrorKind::ServerNotTrusted, message));
        }
        let preset = self.preset.unwrap_or(match self.visibility {
            Visibility::Private => Preset::Private,
            Visibility::Public => Preset::Public,
        });
        let alias = self.room_alias_name.map(|name| directory::alias_of(&name, &app.server_name));
        let initial = |state: Initial| InitialState {
            kind: state.kind,
            state_key: state.key,
            content: state.content,
        };
        Ok(NewRoom {
            version: version(app, self.room_version)?,
            creation_content: self.creation_content.unwrap_or_default(),
            preset,
            initial_state: self.initial_state.into_iter().map(initial).collect(),
            levels: self.power_level_content_override.unwrap_or_default(),
            name: self.name,
            topic: self.topic,
            alias: alias.transpose()?,
            invite: self.invite,
            is_direct: self.is_direct,
        })
    }
}

fn version(app: &App, wanted: Option<String>) -> Result<RoomVersionId, ApiError> {
    let Some(wanted) = wanted else { return Ok(app.config.default_room_version.clone()) };
    let known = ROOM_VERSIONS.iter().find(|version| version.as_str() == wanted);
    known.cloned().ok_or_else(|| {
        let message = format!("This server does not make rooms of version {wanted:?}.");
        ApiError::new(StatusCode::BAD_REQUEST, ErrorKind::UnsupportedRoomVersion, message)
    })
}
