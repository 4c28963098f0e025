//! Passwords: Argon2id, on the blocking pool, a few at a time.

use std::{fmt, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::{Error as HashError, Salt, SaltString},
};
use tokio::sync::Semaphore;

use super::UserError;
use crate::random::Random;

/// The longest password, in bytes: hashing must not be a way to keep the server busy.
const LIMIT: usize = 1024;

/// The least that Argon2 can do. What is used otherwise, its default, is what OWASP recommends: 19 MiB, two passes.
const CHEAP: Params =
    match Params::new(Params::MIN_M_COST, Params::MIN_T_COST, Params::MIN_P_COST, None) {
        Ok(params) => params,
        Err(_) => Params::DEFAULT,
    };

/// Hashes passwords and checks them.
pub(super) struct Hashing {
    argon2: Argon2<'static>,
    /// How many may be at work at once: each takes a core and 19 MiB for some ten milliseconds.
    at_once: Arc<Semaphore>,
    random: Random,
    /// A hash of the same parameters and of nobody's password: what is checked when there is no such user.
    decoy: String,
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing").field("params", self.argon2.params()).finish_non_exhaustive()
    }
}

impl Hashing {
    /// `cheap`: with the least that Argon2 can do, for tests.
    pub(super) fn new(cheap: bool, random: Random) -> Self {
        let params = if cheap { CHEAP } else { Params::DEFAULT };
        let decoy = format!(
            "$argon2id$v=19$m={},t={},p={}${}${}",
            params.m_cost(),
            params.t_cost(),
            params.p_cost(),
            "A".repeat(22),
            "A".repeat(43),
        );
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { argon2, at_once: Arc::new(Semaphore::new(cores)), random, decoy }
    }

    /// The hash of a new password, in PHC format.
    pub(super) async fn hash(&self, password: String) -> Result<String, UserError> {
        if password.is_empty() {
            return Err(UserError::BadPassword("A password can't be empty."));
        }
        if password.len() > LIMIT {
            return Err(UserError::BadPassword("A password has at most 1024 bytes."));
        }
        let (argon2, random) = (self.argon2.clone(), self.random.clone());
        self.on_the_blocking_pool(move || hash(&argon2, &password, &random)).await
    }

    /// Whether this is the password. Without a hash to check against it takes as long, and it is not.
    pub(super) async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, UserError> {
        if password.len() > LIMIT {
            return Ok(false);
        }
        let argon2 = self.argon2.clone();
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let fits = self.on_the_blocking_pool(move || verify(&argon2, &password, &hash)).await?;
        Ok(fits && known)
    }

    async fn on_the_blocking_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, UserError> + Send + 'static,
    ) -> Result<T, UserError> {
        let permit = Arc::clone(&self.at_once).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.unwrap_or_else(|panic| Err(UserError::Hashing(panic.to_string())))
    }
}

fn hash(argon2: &Argon2<'_>, password: &str, random: &Random) -> Result<String, UserError> {
    let salt = SaltString::encode_b64(&random.bytes::<{ Salt::RECOMMENDED_LENGTH }>())
        .map_err(|error| UserError::Hashing(error.to_string()))?;
    argon2
        .hash_password(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| UserError::Hashing(error.to_string()))
}

/// The parameters are those of the hash, so that older hashes stay good when ours change.
fn verify(argon2: &Argon2<'_>, password: &str, hash: &str) -> Result<bool, UserError> {
    let parsed = PasswordHash::new(hash).map_err(|error| UserError::Hashing(error.to_string()))?;
    match argon2.verify_password(password.as_bytes(), &parsed) {
        Ok(()) => Ok(true),
        Err(HashError::Password) => Ok(false),
        Err(error) => Err(UserError::Hashing(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_fits_its_hash() {
        let hashing = Hashing::new(true, Random::seeded(1));
        let hash = hashing.hash("wonderland".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert!(hashing.verify("wonderland".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!hashing.verify("Wonderland".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!hashing.verify("wonderland".to_owned(), None).await.unwrap());
        assert_ne!(hashing.hash("wonderland".to_owned()).await.unwrap(), hash);
    }

    #[tokio::test]
    async fn passwords_of_other_parameters_are_checked_by_theirs() {
        let random = Random::seeded(1);
        let cheap = Hashing::new(true, random.clone());
        let dear = Hashing::new(false, random);
        let hash = cheap.hash("wonderland".to_owned()).await.unwrap();
        assert!(dear.verify("wonderland".to_owned(), Some(hash)).await.unwrap());
        let hash = dear.hash("wonderland".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }

    #[tokio::test]
    async fn empty_and_endless_passwords_are_refused() {
        let hashing = Hashing::new(true, Random::seeded(1));
        for password in [String::new(), "x".repeat(LIMIT + 1)] {
            let refused = hashing.hash(password.clone()).await;
            assert!(matches!(refused, Err(UserError::BadPassword(_))));
            assert!(!hashing.verify(password, None).await.unwrap());
        }
        assert!(matches!(
            hashing.verify("x".to_owned(), Some("no hash".to_owned())).await,
            Err(UserError::Hashing(_))
        ));
    }
}
