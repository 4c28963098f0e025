//! Logging in, staying logged in, logging out.

use std::time::Duration;

use matryx_repository::{Login, NextPair, StoreError, TokenHash};
use ruma::{DeviceId, MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedUserId, UserId};

use super::{UserError, Users, error::DEVICE_ID_LIMIT, name};
use crate::clock::later;

/// How long an access token is good that its client can refresh. One that can't be refreshed is good until logout.
const LIFETIME: Duration = Duration::from_hours(1);

/// What a client says about the device that it logs in.
#[derive(Clone, Debug, Default)]
pub struct NewDevice {
    /// Its id, where the client knows one from before; else it gets one.
    pub device_id: Option<OwnedDeviceId>,
    /// How it is to be called, if it is new.
    pub display_name: Option<String>,
    /// Whether the client knows how to refresh its tokens.
    pub refresh: bool,
}

/// A device that is logged in, and its tokens. This is the only time that they are seen.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// Whose device it is.
    pub user_id: OwnedUserId,
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// The access token.
    pub access_token: String,
    /// The refresh token, if the client asked for one.
    pub refresh_token: Option<String>,
    /// How long the access token is good; for ever if none.
    pub expires_in: Option<Duration>,
}

impl LoggedIn {
    /// What the store keeps of it.
    pub(super) fn to_login(&self, name: Option<String>, at: MilliSecondsSinceUnixEpoch) -> Login {
        Login {
            user_id: self.user_id.clone(),
            device_id: self.device_id.clone(),
            name,
            at,
            access: TokenHash::of(&self.access_token),
            expires: self.expires_in.map(|lifetime| later(at, lifetime)),
            refresh: self.refresh_token.as_deref().map(TokenHash::of),
        }
    }
}

impl Users {
    /// Logs a user in by password. `name` is a user id or only its local part.
    ///
    /// That a user does not exist takes as long to find out as that the password is wrong.
    ///
    /// # Errors
    /// When name or password are wrong, the account is deactivated, or the database fails.
    pub async fn log_in(
        &self,
        name: &str,
        password: String,
        device: NewDevice,
    ) -> Result<LoggedIn, UserError> {
        let user_id = name::given(name, &self.0.server_name);
        let account = match &user_id {
            Some(user_id) => self.0.database.account(user_id).await?,
            None => None,
        };
        let deactivated = account.as_ref().is_some_and(|account| account.deactivated);
        let hash = account.and_then(|account| account.password);
        let fits = self.0.hashing.verify(password, hash).await?;
        match user_id {
            _ if deactivated => Err(UserError::Deactivated),
            Some(user_id) if fits => self.log_in_as(&user_id, device).await,
            _ => Err(UserError::WrongPassword),
        }
    }

    /// Logs a user in who has been shown to be that user. A known device gets new tokens in place of its old ones.
    async fn log_in_as(&self, user: &UserId, device: NewDevice) -> Result<LoggedIn, UserError> {
        let logged_in = self.tokens_for(user, &device)?;
        let login = logged_in.to_login(device.display_name, self.0.clock.now());
        match self.0.database.log_in(&login).await? {
            Some(removed) => {
                self.0.sessions.end(user, Some(&logged_in.device_id), &removed);
                Ok(logged_in)
            }
            None => Err(UserError::Deactivated),
        }
    }

    /// Makes the tokens of a device, and its id if it has none. Nothing is written.
    pub(super) fn tokens_for(
        &self,
        user: &UserId,
        device: &NewDevice,
    ) -> Result<LoggedIn, UserError> {
        let device_id = match &device.device_id {
            Some(id) if id.as_str().len() > DEVICE_ID_LIMIT => return Err(UserError::BadDeviceId),
            Some(id) if !id.as_str().is_empty() => id.clone(),
            _ => self.0.random.text(10, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ").into(),
        };
        Ok(LoggedIn {
            user_id: user.to_owned(),
            device_id,
            access_token: self.access_token(),
            refresh_token: device.refresh.then(|| self.refresh_token()),
            expires_in: device.refresh.then_some(LIFETIME),
        })
    }

    /// Gives a device a new pair of tokens for its refresh token.
    ///
    /// The old pair stays good until the new one is first used: an answer that gets lost locks nobody out.
    ///
    /// # Errors
    /// When the token is not known, or the database fails.
    pub async fn refresh(&self, refresh_token: &str) -> Result<LoggedIn, UserError> {
        let used = TokenHash::of(refresh_token);
        let owner = self.0.database.refresh_owner(&used).await?;
        let owner = owner.ok_or(UserError::UnknownRefreshToken)?;
        let (access_token, refresh_token) = (self.access_token(), self.refresh_token());
        let pair = NextPair {
            access: TokenHash::of(&access_token),
            expires: later(self.0.clock.now(), LIFETIME),
            refresh: TokenHash::of(&refresh_token),
        };
        let removed = self.0.database.refresh(&used, &owner, &pair).await?;
        self.0.sessions.forget(&removed.ok_or(UserError::UnknownRefreshToken)?);
        let (user_id, device_id) = owner;
        let (refresh_token, expires_in) = (Some(refresh_token), Some(LIFETIME));
        Ok(LoggedIn { user_id, device_id, access_token, refresh_token, expires_in })
    }

    /// Logs one device out. Its tokens are good no longer when this returns.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn log_out(&self, user: &UserId, device: &DeviceId) -> Result<(), StoreError> {
        let removed = self.0.database.log_out(user, device).await?;
        self.0.sessions.end(user, Some(device), &removed);
        Ok(())
    }

    /// Logs all devices of a user out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn log_out_all(&self, user: &UserId) -> Result<(), StoreError> {
        let removed = self.0.database.log_out_all(user).await?;
        self.0.sessions.end(user, None, &removed);
        Ok(())
    }

    /// The prefixes tell people, and programs that look for leaked secrets, what they have before them.
    fn access_token(&self) -> String {
        format!("mxa_{}", self.0.random.secret())
    }

    fn refresh_token(&self) -> String {
        format!("mxr_{}", self.0.random.secret())
    }
}
