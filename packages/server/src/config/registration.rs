//! `[registration]`

use super::{Secret, section::section};

section! {
    /// Who may make an account.
    Registration {
        /// Whether anyone may, without a token.
        open: bool = false;
        /// Whether guests may come without an account.
        guests: bool = false;
        /// The secret of the /_synapse/admin/v1/register endpoint, with which scripts make accounts. Without it that
        /// endpoint is closed.
        shared_secret: Option<Secret> = None, e.g. "\"a long random text\"";
        /// The token that people give when they register. Without it one is made at the first start and kept in the
        /// file `registration_token` below `data_dir`. Empty: nobody registers by token.
        token: Option<Secret> = None, e.g. "\"another long random text\"";
    }
}
