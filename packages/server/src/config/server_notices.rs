//! `[server_notices]`

use ruma::{ServerName, UserId};

use super::section::section;

section! {
    /// Messages from the server itself.
    ServerNotices {
        /// The local user that they come from. Without it there are none.
        localpart: Option<String> = None, e.g. "\"notices\"";
    }
}

impl ServerNotices {
    pub(super) fn validate(&self, server: &ServerName) -> Vec<String> {
        let Some(name) = &self.localpart else { return Vec::new() };
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte)
        };
        let fits = !name.is_empty()
            && name.bytes().all(allowed)
            && UserId::parse(format!("@{name}:{server}")).is_ok();
        if fits {
            return Vec::new();
        }
        vec![format!(
            "server_notices.localpart is \"{name}\": it must be what stands before the colon of a user's name, of a to z, 0 to 9 and . _ = - / +"
        )]
    }
}
