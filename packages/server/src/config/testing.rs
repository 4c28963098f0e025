//! `[testing]`

use super::section::section;

section! {
    /// Switches for tests, none of which belongs into production.
    Testing {
        /// No rate limits.
        disable_rate_limits: bool = false;
        /// Other servers may be on private and loopback addresses.
        allow_private_ip_destinations: bool = false;
        /// Other servers' certificates are not checked.
        insecure_outgoing_tls: bool = false;
        /// Passwords are hashed quickly, and so are quickly guessed.
        cheap_password_hashing: bool = false;
        /// The list of public rooms is shown without a login.
        public_rooms_without_auth: bool = false;
        /// Everyone may put a room of theirs on the list of public rooms.
        allow_all_room_list_publication: bool = false;
        /// Servers that were not reached are tried again at once.
        short_federation_backoff: bool = false;
    }
}
