//! What is known of a server's keys, and how it is learned from what the server publishes.

use std::{collections::BTreeMap, time::Duration};

use matryx_repository::ServerKey;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerSigningKeyId,
    ServerName, ServerSigningKeyId, SigningKeyAlgorithm,
    api::federation::discovery::ServerSigningKeys,
    serde::Base64,
    signatures::{PublicKeyMap, PublicKeySet, verify_json},
};

use crate::clock::{later, passed};

/// However long a key is said to be valid, it is believed for no longer than this without asking again.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// The largest document of keys that is read, in bytes: it is kept with each key.
const LARGEST: usize = 64 << 10;
/// The most keys that are read from one.
const MOST: usize = 100;

/// The keys of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    keys: BTreeMap<String, ServerKey>,
    /// From when on it is worth asking again, before anything expires.
    refresh: Option<MilliSecondsSinceUnixEpoch>,
}

/// What is wanted of a server: key ids, and at which time they must be valid. No time: at any.
pub(super) type Wanted = BTreeMap<String, Option<MilliSecondsSinceUnixEpoch>>;

impl Known {
    pub(super) fn new(keys: Vec<ServerKey>) -> Self {
        let keys = keys.into_iter().map(|key| (key.id.to_string(), key)).collect();
        Self { keys, refresh: None }
    }

    /// With what was learned now, where it says more of a key than what was known. Who else keeps a server's keys may have an
    /// older document of it.
    pub(super) fn with(&self, learned: &[ServerKey], now: MilliSecondsSinceUnixEpoch) -> Self {
        let mut keys = self.keys.clone();
        for key in learned {
            let known = keys.get(key.id.as_str());
            if known.is_none_or(|known| is_newer(key, known)) {
                keys.insert(key.id.to_string(), key.clone());
            }
        }
        let now_known = learned.iter().filter_map(|key| keys.get(key.id.as_str()));
        let until = now_known.filter(|key| !key.expired).map(|key| key.until).min();
        let refresh = until.map(|until| later(now, passed(now, until) / 2));
        Self { keys, refresh }
    }

    /// The keys of these ids, as far as they are known.
    pub(super) fn of(&self, learned: &[ServerKey]) -> Vec<ServerKey> {
        learned.iter().filter_map(|key| self.keys.get(key.id.as_str()).cloned()).collect()
    }

    /// Whether all that is wanted is known and valid.
    pub(super) fn satisfies(&self, wanted: &Wanted) -> bool {
        wanted.iter().all(|(id, at)| self.keys.get(id).is_some_and(|key| is_valid(key, *at)))
    }

    /// Whether something is valid at this time.
    pub(super) fn is_valid_at(&self, at: MilliSecondsSinceUnixEpoch) -> bool {
        self.keys.values().any(|key| !key.expired && key.until >= at)
    }

    /// Whether it is worth asking again although nothing has expired.
    pub(super) fn is_stale(&self, now: MilliSecondsSinceUnixEpoch) -> bool {
        self.refresh.is_some_and(|refresh| refresh <= now)
    }

    /// The keys that verify what was signed at this time; all of them without a time.
    pub(super) fn public(&self, at: Option<MilliSecondsSinceUnixEpoch>) -> PublicKeySet {
        let valid = self.keys.values().filter(|key| is_valid(key, at));
        valid.map(|key| (key.id.to_string(), key.key.clone())).collect()
    }

    /// The documents in which the keys were published, each once.
    pub(super) fn documents(&self) -> Vec<&str> {
        let mut documents: Vec<&str> = self.keys.values().map(|key| &*key.json).collect();
        documents.sort_unstable();
        documents.dedup();
        documents
    }
}

/// Whether one word about a key counts more than another: that it is in use no more, and that since earlier, before that it is;
/// and of the latter the one that holds for longer.
fn is_newer(one: &ServerKey, other: &ServerKey) -> bool {
    match (one.expired, other.expired) {
        // A name that was given to another key is not about the same.
        _ if one.key != other.key => one.until > other.until,
        (true, true) => one.until < other.until,
        (false, false) => one.until >= other.until,
        (expired, _) => expired,
    }
}

/// A key that was replaced verifies what was signed before that, any other what was signed while it was known to be valid.
fn is_valid(key: &ServerKey, at: Option<MilliSecondsSinceUnixEpoch>) -> bool {
    at.is_none_or(|at| if key.expired { at < key.until } else { at <= key.until })
}

/// Reads a document of keys, which must be this server's and signed by it.
///
/// # Errors
/// A part of a sentence: what is wrong with it.
pub(super) fn learn(
    server: &ServerName,
    json: &str,
    now: MilliSecondsSinceUnixEpoch,
) -> Result<Vec<ServerKey>, String> {
    if json.len() > LARGEST {
        return Err(format!("its document of keys has more than {LARGEST} bytes"));
    }
    let document: ServerSigningKeys = serde_json::from_str(json)
        .map_err(|error| format!("its document of keys can't be understood: {error}"))?;
    if document.verify_keys.len() + document.old_verify_keys.len() > MOST {
        return Err(format!("its document has more than {MOST} keys"));
    }
    if document.server_name != server {
        return Err(format!("its document of keys is the one of {}", document.server_name));
    }
    let valid: BTreeMap<_, _> =
        document.verify_keys.into_iter().filter(|(id, key)| is_usable(id, &key.key)).collect();
    let public: PublicKeySet =
        valid.iter().map(|(id, key)| (id.to_string(), key.key.clone())).collect();
    verify(server, public, json)
        .map_err(|error| format!("its document of keys is not signed by it: {error}"))?;

    let until = document.valid_until_ts.min(later(now, LONGEST));
    // A key under both headings is in use.
    let old = document.old_verify_keys.into_iter();
    let old = old.filter(|(id, old)| is_usable(id, &old.key) && !valid.contains_key(id));
    let old: Vec<ServerKey> = old
        .map(|(id, old)| ServerKey {
            id,
            key: old.key,
            until: old.expired_ts,
            expired: true,
            json: json.to_owned(),
        })
        .collect();
    let valid = valid.into_iter().map(|(id, key)| ServerKey {
        id,
        key: key.key,
        until,
        expired: false,
        json: json.to_owned(),
    });
    Ok(old.into_iter().chain(valid).collect())
}

fn is_usable(id: &OwnedServerSigningKeyId, key: &Base64) -> bool {
    id.algorithm() == SigningKeyAlgorithm::Ed25519 && key.as_bytes().len() == 32
}

/// Checks the signatures of one server, whatever others have signed beside it.
pub(super) fn verify(server: &ServerName, keys: PublicKeySet, json: &str) -> Result<(), String> {
    let object: CanonicalJsonObject =
        serde_json::from_str(json).map_err(|error| error.to_string())?;
    verify_object(server, keys, object)
}

/// The same, of an object that was read already.
pub(super) fn verify_object(
    server: &ServerName,
    keys: PublicKeySet,
    mut object: CanonicalJsonObject,
) -> Result<(), String> {
    let ours = signatures(&object, server).cloned().ok_or("the signature is missing")?;
    let signatures = CanonicalJsonObject::from([(server.to_string(), ours.into())]);
    object.insert("signatures".to_owned(), CanonicalJsonValue::Object(signatures));
    let map = PublicKeyMap::from([(server.to_string(), keys)]);
    verify_json(&map, &object).map_err(|error| error.to_string())
}

/// The signatures of one server.
pub(super) fn signatures<'a>(
    object: &'a CanonicalJsonObject,
    server: &ServerName,
) -> Option<&'a CanonicalJsonObject> {
    object.get("signatures")?.as_object()?.get(server.as_str())?.as_object()
}

/// The ids of the keys that one server has signed with, as far as they are keys that servers publish.
pub(super) fn signing_keys<'a>(
    object: &'a CanonicalJsonObject,
    server: &ServerName,
) -> impl Iterator<Item = &'a str> {
    let ids = signatures(object, server).into_iter().flat_map(|signatures| signatures.keys());
    ids.map(String::as_str).filter(|id| {
        // The key of a policy server is in the room's state, and none that the server publishes.
        <&ServerSigningKeyId>::try_from(*id)
            .is_ok_and(|key| key.algorithm() == SigningKeyAlgorithm::Ed25519)
            && *id != "ed25519:policy_server"
    })
}
