//! The people of this server: their accounts, their devices and the tokens that these show, their profiles.
//!
//! [`Users`] is the one door. Everything that changes something is durable before it is answered, and a token is
//! forgotten in memory before the answer that says so.

mod ending;
mod error;
mod filter;
mod login;
mod name;
mod nonce;
mod password;
mod profile;
mod register;
mod session;

use std::sync::Arc;

use matryx_repository::{Database, StoreError};
use moka::sync::Cache;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedUserId, UserId,
    api::client::filter::FilterDefinition,
};

pub use self::{
    error::UserError,
    login::{LoggedIn, NewDevice},
    register::{NewAccount, Registered},
    session::Requester,
};
use self::{password::Hashing, session::Sessions};
use crate::{clock::Clock, random::Random};

/// How many filters are remembered. One is some hundred bytes, and a client uses one.
const FILTERS: u64 = 10_000;

/// Everything that is asked about and done to accounts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Users(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database,
    server_name: OwnedServerName,
    clock: Clock,
    random: Random,
    hashing: Hashing,
    sessions: Sessions,
    /// Nonces that were given out, and until when they are good.
    nonces: Cache<String, MilliSecondsSinceUnixEpoch>,
    /// By user and filter id. A filter never changes, so nothing here becomes old.
    filters: Cache<(OwnedUserId, String), Arc<FilterDefinition>>,
}

impl Users {
    /// The accounts in this database. `cheap_hashing` is for tests only.
    #[must_use]
    pub fn new(
        database: Database,
        server_name: OwnedServerName,
        clock: Clock,
        random: Random,
        cheap_hashing: bool,
    ) -> Self {
        let hashing = Hashing::new(cheap_hashing, random.clone());
        Self(Arc::new(Inner {
            database,
            server_name,
            clock,
            random,
            hashing,
            sessions: Sessions::new(),
            nonces: Cache::new(nonce::NONCES),
            filters: Cache::new(FILTERS),
        }))
    }

    /// Whether this is a user of ours with an account that is open.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn exists(&self, user: &UserId) -> Result<bool, StoreError> {
        let account = self.0.database.account(user).await?;
        Ok(account.is_some_and(|account| !account.deactivated))
    }

    /// Whether this user may use the admin API.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_admin(&self, user: &UserId) -> Result<bool, StoreError> {
        let account = self.0.database.account(user).await?;
        Ok(account.is_some_and(|account| account.admin && !account.deactivated))
    }

    /// Makes a user an admin or takes that away.
    ///
    /// # Errors
    /// When there is no such account or it is deactivated, or the database fails.
    pub async fn set_admin(&self, user: &UserId, admin: bool) -> Result<(), UserError> {
        self.in_use(user).await?;
        if self.0.database.set_admin(user, admin).await? {
            Ok(())
        } else {
            Err(UserError::NotFound(user.to_owned()))
        }
    }

    /// Gives a user another password and, with `log_out`, ends all of the user's sessions.
    ///
    /// # Errors
    /// When there is no such account or it is deactivated, the password is refused, or the database fails.
    pub async fn set_password(
        &self,
        user: &UserId,
        password: String,
        log_out: bool,
    ) -> Result<(), UserError> {
        self.in_use(user).await?;
        let hash = self.0.hashing.hash(password).await?;
        let removed = self.0.database.set_password(user, &hash, log_out).await?;
        let removed = removed.ok_or_else(|| UserError::NotFound(user.to_owned()))?;
        if log_out {
            self.0.sessions.end(user, None, &removed);
        }
        Ok(())
    }

    /// Refuses accounts that are not there or closed: what is changed of them would do nothing.
    ///
    /// # Errors
    /// When it is one of those, or the database fails.
    pub async fn in_use(&self, user: &UserId) -> Result<(), UserError> {
        match self.0.database.account(user).await? {
            Some(account) if account.deactivated => Err(UserError::Deactivated),
            Some(_) => Ok(()),
            None => Err(UserError::NotFound(user.to_owned())),
        }
    }

    /// Closes an account for good: nobody logs in to it again, and nobody gets its name.
    ///
    /// # Errors
    /// When there is no such account, or the database fails.
    pub async fn deactivate(&self, user: &UserId) -> Result<(), UserError> {
        let removed = self.0.database.deactivate(user).await?;
        let removed = removed.ok_or_else(|| UserError::NotFound(user.to_owned()))?;
        self.0.sessions.end(user, None, &removed);
        Ok(())
    }
}
