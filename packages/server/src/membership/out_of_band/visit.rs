//! One visit to one server on an errand.

use std::time::Duration;

use http::StatusCode;
use matryx_core::membership::Membership;
use matryx_repository::{Errand, Task};
use ruma::{
    ServerName,
    api::federation::membership::{create_leave_event, prepare_leave_event},
};
use serde_json::value::RawValue;

use super::{errands::is_current, leave};
use crate::{
    app::App,
    federation::{Client, PeerError},
    membership::template::{Wanted, sealed},
};

/// How long a server may take over each of the two questions.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of an errand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Done,
    /// A server that is in the room says that the user is neither invited nor knocking there.
    NotThere,
    /// None of the servers is in the room any more, or knows of it.
    NobodyKnows,
    /// It is to be tried again.
    Later,
}

/// Goes to one server after another until one has a definite answer.
pub(super) async fn visit(app: &App, errand: &Errand, first: bool) -> Verdict {
    let client = app.federation.client();
    // What a user has just asked for is tried even where nobody answered lately.
    let client = if first { client.anyway() } else { client.clone() };
    let mut verdicts = Vec::with_capacity(errand.via.len());
    for (at, server) in errand.via.iter().enumerate() {
        let error = match ask(app, &client, errand, server).await {
            Ok(()) => return Verdict::Done,
            Err(error) => error,
        };
        let (room, user) = (&errand.room, &errand.user);
        tracing::info!(%error, %server, %room, %user, "errand.visit");
        match read(&error) {
            // The server of who has invited, or the one that has let a knock in: it knows.
            Verdict::NotThere if at == 0 => return Verdict::NotThere,
            verdict => verdicts.push(verdict),
        }
    }
    // Another's no may only mean that the event has not come there yet, or that we are denied there: as long as somebody else
    // may still say yes, it decides nothing.
    for said in [Verdict::Later, Verdict::NotThere] {
        if verdicts.contains(&said) {
            return said;
        }
    }
    Verdict::NobodyKnows
}

/// What a refusal means. Without an errcode it is not a homeserver that has answered.
fn read(error: &PeerError) -> Verdict {
    let code = error.errcode().map(ToString::to_string);
    match (error.status(), code.as_deref()) {
        (Some(StatusCode::FORBIDDEN), Some(_)) => Verdict::NotThere,
        (Some(StatusCode::NOT_FOUND), Some("M_NOT_FOUND")) => Verdict::NobodyKnows,
        _ => Verdict::Later,
    }
}

async fn ask(
    app: &App,
    client: &Client,
    errand: &Errand,
    server: &ServerName,
) -> Result<(), PeerError> {
    let malformed = |why: String| PeerError::malformed(&format!("{server}: {why}"));
    let request = prepare_leave_event::v1::Request::new(errand.room.clone(), errand.user.clone());
    let answer = client.ask(server, request, PATIENCE).await?;
    let reason = match &errand.task {
        Task::Leave { reason } => reason.as_deref(),
        Task::Undo => None,
        Task::AskAgain => return Ok(()),
    };
    // Whoever has been invited anew meanwhile would decline that.
    let leaves = matches!(errand.task, Task::Leave { .. });
    if leaves && !is_current(app, errand).await.unwrap_or(true) {
        return Ok(());
    }
    if answer.room_version.as_ref().is_some_and(|version| *version != errand.version) {
        return Err(malformed(format!(
            "it says that the room is not of version {}",
            errand.version
        )));
    }
    let rules = errand.version.rules().ok_or_else(|| malformed("unknown version".to_owned()))?;
    let wanted = Wanted {
        room: &errand.room,
        user: &errand.user,
        membership: Membership::Left,
        content: leave::content(reason),
    };
    let pdu = sealed(app, &answer.event, wanted, &rules).map_err(malformed)?;
    let json = RawValue::from_string(pdu.json().to_owned())
        .map_err(|error| malformed(error.to_string()))?;
    let request =
        create_leave_event::v2::Request::new(errand.room.clone(), pdu.event_id().clone(), json);
    client.ask(server, request, PATIENCE).await.map(drop)
}
