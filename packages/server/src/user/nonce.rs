//! Nonces: what a script must show once, soon after it got it.

use std::time::Duration;

use super::Users;
use crate::clock::later;

/// How long a nonce is good.
const LIFETIME: Duration = Duration::from_mins(1);
/// How many are kept: whoever asks for many loses the oldest.
pub(super) const NONCES: u64 = 1000;

impl Users {
    /// A nonce that [`take_nonce`](Self::take_nonce) accepts once, within a minute.
    #[must_use]
    pub fn nonce(&self) -> String {
        let nonce = self.0.random.secret();
        self.0.nonces.insert(nonce.clone(), later(self.0.clock.now(), LIFETIME));
        nonce
    }

    /// Uses a nonce up; whether it was good.
    #[must_use]
    pub fn take_nonce(&self, nonce: &str) -> bool {
        let until = self.0.nonces.remove(nonce);
        until.is_some_and(|until| self.0.clock.now() <= until)
    }
}
