//! What must be true of a world that has come to rest.

use std::{collections::BTreeMap, sync::Arc};

use matryx_core::{
    membership::Membership,
    room::{Judgement, StateMap, judge_by_auth_events},
};
use matryx_server::{app::App, room::Look};
use ruma::{EventId, OwnedServerName};

use super::{
    net::Transactions,
    past::{self, Told},
    script::{FOUNDER, USERS},
    world::{Failure, World},
};

/// Judges a world in which everybody has heard of everything.
pub fn of(world: &mut World) -> Result<(), Failure> {
    let looks = looks(world);
    let truth = Arc::clone(looks.get(&FOUNDER.0).ok_or("the founder's server has lost the room")?);
    for (node, look) in &looks {
        if is_in(world, *node, &truth) {
            same(world, *node, &truth.state, &look.state)?;
            servers(world, *node, look)?;
        }
    }
    memberships(world, &truth)?;
    followed(world, &truth)?;
    acknowledged(world, &truth)?;
    told(world, &truth)?;
    lawful(world)
}

/// The room as each server sees it, where it has it.
fn looks(world: &World) -> BTreeMap<usize, Arc<Look>> {
    (0..world.nodes.len()).filter_map(|node| Some((node, world.look(node)?))).collect()
}

/// Whether a server has a joined user.
fn is_in(world: &World, node: usize, look: &Look) -> bool {
    look.servers.contains_key(&world.nodes[node].name)
}

/// All servers that share a room have the same current state.
fn same(world: &World, node: usize, truth: &StateMap, state: &StateMap) -> Result<(), Failure> {
    for (key, entry) in truth {
        let here = state.get(key).map(|entry| &entry.event_id);
        if here != Some(&entry.event_id) {
            return Err(format!(
                "{} has {here:?} at {key:?}, and {} has {}",
                world.nodes[node].name, world.nodes[0].name, entry.event_id
            ));
        }
    }
    match state.keys().find(|key| !truth.contains_key(*key)) {
        Some(key) => Err(format!("{} alone has {key:?}", world.nodes[node].name)),
        None => Ok(()),
    }
}

/// The table of servers in a room agrees with its members.
fn servers(world: &World, node: usize, look: &Look) -> Result<(), Failure> {
    let mut counted: BTreeMap<OwnedServerName, u64> = BTreeMap::new();
    for user in look.users(Membership::Joined) {
        *counted.entry(user.server_name().to_owned()).or_default() += 1;
    }
    let kept: BTreeMap<OwnedServerName, u64> =
        look.servers.iter().map(|(server, count)| (server.clone(), *count)).collect();
    if counted == kept {
        return Ok(());
    }
    Err(format!("{} counts {kept:?} where {counted:?} is right", world.nodes[node].name))
}

/// Each user's sync agrees with the room.
fn memberships(world: &mut World, truth: &Look) -> Result<(), Failure> {
    for node in 0..world.nodes.len() {
        for user in 0..USERS {
            let id = world.user((node, user));
            let user_id = id.as_str().try_into().map_err(|_| "a user id".to_owned())?;
            let expected = section(truth.membership(user_id));
            let sync = world.sync((node, user))?;
            let shown = ["join", "invite", "knock"]
                .into_iter()
                .find(|section| !sync["rooms"][*section][world.room.as_str()].is_null());
            if shown != expected {
                return Err(format!(
                    "{id} is shown {shown:?} in sync, and the room has {expected:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Each server has told every other one what it had to, and in order.
fn told(world: &World, truth: &Look) -> Result<(), Failure> {
    let read = |transactions: Transactions| -> BTreeMap<_, Told> {
        let told = |(way, all): (_, Vec<_>)| (way, Told::of(&all, &truth.rules));
        transactions.into_iter().map(told).collect()
    };
    for ((from, to), told) in read(world.net.sent()) {
        if let Some(event) = told.out_of_order() {
            return Err(format!("{from} told {to} of {event} before what that follows"));
        }
    }
    let told = read(world.net.arrived());
    for node in &world.nodes {
        let alive = node.alive().ok_or("a server is down")?;
        let (app, room) = (alive.app.clone(), world.room.clone());
        let vouched = world.net.vouched(&node.name);
        for (event, to) in alive.run(async move { past::owed(&app, &room, &vouched).await }) {
            for server in to {
                let way = (node.name.clone(), server);
                if told.get(&way).is_none_or(|told| !told.has(&event)) {
                    return Err(format!("{} has never told {} of {event}", way.0, way.1));
                }
            }
        }
    }
    Ok(())
}

/// A client that has followed knows the same of the room as one that asks for all of it.
fn followed(world: &mut World, truth: &Look) -> Result<(), Failure> {
    for node in 0..world.nodes.len() {
        for user in 0..USERS {
            let id = world.user((node, user));
            let user_id = id.as_str().try_into().map_err(|_| "a user id".to_owned())?;
            let expected = section(truth.membership(user_id));
            let client = world.follow((node, user))?;
            if client.section != expected {
                let shown = client.section;
                return Err(format!(
                    "{id} has been shown {shown:?}, and the room has {expected:?}"
                ));
            }
            if expected != Some("join") {
                continue;
            }
            for (key, entry) in &truth.state {
                let known = client.state.get(&(key.kind.to_string(), key.key.to_string()));
                if known.is_none_or(|known| *known != entry.event_id) {
                    let event = &entry.event_id;
                    return Err(format!("{id} knows {known:?} at {key:?}, which is {event}"));
                }
            }
        }
    }
    Ok(())
}

/// Where /sync shows a room.
fn section(membership: Membership) -> Option<&'static str> {
    match membership {
        Membership::Joined => Some("join"),
        Membership::Invited => Some("invite"),
        Membership::Knocking => Some("knock"),
        Membership::Left | Membership::Banned => None,
    }
}

/// Nothing that was acknowledged is missing: not where it was said, nor on any server that has been in the room since.
fn acknowledged(world: &World, truth: &Look) -> Result<(), Failure> {
    for said in &world.acknowledged {
        for node in 0..world.nodes.len() {
            // What a denied server says need not be heard, and what it does not hear it need not have.
            let apart = |node: &usize| world.denied.contains(node);
            let stayed = said.to.contains(&node)
                && is_in(world, node, truth)
                && world.away.get(&node).is_none_or(|step| *step < said.step)
                && world.away.get(&said.by).is_none_or(|step| *step < said.step);
            let owed = stayed && !apart(&node) && !apart(&said.by);
            if (node == said.by || owed) && find(world, node, &said.event)?.is_none() {
                return Err(format!(
                    "{} was acknowledged by {} and is missing on {}",
                    said.event, world.nodes[said.by].name, world.nodes[node].name
                ));
            }
        }
    }
    Ok(())
}

/// Nobody has done what the law forbids: every event that stands is allowed by those that it names.
fn lawful(world: &World) -> Result<(), Failure> {
    for (index, node) in world.nodes.iter().enumerate() {
        let alive = node.alive().ok_or("a server is down")?;
        let (app, room) = (alive.app.clone(), world.room.clone());
        let wrong = alive.run(async move {
            match unlawful(&app, &room).await {
                None => past::wrong(&app, &room).await,
                wrong => wrong,
            }
        });
        if let Some(why) = wrong {
            return Err(format!("{}: {why}", world.nodes[index].name));
        }
    }
    Ok(())
}

async fn unlawful(app: &App, room: &ruma::RoomId) -> Option<String> {
    let room = app.rooms.room(room).await.ok()??;
    let look = room.look();
    for entry in look.state.values() {
        let Ok(Some(event)) = app.rooms.events().get(&entry.event_id).await else {
            return Some(format!("{} stands and is not kept", entry.event_id));
        };
        if matches!(event.fate, Judgement::Rejected(_)) {
            return Some(format!("{} stands and is rejected", entry.event_id));
        }
        let mut named: Vec<&EventId> = event.pdu.auth_events().iter().map(|id| &**id).collect();
        let create = look.law.create.clone();
        named.extend(create.as_ref().map(|create| &**create.event_id()));
        let found = app.rooms.events().get_all(named).await.ok()?;
        let fetch = |id: &EventId| found.get(id).map(|event| Arc::clone(&event.pdu));
        if let Err(why) = judge_by_auth_events(&event.pdu, &look.rules, &fetch) {
            return Some(format!("{} stands against the law: {why}", entry.event_id));
        }
    }
    None
}

fn find(world: &World, node: usize, event: &EventId) -> Result<Option<()>, Failure> {
    let alive = world.nodes[node].alive().ok_or("a server is down")?;
    let (app, event) = (alive.app.clone(), event.to_owned());
    let found = alive.run(async move { app.rooms.events().get(&event).await });
    Ok(found.map_err(|error| error.to_string())?.map(|_| ()))
}
