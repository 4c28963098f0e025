//! Two servers: one has a room, and users of the other come to it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use matryx_core::{
    event::{Pdu, Place, seal},
    room::{Judgement, StateMap, auth_keys},
};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomVersionId, UserId, server_name, uint};
use serde_json::{Value, json, value::to_raw_value};
use tokio_util::sync::CancellationToken;

use super::world::{World, draft};
use crate::{
    clock::Clock,
    room::{Door, Import, Received},
    sync::{
        token::StreamToken,
        v3::{Question, StateForm, sync},
    },
};

pub(super) const CREATOR: &str = "@creator:x";
pub(super) const U: &str = "@u:y";
pub(super) const W: &str = "@w:y";

/// A server with a room, and one whose users come to it.
pub(super) struct Two {
    pub(super) x: World,
    pub(super) y: World,
    pub(super) room: OwnedRoomId,
}

impl Two {
    pub(super) async fn new(version: RoomVersionId) -> Self {
        let x = World::new(version.clone()).await;
        let y = World::of(server_name!("y").to_owned(), version).await;
        let room = x.room(CREATOR, "public").await;
        x.member(&room, "@a:x", "@a:x", "join").await.unwrap();
        x.say(&room, CREATOR, "m.room.topic", Some(""), json!({"topic": "one"})).await.unwrap();
        Self { x, y, room }
    }

    /// The one who joins starts anew on its store.
    pub(super) async fn restart_y(self) -> Self {
        Self { y: self.y.restart().await, ..self }
    }

    pub(super) async fn state_at_x(&self) -> StateMap {
        self.x.rooms.room(&self.room).await.unwrap().unwrap().look().state.clone()
    }

    pub(super) async fn pdus(
        &self,
        ids: impl IntoIterator<Item = ruma::OwnedEventId>,
    ) -> Vec<Arc<Pdu>> {
        let ids: Vec<_> = ids.into_iter().collect();
        let found = self.x.rooms.events().get_all(ids.iter().map(|id| &**id)).await.unwrap();
        found.into_values().map(|event| Arc::clone(&event.pdu)).collect()
    }

    /// The join of a user, sealed by their server on what the resident has, and what the resident tells it.
    pub(super) async fn handshake(&self, user: &str) -> Import {
        let look = self.x.rooms.room(&self.room).await.unwrap().unwrap().look();
        let draft = draft(user, "m.room.member", Some(user), json!({"membership": "join"}));
        let content = to_raw_value(&draft.content).unwrap();
        let sender = <&UserId>::try_from(user).unwrap();
        let keys = auth_keys(&draft.kind, sender, Some(user), &content, &look.rules).unwrap();
        let (prev_events, depth) = look.prev_events();
        // Before or after what is said at the servers themselves.
        let again = self.y.rooms.room(&self.room).await.unwrap().is_some();
        let time = if again { uint!(1_500) } else { uint!(5) };
        let place = Place {
            room_id: Some(self.room.clone()),
            prev_events,
            auth_events: keys
                .iter()
                .filter_map(|key| Some(look.entry(key)?.event_id.clone()))
                .collect(),
            depth,
            origin_server_ts: MilliSecondsSinceUnixEpoch(time),
        };
        let event = seal(draft, place, &self.y.server, &self.y.key, &look.rules).unwrap();
        let state = self.pdus(look.state.values().map(|entry| entry.event_id.clone())).await;
        let mut chain: Vec<Arc<Pdu>> = Vec::new();
        let mut known = HashSet::new();
        let mut next: Vec<_> = state.iter().flat_map(|pdu| pdu.auth_events().to_vec()).collect();
        while !next.is_empty() {
            next.retain(|id| known.insert(id.clone()));
            let more = self.pdus(std::mem::take(&mut next)).await;
            next.extend(more.iter().flat_map(|pdu| pdu.auth_events().to_vec()));
            chain.extend(more);
        }
        Import {
            room_id: self.room.clone(),
            version: self.x.version.clone(),
            state,
            auth_chain: chain,
            event: Arc::new(event),
        }
    }

    /// A user of `y` joins.
    pub(super) async fn join(&self, user: &str) {
        let import = self.handshake(user).await;
        let event = Pdu::clone(&import.event);
        self.hear_at_x(event).await;
        self.y.rooms.import(import).await.unwrap();
    }

    pub(super) async fn hear_at_x(&self, event: Pdu) {
        let heard = self.x.rooms.receive(event, Door::Handshake).await.unwrap();
        assert_eq!(heard, Received::Judged(Judgement::Accepted));
    }

    /// Something is said at one, and the other hears of it.
    pub(super) async fn carry(&self, from: &World, to: &World, done: crate::room::Done) {
        for id in done.events {
            let event = from.rooms.events().get(&id).await.unwrap().unwrap();
            let heard = to.rooms.receive(Pdu::clone(&event.pdu), Door::Transaction).await;
            assert_eq!(heard.unwrap(), Received::Judged(Judgement::Accepted));
        }
    }

    pub(super) async fn look_at_y(&self) -> Arc<crate::room::Look> {
        self.y.rooms.room(&self.room).await.unwrap().unwrap().look()
    }

    pub(super) async fn sync_at_y(&self, user: &str, since: Option<u64>) -> Value {
        let question = Question {
            user: user.try_into().unwrap(),
            device: None,
            since: since.map(StreamToken::at),
            timeout: Duration::ZERO,
            full_state: false,
            filter: Arc::default(),
            form: StateForm::Before,
        };
        let clock = Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(2_000)));
        let answer =
            sync(&self.y.rooms, &clock, &CancellationToken::new(), &question).await.unwrap();
        serde_json::to_value(answer).unwrap()
    }
}
