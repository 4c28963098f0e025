//! From what another server sent to an event that can be judged.

use std::fmt::Display;

use ruma::{
    CanonicalJsonObject,
    canonical_json::redact,
    room_version_rules::RoomVersionRules,
    signatures::{PublicKeyMap, VerificationError, Verified, verify_event},
};

use super::{
    Pdu,
    limits::{Fault, check_received, check_size, check_version},
    seal::event_id_of,
};

/// Why an event of another server is not let in.
///
/// All of them mean that the event is dropped, with one exception: [`OpenError::Rejected`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It, or a field of it, is too large.
    #[error("{0}")]
    TooLarge(String),
    /// It does not have the form that the room version asks for.
    #[error("{0}")]
    Format(String),
    /// Events of this room version cannot be handled.
    #[error("{0}")]
    Version(String),
    /// A signature that it needs is missing or wrong.
    #[error("the event's signatures cannot be verified: {0}")]
    Signature(String),
    /// The same, where a key is not to be had now: the event may come again.
    #[error("the event's signatures cannot be verified: {0}")]
    Key(String),
    /// It is an event, and nobody may let it stand: the signature for the user who authorised a restricted join is missing
    /// or wrong, which is a rule for authorisation and not one for signatures; or a field is too long in a room version
    /// in which servers have kept such events. A caller that keeps rejected events keeps this one, already marked as
    /// rejected. A signature that could not be checked, because its key is not known, says nothing: that is
    /// [`OpenError::Signature`], and the event may come again.
    #[error("{why}")]
    Rejected {
        /// The event.
        event: Box<Pdu>,
        /// Why it is rejected.
        why: String,
    },
}

/// Checks an event's form, size, signatures and hash, in the order of the specification, and names it.
///
/// An event whose content does not have the hash that was signed is opened as its redacted copy. `unsigned` is what
/// other servers claim, and is thrown away. Which keys are valid for the event's time is the caller's to know; keys
/// that are not in `keys` are skipped.
///
/// # Errors
///
/// The first of these checks that fails.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>, steps 1 to 3
pub fn open(
    mut object: CanonicalJsonObject,
    keys: &PublicKeyMap,
    rules: &RoomVersionRules,
) -> Result<Pdu, OpenError> {
    check_version(rules)?;
    object.remove("unsigned");
    let too_long = check_received(&mut object, rules)?;
    check_size(&serde_json::to_string(&object).map_err(|error| malformed(&error))?)?;

    let error = match verify_event(keys, &object, rules) {
        Ok(verified) => {
            let Some(why) = too_long else { return read(object, &verified, rules, false) };
            return Err(rejected(object, &verified, rules, why));
        }
        Err(error) => error,
    };
    let why = error.to_string();
    if rules.signatures.check_join_authorised_via_users_server && !is_unchecked(&error) {
        let mut without = rules.clone();
        without.signatures.check_join_authorised_via_users_server = false;
        if let Ok(verified) = verify_event(keys, &object, &without) {
            let why =
                format!("it is not signed by the server of the user who authorised it: {why}");
            return Err(rejected(object, &verified, rules, why));
        }
    }
    Err(OpenError::Signature(why))
}

/// Whether there is a signature, and no key that it could be checked with.
fn is_unchecked(error: &VerificationError) -> bool {
    use VerificationError as E;
    matches!(error, E::NoPublicKeysForEntity(_) | E::NoSupportedSignatureForEntity(_))
}

fn rejected(
    object: CanonicalJsonObject,
    verified: &Verified,
    rules: &RoomVersionRules,
    why: String,
) -> OpenError {
    match read(object, verified, rules, true) {
        Ok(event) => OpenError::Rejected { event: Box::new(event), why },
        Err(error) => error,
    }
}

fn read(
    object: CanonicalJsonObject,
    verified: &Verified,
    rules: &RoomVersionRules,
    rejected: bool,
) -> Result<Pdu, OpenError> {
    let object = match verified {
        Verified::All => object,
        Verified::Signatures => {
            redact(object, &rules.redaction, None).map_err(|error| malformed(&error))?
        }
    };
    let event_id = event_id_of(&object, rules).map_err(OpenError::Format)?;
    let text = serde_json::to_string(&object).map_err(|error| malformed(&error))?;
    Pdu::read(event_id, None, text, rejected).map_err(|error| malformed(&error))
}

fn malformed(error: &impl Display) -> OpenError {
    OpenError::Format(error.to_string())
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLarge(why) => Self::TooLarge(why),
            Fault::Malformed(why) => Self::Format(why),
            Fault::Version(why) => Self::Version(why),
        }
    }
}
