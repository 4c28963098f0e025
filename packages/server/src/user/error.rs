//! Why something about an account is refused.

use matryx_repository::StoreError;
use ruma::OwnedUserId;

/// Why something about an account did not happen. Each sentence is for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The name belongs to an account, possibly a deactivated one.
    #[error("The user name {0} is taken.")]
    NameTaken(OwnedUserId),
    /// A user id can't be made of this name.
    #[error("{0}")]
    BadName(String),
    /// A device id that is too long.
    #[error("A device id has at most {DEVICE_ID_LIMIT} bytes.")]
    BadDeviceId,
    /// The password is too weak, or too long to be hashed.
    #[error("{0}")]
    BadPassword(&'static str),
    /// Whoever asks does not know the password, or there is no such user: which of the two is not said.
    #[error("The user name or the password is wrong.")]
    WrongPassword,
    /// The account has been closed.
    #[error("This account has been deactivated.")]
    Deactivated,
    /// The refresh token was never given out, has been replaced, or its device was logged out.
    #[error("The refresh token is not known, or no longer.")]
    UnknownRefreshToken,
    /// Nobody of this name has an account here.
    #[error("There is no user {0} on this server.")]
    NotFound(OwnedUserId),
    /// A value that the field of a profile can't have.
    #[error("{0}")]
    BadProfileValue(String),
    /// The name of a profile's field is too long.
    #[error("The name of a profile's field has at most {PROFILE_KEY_LIMIT} bytes.")]
    ProfileKeyTooLarge,
    /// The profile would become too large.
    #[error(
        "With this value the profile would have more than the {PROFILE_LIMIT} bytes that are allowed."
    )]
    ProfileTooLarge,
    /// Passwords can't be hashed: the memory for it is not there, or a stored hash can't be read.
    #[error("A password can't be hashed: {0}")]
    Hashing(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long a device id that a client chooses may be, in bytes.
pub(super) const DEVICE_ID_LIMIT: usize = 255;
/// How long the name of a profile's field may be, in bytes (client-server API 11.1).
pub(super) const PROFILE_KEY_LIMIT: usize = 255;
/// How large a whole profile may be, as JSON, in bytes (client-server API 11.1).
pub(super) const PROFILE_LIMIT: usize = 65_536;
