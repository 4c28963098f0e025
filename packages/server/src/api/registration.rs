//! What whoever made an account is told, by either API that makes accounts.

use std::time::Duration;

use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId};
use serde::Serialize;

use crate::user::Registered;

/// A new account, and its first device if it was logged in. What is not there is left out: ruma's type would say null.
#[derive(Debug, Serialize)]
pub(super) struct Registration {
    user_id: OwnedUserId,
    /// No longer specified; older clients read it.
    home_server: OwnedServerName,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<OwnedDeviceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(
        rename = "expires_in_ms",
        with = "ruma::serde::duration::opt_ms",
        skip_serializing_if = "Option::is_none"
    )]
    expires_in: Option<Duration>,
}

impl From<Registered> for Registration {
    fn from(registered: Registered) -> Self {
        let home_server = registered.user_id.server_name().to_owned();
        let mut registration = Self {
            user_id: registered.user_id,
            home_server,
            access_token: None,
            device_id: None,
            refresh_token: None,
            expires_in: None,
        };
        if let Some(login) = registered.login {
            registration.access_token = Some(login.access_token);
            registration.device_id = Some(login.device_id);
            registration.refresh_token = login.refresh_token;
            registration.expires_in = login.expires_in;
        }
        registration
    }
}
