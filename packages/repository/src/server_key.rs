//! Keys of other servers: `server_key:[server name, key id]`.
//!
//! A key stays for good: what it has signed is verified with it when it has long been replaced.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerSigningKeyId, ServerName, serde::Base64};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError, time,
    value::{beginning_with, parsed, record, text_part, unfit},
};

/// A key of another server, as it was last published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKey {
    /// Its id, `ed25519:…`.
    pub id: OwnedServerSigningKeyId,
    /// The public key.
    pub key: Base64,
    /// What it signs until then is believed, at most.
    pub until: MilliSecondsSinceUnixEpoch,
    /// Whether its owner says that it is in use no more since then.
    pub expired: bool,
    /// The signed object that it was published in, as JSON.
    pub json: String,
}

#[derive(SurrealValue)]
struct Row {
    id: RecordId,
    key: String,
    until: i64,
    expired: bool,
    json: String,
}

impl Database {
    /// All keys that are known of a server.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn server_keys(&self, server: &ServerName) -> Result<Vec<ServerKey>, StoreError> {
        let range = beginning_with("server_key", vec![server.as_str().into_value()]);
        let sql = "SELECT id, key, until, expired, json FROM $range";
        let mut answer = self.ask(sql, object! { range: range }).await?;
        answer.take::<Vec<Row>>(0)?.into_iter().map(read).collect()
    }

    /// Keeps keys of a server, in place of what was known of the same keys.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_server_keys(
        &self,
        server: &ServerName,
        keys: &[ServerKey],
    ) -> Result<(), StoreError> {
        let rows: Vec<Object> = keys.iter().map(|key| row(server, key)).collect();
        let sql = "FOR $row IN $rows { UPSERT $row.id CONTENT $row RETURN NONE }";
        self.change(sql, object! { rows: rows }).await.map(drop)
    }
}

fn row(server: &ServerName, key: &ServerKey) -> Object {
    let id = vec![server.as_str().into_value(), key.id.as_str().into_value()];
    object! {
        id: record("server_key", id),
        key: key.key.encode(),
        until: time::to_row(key.until),
        expired: key.expired,
        json: key.json.as_str(),
    }
}

fn read(row: Row) -> Result<ServerKey, StoreError> {
    let bad = unfit(&row.id);
    Ok(ServerKey {
        id: parsed(text_part(&row.id, 1)?, &bad)?,
        key: Base64::parse(&row.key).map_err(|error| bad(error.to_string()))?,
        until: time::from_row(row.until),
        expired: row.expired,
        json: row.json,
    })
}
