//! Names: from what people type to user ids of this server.

use ruma::{OwnedUserId, ServerName, UserId};

use super::UserError;

/// The user id for a name that someone wants to have.
///
/// Capitals become small letters, as every server does it; else the name must be of the characters that the specification
/// gives to new ids (appendices 4.1.1.1: a–z, 0–9 and `._=-/+`).
pub(super) fn wanted(name: &str, server: &ServerName) -> Result<OwnedUserId, UserError> {
    let name = name.to_ascii_lowercase();
    if name.is_empty() {
        return Err(UserError::BadName("A user name can't be empty.".to_owned()));
    }
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        return Err(UserError::BadName(format!(
            "A user name can't have the character {bad:?}: only a–z, 0–9 and . _ = - / + are allowed."
        )));
    }
    UserId::parse(format!("@{name}:{server}")).map_err(|_| {
        let most = 255_usize.saturating_sub(server.as_str().len() + 2);
        UserError::BadName(format!("A user name on this server has at most {most} bytes."))
    })
}

fn allowed(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '=' | '-' | '/' | '+')
}

/// The user id that someone logs in by: a full id or only the name. Nothing if it can't be of this server.
pub(super) fn given(name: &str, server: &ServerName) -> Option<OwnedUserId> {
    if !name.starts_with('@') {
        return wanted(name, server).ok();
    }
    let user_id = UserId::parse(name).ok()?;
    if user_id.server_name() != server {
        return None;
    }
    wanted(user_id.localpart(), server).ok()
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn names_are_small_and_of_few_characters() {
        let server = server_name!("hs1");
        assert_eq!(wanted("Alice", server).unwrap(), "@alice:hs1");
        assert_eq!(wanted("_a.b=c-d/e+0", server).unwrap(), "@_a.b=c-d/e+0:hs1");
        for name in ["", "a b", "a:b", "@alice", "é", "a\u{0}", "a\nb", "a!b", "a?"] {
            assert!(matches!(wanted(name, server), Err(UserError::BadName(_))), "{name:?}");
        }
        assert!(wanted(&"a".repeat(250), server).is_ok());
        assert!(wanted(&"a".repeat(251), server).is_err());
    }

    #[test]
    fn people_log_in_by_name_or_by_id() {
        let server = server_name!("hs1");
        for name in ["alice", "Alice", "@alice:hs1", "@Alice:hs1"] {
            assert_eq!(given(name, server).unwrap(), "@alice:hs1", "{name}");
        }
        for name in ["@alice:hs2", "@alice", "@:hs1", "", "a b"] {
            assert_eq!(given(name, server), None, "{name}");
        }
    }
}
