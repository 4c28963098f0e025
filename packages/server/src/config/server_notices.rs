//! `[server_notices]`

use super::section::section;

section! {
    /// Messages from the server itself.
    ServerNotices {
        /// The local user that they come from. Without it there are none.
        localpart: Option<String> = None, e.g. "\"notices\"";
    }
}
