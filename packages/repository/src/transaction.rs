//! `txn:[user, device, endpoint, id]`: the requests of clients that must happen once.

use surrealdb::types::{RecordId, SurrealValue, object};

use crate::{Database, Sent, StoreError, value};

/// What makes a client's request the same as an earlier one: device, endpoint with its path, transaction id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransactionKey {
    /// Who and which device, and the client's transaction id.
    pub sent: Sent,
    /// The endpoint with its path, such as `send/!room/m.room.message`.
    pub endpoint: String,
}

impl TransactionKey {
    pub(crate) fn record(&self) -> RecordId {
        value::record(
            "txn",
            vec![
                self.sent.user.as_str().into_value(),
                self.sent.device.as_str().into_value(),
                self.endpoint.as_str().into_value(),
                self.sent.transaction.as_str().into_value(),
            ],
        )
    }
}

impl Database {
    /// The event that a device's earlier request with this transaction id made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn transaction(&self, key: &TransactionKey) -> Result<Option<String>, StoreError> {
        let mut answer =
            self.ask("SELECT VALUE event FROM ONLY $id", object! { id: key.record() }).await?;
        Ok(answer.take(0)?)
    }
}
