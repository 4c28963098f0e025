//! Filters of clients: `filter:[user, id]`.
//!
//! A filter's id is taken from its content, so that a client that uploads the same one at each start gets the same
//! id, and a filter never changes once it is there.

use ruma::UserId;
use sha2::{Digest, Sha256};
use surrealdb::types::{RecordId, SurrealValue, object};

use crate::{Database, StoreError, value};

/// The id of a filter with this JSON text.
fn filter_id(json: &str) -> String {
    // 64 bits: whoever makes two of them collide has only tricked himself, ids are his own.
    let hash: [u8; 32] = Sha256::digest(json).into();
    let start = hash.iter().take(8).fold(0, |start: u64, byte| start << 8 | u64::from(*byte));
    format!("{start:016x}")
}

fn row(user: &UserId, id: &str) -> RecordId {
    value::record("filter", [user.as_str().into_value(), id.into_value()])
}

impl Database {
    /// Keeps a filter and returns its id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_filter(&self, user: &UserId, json: &str) -> Result<String, StoreError> {
        let id = filter_id(json);
        let variables = object! { filter: row(user, &id), json: json };
        self.change("UPSERT $filter SET json = $json RETURN NONE", variables).await?;
        Ok(id)
    }

    /// The JSON text of a user's filter.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn filter(&self, user: &UserId, id: &str) -> Result<Option<String>, StoreError> {
        let variables = object! { filter: row(user, id) };
        let mut answer = self.ask("SELECT VALUE json FROM ONLY $filter", variables).await?;
        Ok(answer.take(0)?)
    }
}
