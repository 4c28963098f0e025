//! Declining an invite and taking back a knock, where nobody of this server is in the room. It never fails because of
//! another server, and never waits for one for long.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use matryx_core::{
    event::{Draft, Pdu, Place, seal},
    membership::Membership,
    refusal::Refusal,
};
use matryx_repository::{Errand, Mine, Task};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, RoomId, UserId,
    events::TimelineEventType,
};

use super::{Way, errands::errand, pending, record, unheard_of, way_of};
use crate::{
    app::App,
    room::{Aside, Known, Record, SendError},
};

/// How long somebody who leaves waits for the other server. Whoever is invited again right after that finds the order kept,
/// and nobody waits for a server that is down.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Leaves a room that we are not in. Nothing if that is not so: then the room's own events decide.
///
/// # Errors
/// Why the server could not.
pub(in super::super) async fn leave(
    app: &App,
    room: &RoomId,
    user: &UserId,
    content: &CanonicalJsonObject,
) -> Result<Option<OwnedEventId>, SendError> {
    let standing = app.rooms.stream().standing(user).await?;
    let look = app.rooms.room(room).await?.map(|room| room.look());
    let known = Known { look: look.as_deref(), mine: standing.rooms.get(room).map(|mine| &**mine) };
    let aside = way_of(app, known).is_some() || unheard_of(app, known).is_some();
    let Some(mine) = known.mine.filter(|_| aside) else { return Ok(None) };
    match mine.membership {
        Membership::Left => return Ok(Some(mine.event.clone())),
        Membership::Joined => return Ok(None),
        Membership::Banned => {
            let sentence = "You are banned from this room: there is nothing to leave.";
            return Err(Refusal::forbidden(sentence).into());
        }
        Membership::Invited | Membership::Knocking => {}
    }
    let reason = match content.get("reason") {
        Some(CanonicalJsonValue::String(reason)) => Some(reason.clone()),
        _ => None,
    };
    let (event, errand) = write(app, room, user, reason, None).await?;
    if let Some(errand) = errand {
        let done = app.errands.begin(app, errand);
        app.clock.within(PATIENCE, done).await;
    }
    Ok(event)
}

/// Writes down that a user of ours is neither invited nor knocking any more, with an event of our own that goes to nobody, and
/// with the errand to tell the room. With `only`, if their record still stands on that event; then the room knows already,
/// and there is no errand. Gives the event that their record stands on afterwards.
pub(super) async fn write(
    app: &App,
    room: &RoomId,
    user: &UserId,
    reason: Option<String>,
    only: Option<OwnedEventId>,
) -> Result<(Option<OwnedEventId>, Option<Errand>), SendError> {
    let standing = app.rooms.stream().standing(user).await?;
    let Some(mine) = standing.rooms.get(room) else { return Ok((None, None)) };
    let depth = match app.rooms.events().get(&mine.event).await? {
        Some(event) => event.pdu.depth().saturating_add(1),
        None => 1,
    };
    let (here, who, stood) = (app.clone(), user.to_owned(), mine.event.clone());
    let made = Arc::new(Mutex::new(None));
    let making = Arc::clone(&made);
    let aside = Aside::new(user.to_owned(), move |known| {
        let open = pending(&here, known);
        // A room that we are in ourselves and that has not heard of it has nothing to be told.
        let told = open.is_some() && only.is_none();
        let open =
            open.or_else(|| unheard_of(&here, known)).filter(|(mine, _)| mine.event == stood);
        let Some((mine, way)) = open else { return Ok(None) };
        if only.as_ref().is_some_and(|only| *only != mine.event) {
            return Ok(None);
        }
        let leave = local(&here, mine, &way, reason.as_deref(), depth)?;
        let task = Task::Leave { reason: reason.clone() };
        let errand = told.then(|| errand(&here, &leave, &way, task, PATIENCE));
        (*making.lock().unwrap_or_else(PoisonError::into_inner)).clone_from(&errand);
        let mine = record(known, &who, &mine.room, way, &leave);
        Ok(Some(Record { mine, event: Some(Arc::new(leave)), errand }))
    });
    let done = app.rooms.aside(room, aside).await?;
    let errand = made.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok((done.events.into_iter().next(), errand))
}

/// The event that our own clients are shown. No other server sees it: what the room is told is made anew, of what the room is
/// like then.
fn local(
    app: &App,
    mine: &Mine,
    way: &Way,
    reason: Option<&str>,
    depth: u64,
) -> Result<Pdu, Refusal> {
    let rules = way.version.rules().ok_or_else(|| {
        Refusal::forbidden(format!("This server does not know room version {}.", way.version))
    })?;
    let draft = Draft {
        sender: mine.user.clone(),
        kind: TimelineEventType::RoomMember,
        state_key: Some(mine.user.to_string()),
        content: content(reason),
        redacts: None,
    };
    let place = Place {
        room_id: Some(mine.room.clone()),
        prev_events: vec![mine.event.clone()],
        auth_events: vec![mine.event.clone()],
        depth,
        origin_server_ts: app.clock.now(),
    };
    seal(draft, place, &app.server_name, &app.key, &rules)
}

/// The content of a leave.
pub(super) fn content(reason: Option<&str>) -> CanonicalJsonObject {
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    let mut content = CanonicalJsonObject::new();
    content.insert("membership".to_owned(), text(Membership::Left.as_str()));
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), text(reason));
    }
    content
}
