//! The state at an event, as another server tells it.

use std::{collections::BTreeSet, time::Duration};

use matryx_core::room::{Judgement, StateEntry, StateKey, StateMap};
use ruma::{
    EventId, OwnedEventId, ServerName,
    api::federation::event::{
        get_room_state::v1::Request as GetState, get_room_state_ids::v1::Request as GetStateIds,
    },
};

use super::fetch::Search;
use crate::room::SendError;

/// How long a server may take over a state.
const PATIENCE: Duration = Duration::from_secs(40);

/// How many events a state may have, with all that allows them.
const MOST: usize = 200_000;

/// Up to how many missing events are asked for one by one, whatever their share.
const FEW: usize = 5;

/// If more than one in so many events is missing, the whole state is asked for at once.
const SHARE: usize = 10;

/// More missing events than this are not asked for one by one, however few they are beside the rest.
const MANY: usize = 200;

/// How many events are judged at a time.
const CHUNK: usize = 500;

/// What is known of a state that was told.
struct Told {
    state: StateMap,
    /// Those of its events that could not be had.
    missing: BTreeSet<OwnedEventId>,
}

impl Search<'_> {
    /// The state after an event that we do not hold, if somebody tells it.
    pub(super) async fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SendError> {
        let Some(Told { mut state, missing }) = self.told(id).await? else { return Ok(None) };
        if !missing.is_empty() {
            // Those who are in the room do not cease to be because somebody's answer did not come: what is missing is taken
            // to be as we know it.
            tracing::info!(event = %id, missing = missing.len(), "inbox.state_incomplete");
            let mut known = self.room.look().state.clone();
            known.extend(state);
            state = known;
        }
        self.learn([id.to_owned()]).await?;
        let event = self.app.rooms.events().get(id).await?;
        if let Some(event) = event
            && let Some(key) = event.pdu.key()
            && self.app.rooms.allows(self.room, &state, &event).await?
        {
            let membership = event.pdu.membership();
            state.insert(key, StateEntry { event_id: id.to_owned(), membership });
        }
        Ok(Some(state))
    }

    /// The state before an event, if somebody tells it. What stands in it is kept then, and what is not allowed or not to be
    /// had is left out.
    pub(super) async fn state_before(&self, id: &EventId) -> Result<Option<StateMap>, SendError> {
        Ok(self.told(id).await?.map(|told| told.state))
    }

    /// The state before an event, as the first tells it of whom all can be had that others may have; else as it is told with
    /// the least missing.
    async fn told(&self, id: &EventId) -> Result<Option<Told>, SendError> {
        let mut best: Option<Told> = None;
        for server in self.residents() {
            let request = GetStateIds::new(id.to_owned(), self.room.id.clone());
            let answer = self.app.federation.client().ask(server, request, PATIENCE).await;
            let answer = match answer {
                Ok(answer) if answer.pdu_ids.len() + answer.auth_chain_ids.len() <= MOST => answer,
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(%error, event = %id, "inbox.state_not_told");
                    continue;
                }
            };
            let all = || answer.pdu_ids.iter().chain(&answer.auth_chain_ids);
            let missing = self.unknown(all().cloned()).await?;
            let many = missing.len() > FEW && missing.len() * SHARE >= all().count();
            if many || missing.len() > MANY {
                self.learn_whole(server, id).await?;
            }
            let missing: BTreeSet<OwnedEventId> = self.unknown(missing).await?;
            self.learn(missing).await?;
            let Some(told) = self.put_together(&answer.pdu_ids).await? else { continue };
            // What everybody has been asked for in vain is not to be had of the next either.
            if told.missing.iter().all(|id| self.has_tried(id)) {
                return Ok(Some(told));
            }
            if best.as_ref().is_none_or(|best| told.missing.len() < best.missing.len()) {
                best = Some(told);
            }
        }
        Ok(best)
    }

    /// Keeps all events of a state and what allows them.
    async fn learn_whole(&self, server: &ServerName, id: &EventId) -> Result<(), SendError> {
        let request = GetState::new(id.to_owned(), self.room.id.clone());
        let answer = match self.app.federation.client().ask(server, request, PATIENCE).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, event = %id, "inbox.state_not_given");
                return Ok(());
            }
        };
        let mut events = Vec::new();
        let mut texts: Vec<_> = answer.auth_chain.into_iter().chain(answer.pdus).collect();
        texts.truncate(MOST);
        while !texts.is_empty() {
            let rest = texts.split_off(texts.len().min(CHUNK));
            events.extend(self.open(texts).await);
            texts = rest;
        }
        self.app.rooms.learn(&self.room.id, events).await
    }

    /// The state of these events; `None` if it is not this room's.
    async fn put_together(&self, ids: &[OwnedEventId]) -> Result<Option<Told>, SendError> {
        let look = self.room.look();
        let held = self.app.rooms.events().get_all(ids.iter().map(|id| &**id)).await?;
        let (mut state, mut missing) = (StateMap::new(), BTreeSet::new());
        for id in ids {
            let Some(event) = held.get(id).filter(|event| event.is_judged()) else {
                missing.insert(id.clone());
                continue;
            };
            let fits = event.pdu.room_id() == self.room.id
                && !matches!(event.fate, Judgement::Rejected(_));
            if let Some(key) = event.pdu.key().filter(|_| fits) {
                let membership = event.pdu.membership();
                state.insert(key, StateEntry { event_id: id.clone(), membership });
            }
        }
        let create = state.get(&StateKey::create()).map(|entry| &entry.event_id);
        let ours = look.law.create.as_ref().map(|create| create.event_id());
        Ok((create.is_some() && create == ours).then_some(Told { state, missing }))
    }
}
