//! Inviting: also how a knock is accepted.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use matryx_core::{event::Pdu, membership::Action, refusal::Refusal, room::Judgement};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, RoomId, ServerName, UserId,
    api::{
        error::ErrorCode,
        federation::membership::{RawStrippedState, create_invite},
    },
};
use serde_json::value::RawValue;

use super::{
    change::{Verb, change},
    elsewhere::{because, failed, passed_on, told},
};
use crate::{
    app::App,
    federation::PeerError,
    room::{Door, Intent, Preparation, Prepared, Received, SendError},
};

/// How long the invited user's server may take. Somebody waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Invites somebody.
///
/// # Errors
/// The rule that forbids it, or why the server could not.
pub async fn invite(
    app: &App,
    room: &RoomId,
    actor: &UserId,
    target: &UserId,
    content: CanonicalJsonObject,
) -> Result<OwnedEventId, SendError> {
    change(app, room, Verb::Plain(Action::Invite), actor, target, content).await
}

/// Invites a user of another server. The invite is decided and sealed in the room's lane, then signed by their server, and
/// comes in by the door for others' events: what has happened meanwhile, a ban above all, counts.
/// <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>
///
/// # Errors
/// The rule that forbids it, why the other server refused or could not be asked, or why this server could not.
pub(super) async fn elsewhere(
    app: &App,
    room: &RoomId,
    target: &UserId,
    intent: Intent,
) -> Result<OwnedEventId, SendError> {
    let prepared = match app.rooms.prepare(room, intent).await? {
        Preparation::Stands(event) => return Ok(event),
        Preparation::Sealed(prepared) => prepared,
    };
    let pdu = signed(app, target.server_name(), &prepared).await?;
    let event = pdu.event_id().clone();
    match app.rooms.receive(pdu, Door::Handshake).await? {
        Received::Judged(Judgement::Accepted) | Received::Known(Judgement::Accepted) => Ok(event),
        Received::Judged(fate) | Received::Known(fate) => {
            tracing::info!(%room, %target, ?fate, "invite.overtaken");
            let sentence = "While the other server was asked, something happened in the room that forbids this invite.";
            Err(Refusal::forbidden(sentence).into())
        }
        Received::Missing(_) => {
            Err(failed("The room has moved on while the other server was asked. Try again."))
        }
    }
}

/// The invite with the signature of the invited user's server, and nothing else of what that server answers.
async fn signed(app: &App, server: &ServerName, prepared: &Prepared) -> Result<Pdu, SendError> {
    let broken = |error: serde_json::Error| failed(format!("The invite can't be written: {error}"));
    let raw = |pdu: &Arc<Pdu>| RawValue::from_string(pdu.json().to_owned()).map_err(broken);
    let state = prepared.stripped.iter().map(|pdu| raw(pdu).map(RawStrippedState::Pdu));
    // The first version of this endpoint is for room versions 1 and 2, of which this server has none.
    let request = create_invite::v2::Request::new(
        prepared.pdu.room_id().to_owned(),
        prepared.pdu.event_id().clone(),
        prepared.version.clone(),
        raw(&prepared.pdu)?,
        state.collect::<Result<_, _>>()?,
    );
    let answer = app.federation.client().anyway().ask(server, request, PATIENCE).await;
    let answer = answer.map_err(|error| refused(server, &error))?;
    let unfit = |why: &str| {
        failed(format!("{server} has not signed the invite: {}.", why.trim_end_matches('.')))
    };
    let answer: CanonicalJsonObject =
        serde_json::from_str(answer.event.get()).map_err(|_| unfit("its answer is no event"))?;
    let Some(CanonicalJsonValue::Object(theirs)) = answer.get("signatures") else {
        return Err(unfit("its answer has no signatures"));
    };
    let Some(signature) = theirs.get(server.as_str()) else {
        return Err(unfit("its answer does not have its signature"));
    };
    let mut event: CanonicalJsonObject =
        serde_json::from_str(prepared.pdu.json()).map_err(broken)?;
    if let Some(CanonicalJsonValue::Object(signatures)) = event.get_mut("signatures") {
        signatures.insert(server.to_string(), signature.clone());
    }
    let verified = app.federation.keys().verify_event_by(server, &event, &prepared.rules).await;
    verified.map_err(|why| unfit(&why))?;
    let opened = app.federation.open(event, &prepared.rules).await;
    opened.map_err(|error| unfit(&error.to_string()))
}

/// What the inviting client is told when the other server does not take the invite.
fn refused(server: &ServerName, error: &PeerError) -> SendError {
    use ErrorCode as C;

    match error.errcode() {
        Some(C::Forbidden | C::InviteBlocked | C::BadState | C::NotFound) => {
            passed_on(error).map(Into::into)
        }
        Some(C::IncompatibleRoomVersion | C::UnsupportedRoomVersion) => {
            let sentence = format!("{server} does not support the version of this room.");
            Some(told(StatusCode::BAD_REQUEST, "M_UNSUPPORTED_ROOM_VERSION", sentence))
        }
        _ => None,
    }
    .unwrap_or_else(|| failed(because("The invite was not taken", error)))
}
