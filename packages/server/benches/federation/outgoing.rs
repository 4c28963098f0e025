//! What other servers cost the one who sends.
//!
//! The network is one in memory, which acknowledges everything at once: what is measured is ours. A send is timed while
//! nothing else is under way, and the servers have all been told before the next one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use matryx_core::{
    event::{Draft, Place, SigningKey, seal},
    room::auth_keys,
};
use matryx_server::{
    app::App,
    clock::Clock,
    config::Config,
    federation::{Transport, TransportError},
    lifecycle,
    random::Random,
    room::{Door, Intent, NewRoom, Preset, Proposal, create},
};
use ruma::{CanonicalJsonObject, OwnedRoomId, RoomVersionId, ServerName, UserId, user_id};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::figures::{Figures, median};

/// How often a send is repeated.
const TIMES: usize = 100;

/// How long everything rests before a send, so that the machine has forgotten the one before.
const REST: Duration = Duration::from_millis(50);

/// How much more 200 servers may cost the sender than 2: what differs from run to run.
const LIMIT: f64 = 1.25;

/// A network that acknowledges everything, and counts.
#[derive(Debug, Default)]
struct Nowhere(watch::Sender<usize>);

impl Transport for Nowhere {
    fn send<'a>(
        &'a self,
        _: &'a ServerName,
        _: http::Request<Bytes>,
    ) -> BoxFuture<'a, Result<http::Response<Body>, TransportError>> {
        self.0.send_modify(|count| *count += 1);
        async { Ok(http::Response::new(Body::from(r#"{"pdus":{}}"#))) }.boxed()
    }
}

struct World {
    app: App,
    network: Arc<Nowhere>,
    _folder: tempfile::TempDir,
}

pub(crate) async fn measure(figures: &mut Figures) {
    let world = World::start().await;
    let (two, two_told) = world.measure(2).await;
    let (many, many_told) = world.measure(200).await;
    figures.note("a send to 2 servers", two);
    figures.note("… until both have been told", two_told);
    figures.ratio("a send to 200 servers", many, two, LIMIT);
    figures.note("… until all have been told", many_told);
    world.stop().await;
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        let (database, keys) = lifecycle::open(&config).await.expect("a database");
        let network = Arc::new(Nowhere::default());
        let transport: Arc<dyn Transport> = network.clone();
        let (clock, random) = (Clock::machine(), Random::machine());
        let app = App::open(config, clock, keys, database, transport, random).await;
        Self { app: app.expect("a server"), network, _folder: folder }
    }

    async fn stop(self) {
        self.app.shutdown.cancel();
        self.app.tasks.close();
        self.app.tasks.wait().await;
        self.app.database.clone().close().await.expect("an end");
    }

    /// The medians of a send, and of how long it takes until all servers have been told.
    async fn measure(&self, servers: usize) -> (Duration, Duration) {
        let room = self.room().await;
        for number in 0..servers {
            self.join(&room, &format!("@guest:s{number}.test")).await;
        }
        self.at_rest().await;
        let mut sends = Vec::with_capacity(TIMES);
        let mut all = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            let before = *self.network.0.borrow();
            let begun = Instant::now();
            self.say(&room).await;
            sends.push(begun.elapsed());
            let mut count = self.network.0.subscribe();
            count.wait_for(|count| *count >= before + servers).await.expect("a network");
            all.push(begun.elapsed());
            self.at_rest().await;
            tokio::time::sleep(REST).await;
        }
        (median(&mut sends), median(&mut all))
    }

    /// Waits until nobody is owed anything.
    async fn at_rest(&self) {
        while !self.app.database.outgoing().await.expect("rows").is_empty() {
            // The rows tell nobody that they are gone; to look at them all the time would disturb the work on them.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn room(&self) -> OwnedRoomId {
        let wanted = NewRoom {
            version: RoomVersionId::V11,
            creation_content: CanonicalJsonObject::new(),
            preset: Preset::Public,
            initial_state: Vec::new(),
            levels: CanonicalJsonObject::new(),
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
        };
        create(&self.app, alice(), wanted).await.expect("a room").room
    }

    /// A user of another server comes in by a handshake.
    async fn join(&self, room: &OwnedRoomId, user: &str) {
        let look = self.app.rooms.room(room).await.expect("a store").expect("a room").look();
        let user = <&UserId>::try_from(user).expect("a user id");
        let draft =
            draft(user, "m.room.member", Some(user.as_str()), json!({"membership": "join"}));
        let content = serde_json::value::to_raw_value(&draft.content).expect("JSON");
        let key = draft.state_key.as_deref();
        let keys = auth_keys(&draft.kind, user, key, &content, &look.rules).expect("keys");
        let (prev_events, depth) = look.prev_events();
        let place = Place {
            room_id: Some(room.clone()),
            prev_events,
            auth_events: keys
                .iter()
                .filter_map(|key| Some(look.entry(key)?.event_id.clone()))
                .collect(),
            depth,
            origin_server_ts: self.app.clock.now(),
        };
        let key = SigningKey::from_seed("bench", [7; 32]).expect("a key");
        let pdu = seal(draft, place, user.server_name(), &key, &look.rules).expect("an event");
        self.app.rooms.receive(pdu, Door::Handshake).await.expect("a join");
    }

    async fn say(&self, room: &OwnedRoomId) {
        let draft = draft(alice(), "m.room.message", None, json!({"body": "x".repeat(200)}));
        let intent = Intent::new(Vec::new(), move |_| Ok(Proposal::say(draft.clone())));
        self.app.rooms.send(room, intent).await.expect("it is said");
    }
}

fn alice() -> &'static UserId {
    user_id!("@alice:localhost")
}

fn draft(sender: &UserId, kind: &str, state_key: Option<&str>, content: Value) -> Draft {
    Draft {
        sender: sender.to_owned(),
        kind: kind.into(),
        state_key: state_key.map(str::to_owned),
        content: serde_json::from_value(content).expect("content"),
        redacts: None,
    }
}
