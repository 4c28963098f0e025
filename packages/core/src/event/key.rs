//! The key that signs this server's events and requests.

use std::fmt;

use ed25519_dalek::pkcs8::ALGORITHM_OID;
use ruma::{
    OwnedServerSigningKeyId, ServerSigningKeyId, ServerSigningKeyVersion, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, KeyPair, Signature},
};

/// An Ed25519 key with the version that other servers know it by.
///
/// Kept as one line, `ed25519 <version> <unpadded base64 of the 32 byte seed>`, the form that Synapse uses, so that a
/// key can be taken along. Debugging output never shows the seed.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: [u8; 32],
    id: OwnedServerSigningKeyId,
}

/// What is wrong with a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It is not one line of three words.
    #[error("a signing key is one line of three words: `ed25519 <version> <seed in base64>`")]
    Form,
    /// It names another algorithm.
    #[error("the signing key's algorithm is {0:?}; only `ed25519` is known")]
    Algorithm(String),
    /// The version has letters that it cannot have.
    #[error("the signing key's version is {0:?}; letters, digits and underscores are allowed")]
    Version(String),
    /// The seed is not 32 bytes in base64.
    #[error("the signing key's seed must be 32 bytes in base64")]
    Seed,
}

impl SigningKey {
    /// The key with the given seed. Randomness is the caller's.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Version`] unless the version consists of ASCII letters, digits and underscores.
    pub fn from_seed(version: &str, seed: [u8; 32]) -> Result<Self, KeyFileError> {
        let bad_version = || KeyFileError::Version(version.to_owned());
        // An empty version would be a valid identifier for ruma, and none for anyone who reads the file.
        if version.is_empty() {
            return Err(bad_version());
        }
        let parsed = <&ServerSigningKeyVersion>::try_from(version).map_err(|_| bad_version())?;
        let id = ServerSigningKeyId::from_parts(SigningKeyAlgorithm::Ed25519, parsed);
        let pair = Ed25519KeyPair::new(ALGORITHM_OID, &seed, None, version.to_owned())
            .map_err(|_| KeyFileError::Seed)?;
        Ok(Self { pair, seed, id })
    }

    /// Reads the line of a key file.
    ///
    /// # Errors
    ///
    /// What is wrong with the line.
    pub fn parse(line: &str) -> Result<Self, KeyFileError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [algorithm, version, seed] = words[..] else { return Err(KeyFileError::Form) };
        if algorithm != "ed25519" {
            return Err(KeyFileError::Algorithm(algorithm.to_owned()));
        }
        let seed = Base64::<Standard>::parse(seed).map_err(|_| KeyFileError::Seed)?;
        let seed = seed.as_bytes().try_into().map_err(|_| KeyFileError::Seed)?;
        Self::from_seed(version, seed)
    }

    /// The line for a key file, without a line break. It holds the secret.
    #[must_use]
    pub fn to_line(&self) -> String {
        let seed = Base64::<Standard, _>::new(&self.seed[..]).encode();
        format!("ed25519 {} {seed}", self.version())
    }

    /// The key's identifier, `ed25519:<version>`.
    #[must_use]
    pub fn key_id(&self) -> &ServerSigningKeyId {
        &self.id
    }

    /// The version part of the identifier.
    #[must_use]
    pub fn version(&self) -> &str {
        self.pair.version()
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> Base64 {
        Base64::new(self.pair.public_key().to_vec())
    }

    /// The key as ruma wants it where it signs requests.
    #[must_use]
    pub fn pair(&self) -> &Ed25519KeyPair {
        &self.pair
    }
}

impl KeyPair for SigningKey {
    fn sign(&self, message: &[u8]) -> Signature {
        self.pair.sign(message)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ed25519 a_1 AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA";

    fn seed() -> [u8; 32] {
        std::array::from_fn(|index| u8::try_from(index + 1).unwrap())
    }

    #[test]
    fn a_key_survives_its_file() {
        let key = SigningKey::from_seed("a_1", seed()).unwrap();
        assert_eq!(key.to_line(), LINE);
        let again = SigningKey::parse(&format!("{LINE}\n")).unwrap();
        assert_eq!(again.to_line(), LINE);
        assert_eq!(again.key_id(), "ed25519:a_1");
        assert_eq!(again.version(), "a_1");
        assert_eq!(again.public_key().encode(), key.public_key().encode());
        // Padded base64 is somebody else's habit, and no reason to refuse a key.
        assert_eq!(SigningKey::parse(&format!("{LINE}=")).unwrap().to_line(), LINE);
    }

    #[test]
    fn the_public_key_verifies_what_the_key_signs() {
        let key = SigningKey::from_seed("a_1", seed()).unwrap();
        let signature = key.sign(b"{}");
        assert_eq!(signature.id(), "ed25519:a_1");
        let verify = |message: &[u8]| {
            ruma::signatures::verify_canonical_json_bytes(
                &SigningKeyAlgorithm::Ed25519,
                key.public_key().as_bytes(),
                signature.as_bytes(),
                message,
            )
        };
        verify(b"{}").unwrap();
        verify(b"[]").unwrap_err();
    }

    #[test]
    fn a_bad_file_says_what_is_wrong() {
        let fault = |line: &str| SigningKey::parse(line).unwrap_err();
        assert_eq!(fault(""), KeyFileError::Form);
        assert_eq!(fault("ed25519 a_1"), KeyFileError::Form);
        assert_eq!(fault(&format!("{LINE} more")), KeyFileError::Form);
        assert_eq!(fault("rsa a_1 AAAA"), KeyFileError::Algorithm("rsa".to_owned()));
        assert_eq!(fault("ed25519 a_1 AAAA"), KeyFileError::Seed);
        assert_eq!(fault("ed25519 a_1 ***"), KeyFileError::Seed);
        let dashed = LINE.replace("a_1", "a-1");
        assert_eq!(fault(&dashed), KeyFileError::Version("a-1".to_owned()));
        assert_eq!(
            SigningKey::from_seed("", seed()).unwrap_err(),
            KeyFileError::Version(String::new())
        );
    }

    #[test]
    fn debugging_output_keeps_the_secret() {
        let key = SigningKey::parse(LINE).unwrap();
        let output = format!("{key:?}");
        assert!(output.contains("a_1"), "{output}");
        assert!(!output.contains("AQID") && !output.contains("[1, 2"), "{output}");
    }
}
