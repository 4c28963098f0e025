//! Who is behind an access token, from memory.

use std::sync::atomic::{AtomicU64, Ordering};

use matryx_repository::{Grant, Removed, StoreError, TokenHash};
use moka::sync::Cache;
use ruma::{DeviceId, MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedUserId, UserId};

use super::{Users, ending::Endings};

/// How many tokens are remembered; some 300 bytes each.
const REMEMBERED: u64 = 65_536;

/// Who is behind an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device that the token belongs to; a token need not have one.
    pub device_id: Option<OwnedDeviceId>,
    /// When the token stops to be good, where it does.
    pub expires_at: Option<MilliSecondsSinceUnixEpoch>,
    /// What is kept of the token.
    pub token: TokenHash,
}

/// The tokens that were seen lately.
#[derive(Debug)]
pub(super) struct Sessions {
    known: Cache<TokenHash, Requester>,
    /// Counts removals. Whoever read a token from the store before a removal must not remember it after.
    removals: AtomicU64,
    endings: Endings,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            known: Cache::new(REMEMBERED),
            removals: AtomicU64::new(0),
            endings: Endings::default(),
        }
    }

    /// Ends the session of a device, or of all of a user's, whose tokens are gone from the store: who waits for that is
    /// told.
    pub(super) fn end(&self, user: &UserId, device: Option<&DeviceId>, removed: &Removed) {
        self.forget(removed);
        self.endings.end(user, device);
    }

    /// Forgets tokens that are gone from the store. Where others have taken their place the session goes on.
    pub(super) fn forget(&self, removed: &Removed) {
        // In this order: who remembers one after we forgot it finds that the count has changed.
        self.removals.fetch_add(1, Ordering::SeqCst);
        for token in &removed.0 {
            self.known.invalidate(token);
        }
    }

    fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }

    /// Remembers a token that was read when there had been `removals` removals.
    fn remember(&self, token: TokenHash, requester: Requester, removals: u64) {
        self.known.insert(token, requester);
        if self.removals() != removals {
            self.known.invalidate(&token);
        }
    }
}

impl Users {
    /// The user behind an access token, also where it has expired (`expires_at` says so); nothing if it is unknown.
    ///
    /// A token that was seen lately costs no database access.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn authenticate(&self, token: &str) -> Result<Option<Requester>, StoreError> {
        let hash = TokenHash::of(token);
        let sessions = &self.0.sessions;
        if let Some(requester) = sessions.known.get(&hash) {
            return Ok(Some(requester));
        }
        let removals = sessions.removals();
        let Some(grant) = self.0.database.grant(&hash).await? else { return Ok(None) };
        if grant.next {
            // The first use of what a refresh gave out. As a task of its own: when the caller goes away between the
            // commit and forgetting the old token, that would stay good.
            let (users, grant) = (self.clone(), grant.clone());
            let settled = tokio::spawn(async move { users.settle(&hash, &grant).await });
            match settled.await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(panic) => return Err(StoreError::Engine(panic.to_string())),
            }
        }
        let requester = Requester {
            user_id: grant.user_id,
            device_id: Some(grant.device_id),
            expires_at: grant.expires,
            token: hash,
        };
        sessions.remember(hash, requester.clone(), removals);
        Ok(Some(requester))
    }

    /// Waits until a session ends: its device is logged out, or logged in anew, or the account is closed. That other
    /// tokens have taken the place of this one does not end it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ended(&self, requester: &Requester) -> Result<(), StoreError> {
        let Some(device) = &requester.device_id else { return std::future::pending().await };
        let sessions = &self.0.sessions;
        let mut ending = sessions.endings.wait(&requester.user_id, device);
        // What has ended before it was waited for.
        let known = sessions.known.contains_key(&requester.token)
            || self.0.database.grant(&requester.token).await?.is_some();
        if known {
            ending.comes().await;
        }
        Ok(())
    }

    /// Makes the next pair of tokens the current one. False if it is gone.
    async fn settle(&self, hash: &TokenHash, grant: &Grant) -> Result<bool, StoreError> {
        match self.0.database.settle(hash, grant).await? {
            Some(removed) => {
                self.0.sessions.forget(&removed);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn what_was_read_before_a_removal_is_not_remembered_after_it() {
        let sessions = Sessions::new();
        let requester = Requester {
            user_id: user_id!("@alice:hs1").to_owned(),
            device_id: None,
            expires_at: None,
            token: TokenHash::of("kept"),
        };
        let (kept, gone) = (TokenHash::of("kept"), TokenHash::of("gone"));
        sessions.remember(kept, requester.clone(), sessions.removals());
        let before = sessions.removals();
        sessions.forget(&Removed(vec![gone]));
        sessions.remember(gone, requester.clone(), before);
        assert_eq!(sessions.known.get(&gone), None);
        assert_eq!(sessions.known.get(&kept), Some(requester));
    }
}
