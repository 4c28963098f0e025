//! Which servers an event goes to: those with joined members before or after it, and the server of somebody who is
//! not in the room and learns by it what became of an invite, a knock or a ban.

use std::sync::Arc;

use matryx_core::{
    event::Pdu,
    membership::Membership,
    room::{Change, StateKey},
};
use matryx_repository::{Out, OutPlace, ServerSet};
use ruma::{OwnedServerName, ServerName, UserId};

use super::{Look, tips};

/// What is written of an event so that it goes to other servers; nothing if there are none to tell.
///
/// An event that only ties the room's tips together goes nowhere: all servers would answer with one of theirs. They get it
/// when something follows it.
///
/// `look` is the room after the event, `before` are the servers that were in it before. ACLs keep nobody from learning of
/// what is ours: they say whom we hear.
pub(super) fn out(
    look: &Look,
    before: Option<&Arc<ServerSet>>,
    pdu: &Pdu,
    changes: &[Change],
    this: &ServerName,
) -> Option<Out> {
    if tips::is_knot(pdu.kind()) {
        return None;
    }
    let servers = look.others(this);
    let within = |server: &ServerName| servers.is_some_and(|servers| servers.contains(server));
    let mut also: Vec<OwnedServerName> = match before {
        Some(before) if !servers.is_some_and(|servers| Arc::ptr_eq(servers, before)) => {
            before.names().iter().filter(|name| !within(name)).cloned().collect()
        }
        _ => Vec::new(),
    };
    if let Some(server) = told(pdu, changes)
        && server != this
        && !within(server)
        && also.iter().all(|name| name != server)
    {
        also.push(server.to_owned());
    }
    let out = Out {
        place: OutPlace { pos: 0, n: look.n },
        room: look.room_id.clone(),
        event_id: pdu.event_id().clone(),
        servers: servers.cloned(),
        also,
        from: (pdu.sender().server_name() != this).then(|| pdu.sender().server_name().to_owned()),
        sole: look.tips.len() == 1,
    };
    let any = out.receivers().next().is_some();
    any.then_some(out)
}

/// The server of somebody whose invite, knock or ban an event ends or makes worse.
fn told<'a>(pdu: &'a Pdu, changes: &[Change]) -> Option<&'a ServerName> {
    if !matches!(pdu.membership(), Some(Membership::Left | Membership::Banned)) {
        return None;
    }
    let user = <&UserId>::try_from(pdu.state_key()?).ok()?;
    let key = StateKey::member(user);
    let was = changes.iter().find(|change| change.key == key)?.old.as_ref()?.membership?;
    matches!(was, Membership::Invited | Membership::Knocking | Membership::Banned)
        .then(|| user.server_name())
}
