//! Randomness as a parameter: the only place that asks the machine for it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::{Rng, RngCore, SeedableRng, TryRngCore, rngs::OsRng, rngs::StdRng};

/// Where secrets and ids come from. Cheap to clone; clones draw from the same source.
#[derive(Clone)]
pub struct Random(Arc<Mutex<dyn RngCore + Send>>);

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    /// The operating system's randomness.
    #[must_use]
    pub fn machine() -> Self {
        // A system that has no randomness left to give fails the request, loudly.
        Self(Arc::new(Mutex::new(OsRng.unwrap_err())))
    }

    /// The same for the same seed: for tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// So many random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A text that nobody guesses: 256 bits, in letters, digits, `-` and `_`.
    #[must_use]
    pub fn secret(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.bytes::<32>())
    }

    /// A text of `length` characters out of `alphabet`, which must not be empty.
    #[must_use]
    pub fn text(&self, length: usize, alphabet: &[u8]) -> String {
        let mut source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (0..length).map(|_| char::from(alphabet[source.random_range(0..alphabet.len())])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_and_the_machine_does_not_repeat() {
        assert_eq!(Random::seeded(1).secret(), Random::seeded(1).secret());
        let random = Random::machine();
        assert_ne!(random.secret(), random.clone().secret());
        assert_eq!(random.secret().len(), 43);
        let text = random.text(200, b"ab");
        assert_eq!(text.len(), 200);
        assert!(text.contains('a') && text.contains('b'));
    }
}
