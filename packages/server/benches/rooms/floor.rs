//! The floor: four statements, one durable transaction, nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use surrealdb::{Surreal, engine::local::Db, types::object};
use surrealdb_cnf::ConfigMap;
use surrealdb_engine_local::Datastore;
use tempfile::TempDir;

use crate::world::{BLOCK_CACHE, MEMTABLE, Syncing};

/// An event of the usual size.
const EVENT_BYTES: usize = 650;

/// A database with four tables, and how many transactions it has seen.
pub(crate) struct Floor {
    datastore: Arc<Datastore>,
    client: Surreal<Db>,
    written: i64,
    _folder: TempDir,
}

impl Floor {
    pub(crate) async fn open(syncing: Syncing) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("surrealkv://{}/floor{}", folder.path().display(), syncing.option());
        let config = ConfigMap::empty()
            .with_key_value("surrealkv_max_memtable_size", MEMTABLE.to_string())
            .with_key_value("surrealkv_block_cache_capacity", BLOCK_CACHE.to_string());
        let datastore = Datastore::builder()
            .with_config(config)
            .without_maintenance_tasks()
            .build_with_path(&url)
            .await
            .expect("a store");
        datastore.check_version().await.expect("a version");
        datastore.bootstrap().await.expect("a bootstrap");
        let client = Surreal::<Db>::unstable_from_datastore(Arc::clone(&datastore), None)
            .await
            .expect("a client");
        client.use_ns("floor").use_db("floor").await.expect("a database");
        let tables = "DEFINE TABLE event; DEFINE TABLE line; DEFINE TABLE key; DEFINE TABLE room";
        client.query(tables).await.expect("tables").check().expect("tables");
        Self { datastore, client, written: 0, _folder: folder }
    }

    /// How long each of so many transactions takes.
    pub(crate) async fn time(&mut self, times: usize) -> Vec<Duration> {
        let json = "x".repeat(EVENT_BYTES);
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times {
            self.written += 1;
            let begun = Instant::now();
            self.write(&json).await;
            taken.push(begun.elapsed());
        }
        taken
    }

    async fn write(&self, json: &str) {
        self.client
            .query(
                "BEGIN;
                 CREATE type::record('event', $event) SET room = $room, n = $n, json = $json RETURN NONE;
                 CREATE type::record('line', [$room, $n]) SET pos = $n, event = $event RETURN NONE;
                 CREATE type::record('key', [$room, 'm.room.member', '@a:x', $n]) SET event = $event RETURN NONE;
                 UPSERT type::record('room', $room) SET n = $n, pos = $n, tips = [$event] RETURN NONE;
                 COMMIT",
            )
            .bind(object! {
                event: format!("$event{}", self.written),
                room: "!room:x",
                n: self.written,
                json: json,
            })
            .await
            .expect("a transaction")
            .check()
            .expect("a commit");
    }

    pub(crate) async fn close(self) {
        self.datastore.shutdown().await.expect("a shutdown");
    }
}
