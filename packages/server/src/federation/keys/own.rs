//! Our own keys, and the document that publishes them.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use matryx_core::event::{KeyFileError, SigningKey};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerSigningKeyId,
    ServerName, UInt,
    serde::Base64,
    signatures::{JsonError, PublicKeySet, sign_json},
};

use crate::clock::later;

/// For how long others may believe our keys without asking again.
const VALIDITY: Duration = Duration::from_hours(24);

/// The keys that sign, and those that did.
#[derive(Debug)]
pub struct OwnKeys {
    /// Signs everything.
    signing: Arc<SigningKey>,
    /// Published beside it as valid, and sign only the document.
    further: Vec<SigningKey>,
    /// Sign nothing any more.
    old: Vec<OldKey>,
}

/// A key that was in use until it was replaced. One line of its file: `ed25519 <version> <public key> <milliseconds since
/// 1970 when it was replaced>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// Its id.
    pub id: OwnedServerSigningKeyId,
    /// The public half; the secret one is gone.
    pub key: Base64,
    /// When it was replaced.
    pub expired: MilliSecondsSinceUnixEpoch,
}

impl From<SigningKey> for OwnKeys {
    fn from(key: SigningKey) -> Self {
        Self { signing: Arc::new(key), further: Vec::new(), old: Vec::new() }
    }
}

impl OwnKeys {
    /// Reads the files' texts: `signing`, a key a line of which the first signs, and `old`, which may be empty.
    ///
    /// # Errors
    /// When a line of either is damaged.
    pub fn parse(signing: &str, old: &str) -> Result<Self, OwnKeysError> {
        let mut keys = lines(signing).map(SigningKey::parse);
        let first = keys.next().unwrap_or(Err(KeyFileError::Form)).map_err(OwnKeysError::Key)?;
        let further = keys.collect::<Result<_, _>>().map_err(OwnKeysError::Key)?;
        let old = lines(old).map(OldKey::parse).collect::<Result<_, _>>()?;
        let mut keys = Self { signing: Arc::new(first), further, old };
        let valid: Vec<_> = keys.valid().map(|key| key.key_id().to_owned()).collect();
        keys.old.retain(|old| !valid.contains(&old.id));
        Ok(keys)
    }

    /// The texts of the two files after `new` has taken the place of the key that signs.
    #[must_use]
    pub fn rotate(&self, new: &SigningKey, now: MilliSecondsSinceUnixEpoch) -> (String, String) {
        let signing = std::iter::once(new).chain(&self.further).map(SigningKey::to_line);
        let replaced = OldKey::of(&self.signing, now);
        let old = self.old.iter().chain([&replaced]).map(ToString::to_string);
        (signing.collect::<Vec<_>>().join("\n"), old.collect::<Vec<_>>().join("\n"))
    }

    /// The key that signs.
    #[must_use]
    pub fn signing(&self) -> &Arc<SigningKey> {
        &self.signing
    }

    /// The keys that were replaced.
    #[must_use]
    pub fn old(&self) -> &[OldKey] {
        &self.old
    }

    /// The document that publishes the keys, signed by all that are valid.
    ///
    /// # Errors
    /// Never, with keys that could be read.
    ///
    /// <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>
    pub fn document(
        &self,
        us: &ServerName,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<CanonicalJsonObject, JsonError> {
        let key = |key: &Base64| CanonicalJsonValue::String(key.encode());
        let verify_keys = self.valid().map(|valid| {
            let entry = BTreeMap::from([("key".to_owned(), key(&valid.public_key()))]);
            (valid.key_id().to_string(), CanonicalJsonValue::Object(entry))
        });
        let old_verify_keys = self.old.iter().map(|old| {
            let entry = BTreeMap::from([
                ("key".to_owned(), key(&old.key)),
                ("expired_ts".to_owned(), number(old.expired)),
            ]);
            (old.id.to_string(), CanonicalJsonValue::Object(entry))
        });
        let mut document = CanonicalJsonObject::from([
            ("server_name".to_owned(), us.as_str().into()),
            ("verify_keys".to_owned(), CanonicalJsonValue::Object(verify_keys.collect())),
            ("old_verify_keys".to_owned(), CanonicalJsonValue::Object(old_verify_keys.collect())),
            ("valid_until_ts".to_owned(), number(later(now, VALIDITY))),
        ]);
        self.countersign(us, &mut document)?;
        Ok(document)
    }

    /// Adds our signatures to an object.
    ///
    /// # Errors
    /// When it has no room for signatures.
    pub fn countersign(
        &self,
        us: &ServerName,
        object: &mut CanonicalJsonObject,
    ) -> Result<(), JsonError> {
        self.valid().try_for_each(|key| sign_json(us.as_str(), key, object))
    }

    /// The public keys that verify what we have signed at a time.
    #[must_use]
    pub fn public(&self, at: Option<MilliSecondsSinceUnixEpoch>) -> PublicKeySet {
        let valid = self.valid().map(|key| (key.key_id().to_string(), key.public_key()));
        let old = self.old.iter().filter(|old| at.is_none_or(|at| at < old.expired));
        valid.chain(old.map(|old| (old.id.to_string(), old.key.clone()))).collect()
    }

    fn valid(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&*self.signing).chain(&self.further)
    }
}

impl OldKey {
    /// A key that is replaced now.
    #[must_use]
    pub fn of(key: &SigningKey, now: MilliSecondsSinceUnixEpoch) -> Self {
        Self { id: key.key_id().to_owned(), key: key.public_key(), expired: now }
    }

    fn parse(line: &str) -> Result<Self, OwnKeysError> {
        let bad = || OwnKeysError::Old(line.to_owned());
        let words: Vec<&str> = line.split_whitespace().collect();
        let [algorithm, version, key, expired] = words[..] else { return Err(bad()) };
        let key = Base64::parse(key).map_err(|_| bad())?;
        if algorithm != "ed25519" || key.as_bytes().len() != 32 {
            return Err(bad());
        }
        let id = format!("{algorithm}:{version}");
        let id = OwnedServerSigningKeyId::try_from(id).map_err(|_| bad())?;
        let expired: u64 = expired.parse().map_err(|_| bad())?;
        let expired = MilliSecondsSinceUnixEpoch(UInt::try_from(expired).map_err(|_| bad())?);
        Ok(Self { id, key, expired })
    }
}

impl fmt::Display for OldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.id.key_name();
        write!(f, "ed25519 {version} {} {}", self.key.encode(), self.expired.0)
    }
}

/// What is wrong with the files of our keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnKeysError {
    /// A line of the keys that sign.
    #[error(transparent)]
    Key(KeyFileError),
    /// A line of the keys that were replaced.
    #[error(
        "an old key is a line of four words, `ed25519 <version> <public key in base64> <milliseconds since 1970 when it was replaced>`, which {0:?} is not"
    )]
    Old(String),
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn number(time: MilliSecondsSinceUnixEpoch) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(time.0.into())
}

#[cfg(test)]
mod tests {
    use ruma::uint;

    use super::*;

    const KEYS: &str = "ed25519 a_1 AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA\n\
                        ed25519 a_2 AAIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA\n";

    fn ids(keys: &PublicKeySet) -> Vec<&str> {
        keys.keys().map(String::as_str).collect()
    }

    #[test]
    fn files_are_read_and_rotated() {
        let keys = OwnKeys::parse(KEYS, "\n").unwrap();
        assert_eq!(keys.signing().version(), "a_1");
        assert_eq!(ids(&keys.public(None)), ["ed25519:a_1", "ed25519:a_2"]);

        let new = SigningKey::from_seed("a_3", [7; 32]).unwrap();
        let now = MilliSecondsSinceUnixEpoch(uint!(1000));
        let (signing, old) = keys.rotate(&new, now);
        let rotated = OwnKeys::parse(&signing, &old).unwrap();
        assert_eq!(rotated.signing().version(), "a_3");
        assert_eq!(rotated.old(), [OldKey::of(keys.signing(), now)]);
        let before = rotated.public(Some(MilliSecondsSinceUnixEpoch(uint!(999))));
        assert_eq!(ids(&before), ["ed25519:a_1", "ed25519:a_2", "ed25519:a_3"]);
        assert_eq!(ids(&rotated.public(Some(now))), ["ed25519:a_2", "ed25519:a_3"]);
        // Half a rotation is none.
        let half = OwnKeys::parse(KEYS, &old).unwrap();
        assert!(half.old().is_empty());
    }

    #[test]
    fn damaged_lines_are_named() {
        OwnKeys::parse("", "").unwrap_err();
        OwnKeys::parse(&format!("{KEYS}more"), "").unwrap_err();
        let key = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA";
        for bad in [
            "ed25519 a_1".to_owned(),
            format!("rsa a_1 {key} 1"),
            format!("ed25519 a_1 {key} soon"),
            format!("ed25519 a-1 {key} 1"),
            "ed25519 a_1 AQID 1".to_owned(),
        ] {
            let error = OwnKeys::parse(KEYS, &bad).unwrap_err();
            assert_eq!(error, OwnKeysError::Old(bad));
        }
    }
}
