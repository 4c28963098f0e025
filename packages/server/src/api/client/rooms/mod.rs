//! Rooms: a file is a chapter of the specification.

pub(super) mod create;
pub(super) mod directory;
pub(super) mod membership;
pub(super) mod messages;
mod pages;
pub(super) mod read;
pub(super) mod redact;
pub(super) mod send;
pub(super) mod state;

use matryx_repository::{Sent, TransactionKey};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedTransactionId};

use crate::{http::ApiError, user::Requester};

/// A body as the content of an event. Numbers that canonical JSON does not have are no numbers here.
fn content(body: &[u8]) -> Result<CanonicalJsonObject, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_json(format!("The body cannot be an event's content: {error}."))
    })
}

/// The content of a member event with a reason, if there is one.
fn because(reason: Option<String>) -> CanonicalJsonObject {
    reason
        .into_iter()
        .map(|reason| ("reason".to_owned(), CanonicalJsonValue::String(reason)))
        .collect()
}

/// What makes a request the same as an earlier one of the same device.
fn transaction(
    requester: &Requester,
    endpoint: String,
    transaction: OwnedTransactionId,
) -> Option<TransactionKey> {
    let device = requester.device_id.clone()?;
    let sent = Sent { user: requester.user_id.clone(), device, transaction };
    Some(TransactionKey { sent, endpoint })
}
