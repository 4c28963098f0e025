//! A server that has something to tell, and a network that remembers what it has heard.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use matryx_core::event::SigningKey;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomVersionId, ServerName,
    server_name, uint,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::super::Outbox;
use crate::{
    clock::Clock,
    federation::{Backoff, Client, Destinations, Transport, TransportError},
    random::Random,
    room::tests::world::World,
};

const ALICE: &str = "@alice:x";

/// A transaction as a server has heard it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) server: OwnedServerName,
    pub(super) id: String,
    /// What its messages say; the types of other events.
    pub(super) said: Vec<String>,
    pub(super) edus: usize,
    pub(super) answered: bool,
}

/// A network that remembers.
#[derive(Debug, Default)]
pub(super) struct Wire {
    down: Mutex<HashSet<OwnedServerName>>,
    /// Who is there, and answers 500.
    pub(super) failing: Mutex<HashSet<OwnedServerName>>,
    /// What a server takes for no event, and answers 400.
    pub(super) refused: Mutex<Option<String>>,
    pub(super) heard: watch::Sender<Vec<Heard>>,
}

impl Transport for Wire {
    fn send<'a>(
        &'a self,
        to: &'a ServerName,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'a, Result<http::Response<Body>, TransportError>> {
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let said = |pdu: &Value| {
            let text = pdu["content"]["body"].as_str().or(pdu["type"].as_str()).unwrap();
            text.to_owned()
        };
        let heard = Heard {
            server: to.to_owned(),
            id: request.uri().path().rsplit('/').next().unwrap().to_owned(),
            said: body["pdus"].as_array().unwrap().iter().map(said).collect(),
            edus: body.get("edus").map_or(0, |edus| edus.as_array().unwrap().len()),
            answered: !self.down.lock().unwrap().contains(to)
                && !self.failing.lock().unwrap().contains(to),
        };
        let failing = self.failing.lock().unwrap().contains(to);
        let refused = self.refused.lock().unwrap().as_ref().is_some_and(|r| heard.said.contains(r));
        let answered = heard.answered;
        self.heard.send_modify(|all| all.push(heard));
        async move {
            if !answered && !failing {
                return Err(TransportError::Unreachable("it is down".to_owned()));
            }
            let (status, answer) = if failing {
                (500, json!({"errcode": "M_UNKNOWN", "error": "my database"}))
            } else if refused {
                (400, json!({"errcode": "M_BAD_JSON", "error": "what is this"}))
            } else {
                (200, json!({"pdus": {"$1": {"error": "no"}, "$2": {}}}))
            };
            let response = http::Response::builder().status(status);
            Ok(response.body(Body::from(answer.to_string())).unwrap())
        }
        .boxed()
    }
}

impl Wire {
    pub(super) async fn wait(&self, enough: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let mut heard = self.heard.subscribe();
        let all = heard.wait_for(|heard| enough(heard));
        tokio::time::timeout(Duration::from_mins(3), all).await.unwrap().unwrap().clone()
    }

    /// Waits until a server has answered for this message.
    pub(super) async fn wait_for(&self, server: &ServerName, said: &str) -> Vec<Heard> {
        self.wait(|heard| {
            heard.iter().any(|heard| {
                heard.answered && heard.server == server && heard.said.iter().any(|s| s == said)
            })
        })
        .await
    }

    pub(super) fn set_down(&self, server: &ServerName, down: bool) {
        let mut all = self.down.lock().unwrap();
        if down {
            all.insert(server.to_owned())
        } else {
            all.remove(server)
        };
    }
}

/// A server with rooms and an outbox at work.
pub(super) struct Post {
    pub(super) world: World,
    pub(super) wire: Arc<Wire>,
    pub(super) outbox: Outbox,
    pub(super) destinations: Destinations,
    pub(super) clock: Clock,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Post {
    pub(super) async fn new() -> Self {
        Self::over(World::new(RoomVersionId::V11).await, Arc::default()).await
    }

    async fn over(world: World, wire: Arc<Wire>) -> Self {
        let database = world.rooms.database().clone();
        let clock = Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(1_000)));
        let random = Random::seeded(1);
        let backoff = Backoff::USUAL;
        let destinations =
            Destinations::open(database, backoff, clock.clone(), random.clone()).await.unwrap();
        let key = Arc::new(SigningKey::from_seed("test", [7; 32]).unwrap());
        let us = server_name!("x").to_owned();
        let transport: Arc<dyn Transport> = wire.clone();
        let client = Client::new(us.clone(), key, transport, destinations.clone(), clock.clone());
        let outbox = Outbox::new(us, client, destinations.clone(), backoff, clock.clone(), &random);
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        outbox.start(&world.rooms, shutdown.clone(), &tasks).await.unwrap();
        Self { world, wire, outbox, destinations, clock, shutdown, tasks }
    }

    pub(super) async fn restart(self) -> Self {
        let Self { world, wire, outbox, shutdown, tasks, .. } = self;
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        drop(outbox);
        Self::over(world.restart().await, wire).await
    }

    pub(super) async fn room(&self, members: &[&str]) -> OwnedRoomId {
        let room = self.world.room(ALICE, "public").await;
        for member in members {
            self.world.join(&room, member).await;
        }
        room
    }

    pub(super) async fn say(&self, room: &OwnedRoomId, bodies: impl IntoIterator<Item = String>) {
        for body in bodies {
            let content = json!({"body": body});
            self.world.say(room, ALICE, "m.room.message", None, content).await.unwrap();
        }
    }

    /// Lets time pass until enough has been heard. It stands still while something is on its way, which would take too long
    /// otherwise.
    pub(super) async fn pass(&self, enough: impl Fn(&[Heard]) -> bool) {
        while !enough(&self.wire.heard.borrow()) {
            if !self.outbox.slots().values().any(|slot| slot.queue.is_on_its_way()) {
                self.clock.advance(Duration::from_secs(10));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until everything that has been said is in the queue of a server that is down: the outbox hears of it after
    /// whoever has said it.
    pub(super) async fn dealt(&self, server: &ServerName) {
        let outgoing = self.world.rooms.database().outgoing().await.unwrap();
        let newest = outgoing.iter().map(|out| out.place).max();
        while self.outbox.slots().get(server).and_then(|slot| slot.queue.newest()) != newest {
            tokio::task::yield_now().await;
        }
    }

    /// The server answers again, and shows itself.
    pub(super) async fn bring_up(&self, server: &ServerName) {
        while self.destinations.may_try(server).is_ok() {
            tokio::task::yield_now().await;
        }
        self.wire.set_down(server, false);
        self.destinations.succeeded(server).await;
    }

    /// Waits until nothing is kept of what goes out.
    pub(super) async fn settled(&self) {
        while !self.world.rooms.database().outgoing().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// Until it is written down that a server has everything. What it has and nobody has noted is sent again.
    pub(super) async fn noted(&self, server: &ServerName) {
        let database = self.world.rooms.database();
        loop {
            let last = database.outgoing().await.unwrap().iter().map(|out| out.place).max();
            let cursor = database.cursors().await.unwrap().get(server).copied();
            if last.is_some() && cursor >= last {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}
