//! The people of this server: their accounts, and the tokens that they show.

use matryx_repository::StoreError;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedUserId};

/// Who is behind an access token.
#[derive(Clone, Debug)]
pub struct Requester {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device that the token belongs to; a token need not have one.
    pub device_id: Option<OwnedDeviceId>,
    /// Which of the user's tokens it is: its name in the store, which is not the token itself.
    pub token_id: String,
    /// When the token stops to be good, where it does.
    pub expires_at: Option<MilliSecondsSinceUnixEpoch>,
}

/// Everything that is asked about and done to accounts.
#[derive(Clone, Debug, Default)]
pub struct Users {}

impl Users {
    /// The user behind an access token, also where it has expired (`expires_at` says so); nothing if it is unknown.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn authenticate(&self, _token: &str) -> Result<Option<Requester>, StoreError> {
        Ok(None)
    }
}
