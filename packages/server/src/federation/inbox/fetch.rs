//! Single events, asked of other servers.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use matryx_core::event::{OpenError, Pdu};
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName, api::federation::event::get_event};
use serde_json::value::RawValue;

use crate::{
    app::App,
    room::{Room, SendError},
};

/// How long a server may take over one event.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many events are asked for at the same time.
const AT_ONCE: usize = 10;

/// How many events one search fetches one by one.
const MOST: usize = 1000;

/// How many servers are asked for the same thing.
const SERVERS: usize = 3;

/// A search for what is missing in one room, with what has been asked for in vain: nothing is asked for twice.
pub(super) struct Search<'a> {
    pub(super) app: &'a App,
    pub(super) room: &'a Room,
    /// Whom to ask, in this order.
    pub(super) servers: Vec<OwnedServerName>,
    tried: Mutex<HashSet<OwnedEventId>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(app: &'a App, first: &ServerName, room: &'a Room) -> Self {
        let servers = servers(app, room, first);
        Self { app, room, servers, tried: Mutex::default() }
    }

    /// Those of the servers whose word on the room's state counts: those in the room. What is missing may be the join of another,
    /// but events are signed, and what somebody says of a state is not. Where nobody else is there any more, all have been there.
    pub(super) fn residents(&self) -> impl Iterator<Item = &OwnedServerName> {
        let look = self.room.look();
        let alone = look.servers.keys().all(|server| *server == self.app.server_name);
        self.servers.iter().filter(move |server| alone || look.servers.contains_key(*server))
    }

    /// Events by their ids, as far as somebody gives them.
    pub(super) async fn fetch(&self, ids: impl IntoIterator<Item = OwnedEventId>) -> Vec<Pdu> {
        let wanted: Vec<OwnedEventId> = {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MOST.saturating_sub(tried.len());
            let new = ids.into_iter().filter(|id| !tried.contains(id)).take(room).collect();
            tried.extend(Vec::clone(&new));
            new
        };
        let texts: Vec<(OwnedEventId, Box<RawValue>)> = stream::iter(wanted)
            .map(|id| async move { Some((id.clone(), self.ask(&id).await?)) })
            .buffered(AT_ONCE)
            .filter_map(|found| async { found })
            .collect()
            .await;
        let (ids, texts): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        let pdus = self.open(texts).await;
        let asked: HashSet<OwnedEventId> = ids.into_iter().collect();
        pdus.into_iter().filter(|pdu| asked.contains(pdu.event_id())).collect()
    }

    async fn ask(&self, id: &OwnedEventId) -> Option<Box<RawValue>> {
        for server in &self.servers {
            let request = get_event::v1::Request::new(id.clone());
            match self.app.federation.client().ask(server, request, PATIENCE).await {
                Ok(response) => return Some(response.pdu),
                Err(error) => tracing::debug!(%error, event = %id, "inbox.event_not_given"),
            }
        }
        None
    }

    /// Those of these texts that are events of the room.
    pub(super) async fn open(&self, texts: Vec<Box<RawValue>>) -> Vec<Pdu> {
        let rules = Arc::clone(&self.room.look().rules);
        let opened = self.app.federation.open_all(texts, &rules).await;
        let opened = opened.into_iter().filter_map(|result| match result {
            Ok(pdu) => Some(pdu),
            Err(OpenError::Rejected { event, .. }) => Some(*event),
            Err(error) => {
                tracing::debug!(%error, room = %self.room.id, "inbox.unfit_event");
                None
            }
        });
        opened.filter(|pdu| pdu.room_id() == self.room.id).collect()
    }

    /// Whether an event has been asked for.
    pub(super) fn has_tried(&self, id: &EventId) -> bool {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Those of these events that are not kept, or that nobody has judged.
    pub(super) async fn unknown(
        &self,
        ids: impl IntoIterator<Item = OwnedEventId>,
    ) -> Result<BTreeSet<OwnedEventId>, SendError> {
        let mut ids: BTreeSet<OwnedEventId> = ids.into_iter().collect();
        let held = self.app.rooms.events().get_all(ids.iter().map(|id| &**id)).await?;
        ids.retain(|id| !held.get(id).is_some_and(|event| event.is_judged()));
        Ok(ids)
    }

    /// Fetches events that are wanted for what they allow, and what allows them in turn; keeps them without their place.
    pub(super) async fn learn(
        &self,
        ids: impl IntoIterator<Item = OwnedEventId>,
    ) -> Result<(), SendError> {
        let mut found: Vec<Pdu> = Vec::new();
        let mut wanted = self.unknown(ids).await?;
        while !wanted.is_empty() {
            let some = self.fetch(wanted).await;
            let named = some.iter().flat_map(Pdu::auth_events).cloned();
            wanted = self.unknown(named).await?;
            found.extend(some);
            for pdu in &found {
                wanted.remove(pdu.event_id());
            }
        }
        self.app.rooms.learn(&self.room.id, found).await
    }
}

/// The servers to ask for what is missing in a room: who told us of it, the one with the most users there, and others whom chance
/// decides on, as far as they are up. Nobody gets among them by their name.
fn servers(app: &App, room: &Room, first: &ServerName) -> Vec<OwnedServerName> {
    let look = room.look();
    let up = |server: &&OwnedServerName| {
        **server != first
            && **server != app.server_name
            && app.federation.destinations().is_up(server)
    };
    let mut others: Vec<(&OwnedServerName, u64)> = look
        .servers
        .iter()
        .filter(|(server, _)| up(server))
        .map(|(name, users)| (name, *users))
        .collect();
    let most = others.iter().max_by_key(|(_, users)| *users).map(|(server, _)| (*server).clone());
    let mut servers: Vec<OwnedServerName> = Vec::with_capacity(SERVERS);
    servers.extend((*first != *app.server_name).then(|| first.to_owned()));
    others.retain(|(server, _)| Some(*server) != most.as_ref());
    servers.extend(most);
    while servers.len() < SERVERS && !others.is_empty() {
        let chance = usize::from(u16::from_le_bytes(app.random.bytes()));
        let (server, _) = others.swap_remove(chance % others.len());
        servers.push(server.clone());
    }
    servers
}
