//! Access and refresh tokens: `access_token:⟨hash⟩` and `refresh_token:⟨hash⟩`.
//!
//! A device has a current pair. A refresh gives it a next one, and the old pair stays good until the next one is first
//! used: an answer that got lost on its way locks nobody out. So a row says whether it is of the next pair.

use std::fmt;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedUserId};
use sha2::{Digest, Sha256};
use surrealdb::types::{RecordId, SurrealValue, object};

use crate::{Database, StoreError, device, device::Removed, time, value};

pub(crate) const ACCESS: &str = "access_token";
pub(crate) const REFRESH: &str = "refresh_token";

/// The SHA-256 of a token's text: what is kept instead of it.
///
/// A token is 256 random bits, so a fast hash without salt is as good as any.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of this token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads an `access_token:⟨hash⟩` or `refresh_token:⟨hash⟩`.
    pub(crate) fn read(id: &RecordId) -> Result<Self, StoreError> {
        let mut bytes = [0; 32];
        let name = value::name_of(id)?;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = name.get(index * 2..index * 2 + 2);
            let read = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            *byte = read.ok_or_else(|| {
                StoreError::inconsistent("access_token", name, "its id is no SHA-256")
            })?;
        }
        Ok(Self(bytes))
    }

    pub(crate) fn access(&self) -> RecordId {
        value::named(ACCESS, self.to_string())
    }

    pub(crate) fn refresh(&self) -> RecordId {
        value::named(REFRESH, self.to_string())
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    /// Enough to tell two apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "TokenHash({}…)", text.get(..8).unwrap_or_default())
    }
}

/// What an access token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The device that was logged in.
    pub device_id: OwnedDeviceId,
    /// Until when it is good; for ever if none.
    pub expires: Option<MilliSecondsSinceUnixEpoch>,
    /// Whether it comes from a refresh and has not been used yet: then [`Database::settle`] it.
    pub next: bool,
}

#[derive(SurrealValue)]
struct AccessRow {
    device: RecordId,
    expires: Option<i64>,
    next: bool,
}

impl TryFrom<AccessRow> for Grant {
    type Error = StoreError;

    fn try_from(row: AccessRow) -> Result<Self, StoreError> {
        let (user_id, device_id) = device::parse(&row.device)?;
        Ok(Self { user_id, device_id, expires: row.expires.map(time::from_row), next: row.next })
    }
}

impl Database {
    /// What an access token stands for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn grant(&self, access: &TokenHash) -> Result<Option<Grant>, StoreError> {
        let variables = object! { access_row: access.access() };
        let mut answer = self.ask("SELECT * OMIT id FROM ONLY $access_row", variables).await?;
        let row: Option<AccessRow> = answer.take(0)?;
        row.map(Grant::try_from).transpose()
    }

    /// Whose device a refresh token belongs to.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_owner(
        &self,
        refresh: &TokenHash,
    ) -> Result<Option<(OwnedUserId, OwnedDeviceId)>, StoreError> {
        let variables = object! { refresh_row: refresh.refresh() };
        let mut answer = self.ask("SELECT VALUE device FROM ONLY $refresh_row", variables).await?;
        let device: Option<RecordId> = answer.take(0)?;
        device.as_ref().map(device::parse).transpose()
    }

    /// An access token of the next pair is used for the first time: the next pair becomes the current one.
    ///
    /// The tokens before it are removed. `None` if it has been replaced or logged out in the meantime.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle(
        &self,
        access: &TokenHash,
        grant: &Grant,
    ) -> Result<Option<Removed>, StoreError> {
        let sql = "{
            LET $was = SELECT tokens, next FROM ONLY $device;
            IF $was.tokens CONTAINS $used { RETURN [] };
            IF !($was.next CONTAINS $used) { RETURN NONE };
            DELETE $was.tokens;
            UPDATE $used SET next = false;
            UPDATE $device SET tokens = $was.next, next = [];
            RETURN $was.tokens;
        }";
        let device = device::id(&grant.user_id, &grant.device_id);
        let mut answer =
            self.change(sql, object! { device: device, used: access.access() }).await?;
        Removed::read(&mut answer)
    }

    /// Gives a device its next pair of tokens for its refresh token.
    ///
    /// A next pair that nobody has used is replaced: its answer got lost. `None` if the refresh token is no longer good.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh(
        &self,
        used: &TokenHash,
        owner: &(OwnedUserId, OwnedDeviceId),
        pair: &NextPair,
    ) -> Result<Option<Removed>, StoreError> {
        let sql = "{
            LET $was = SELECT tokens, next FROM ONLY $device;
            LET $is_next = $was.next CONTAINS $used;
            IF !$is_next AND !($was.tokens CONTAINS $used) { RETURN NONE };
            LET $kept = IF $is_next { $was.next } ELSE { $was.tokens };
            LET $dropped = IF $is_next { $was.tokens } ELSE { $was.next };
            DELETE $dropped;
            CREATE $new_access SET device = $device, expires = $expires, next = true RETURN NONE;
            CREATE $new_refresh SET device = $device RETURN NONE;
            UPDATE $device SET tokens = $kept, next = [$new_access, $new_refresh];
            RETURN $dropped;
        }";
        let variables = object! {
            device: device::id(&owner.0, &owner.1),
            used: used.refresh(),
            new_access: pair.access.access(),
            expires: time::to_row(pair.expires),
            new_refresh: pair.refresh.refresh(),
        };
        let mut answer = self.change(sql, variables).await?;
        Removed::read(&mut answer)
    }
}

/// The tokens that a refresh gives out.
#[derive(Debug, Clone)]
pub struct NextPair {
    /// The access token's hash.
    pub access: TokenHash,
    /// Until when it is good.
    pub expires: MilliSecondsSinceUnixEpoch,
    /// The refresh token's hash.
    pub refresh: TokenHash,
}
