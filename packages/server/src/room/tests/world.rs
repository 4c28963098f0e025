//! A store, its rooms, and people who say things in them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use matryx_core::{
    event::{Draft, Pdu, Place, SigningKey, seal},
    room::StateKey,
};
use matryx_repository::{Database, DatabaseSettings};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomVersionId,
    UserId, server_name, uint,
};
use serde_json::{Value, json};

use crate::{
    clock::Clock,
    room::{Changes, Done, Intent, Proposal, Rooms, Said, SendError},
};

pub(crate) struct World {
    pub(crate) rooms: Rooms,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) version: RoomVersionId,
    pub(crate) server: OwnedServerName,
    made: AtomicUsize,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(version: RoomVersionId) -> Self {
        Self::of(server(), version).await
    }

    /// The store of a server of this name. All of them sign with the same key.
    pub(crate) async fn of(server: OwnedServerName, version: RoomVersionId) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = Arc::new(SigningKey::from_seed("test", [7; 32]).unwrap());
        let rooms = open(folder.path(), &server, &key).await;
        Self { rooms, key, version, server, made: AtomicUsize::new(0), folder }
    }

    /// The same store, opened again.
    pub(crate) async fn restart(self) -> Self {
        let Self { rooms, key, version, server, made, folder } = self;
        rooms.database().clone().close().await.unwrap();
        drop(rooms);
        let rooms = open(folder.path(), &server, &key).await;
        Self { rooms, key, version, server, made, folder }
    }

    /// A room with a creator, power levels and join rules.
    pub(crate) async fn room(&self, creator: &str, join_rule: &str) -> OwnedRoomId {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let content = json!({"room_version": self.version, "creator": creator, "number": number});
        let rules = self.version.rules().unwrap();
        let named = !rules.authorization.room_create_event_id_as_room_id;
        let draft = draft(creator, "m.room.create", Some(""), content);
        let place = Place {
            room_id: named.then(|| format!("!room{number}:x").try_into().unwrap()),
            prev_events: Vec::new(),
            auth_events: Vec::new(),
            depth: 1,
            origin_server_ts: MilliSecondsSinceUnixEpoch(uint!(1)),
        };
        let create = seal(draft, place, &server(), &self.key, &rules).unwrap();
        let room = create.room_id().to_owned();
        let create = Arc::new(create);
        let users = if named { json!({creator: 100}) } else { json!({}) };
        let (creator, join_rule) = (creator.to_owned(), join_rule.to_owned());
        let intent = Intent::new(Vec::new(), move |_| {
            let say = vec![
                Said::Sealed(Pdu::clone(&create)),
                Said::Draft(self::draft(
                    &creator,
                    "m.room.member",
                    Some(&creator),
                    json!({"membership": "join"}),
                )),
                Said::Draft(self::draft(
                    &creator,
                    "m.room.power_levels",
                    Some(""),
                    json!({"users": users}),
                )),
                Said::Draft(self::draft(
                    &creator,
                    "m.room.join_rules",
                    Some(""),
                    json!({"join_rule": join_rule}),
                )),
            ];
            Ok(Proposal::Change(Changes { say, ..Changes::default() }))
        });
        self.rooms.create(room.clone(), self.version.clone(), intent).await.unwrap();
        room
    }

    pub(crate) async fn say(
        &self,
        room: &OwnedRoomId,
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<Done, SendError> {
        let draft = draft(sender, kind, state_key, content);
        let needs = vec![StateKey::member(<&UserId>::try_from(sender).unwrap())];
        self.rooms.send(room, Intent::new(needs, move |_| Ok(Proposal::say(draft.clone())))).await
    }

    pub(crate) async fn member(
        &self,
        room: &OwnedRoomId,
        sender: &str,
        target: &str,
        membership: &str,
    ) -> Result<Done, SendError> {
        let content = json!({"membership": membership});
        self.say(room, sender, "m.room.member", Some(target), content).await
    }
}

pub(crate) fn server() -> OwnedServerName {
    server_name!("x").to_owned()
}

pub(crate) fn draft(sender: &str, kind: &str, state_key: Option<&str>, content: Value) -> Draft {
    let content: CanonicalJsonObject = serde_json::from_value(content).unwrap();
    Draft {
        sender: sender.try_into().unwrap(),
        kind: kind.into(),
        state_key: state_key.map(str::to_owned),
        content,
        redacts: None,
    }
}

async fn open(folder: &std::path::Path, server: &OwnedServerName, key: &Arc<SigningKey>) -> Rooms {
    let settings = DatabaseSettings::in_passing(folder);
    let database = Database::open(&settings, server).await.unwrap();
    let clock = Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(1_000)));
    Rooms::open(database, server.clone(), Arc::clone(key), clock).await.unwrap()
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    matryx_repository::runtime().unwrap().block_on(test);
}
