//! Which servers a room lets take part, by its `m.room.server_acl`.
//! <https://spec.matrix.org/v1.19/client-server-api/#mroomserver_acl>

use matryx_core::{
    event::Pdu,
    refusal::{Refusal, RefusalKind},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, ServerName};
use serde::Deserialize;
use serde_json::Value;

use super::Look;

/// What others are told who want to come in through us where nobody of us is.
pub const NOT_INSIDE: &str = "This server is not in the room.";

/// A room's server ACL, made ready to be asked. Without an event it lets everybody take part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl(Option<Lists>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lists {
    ip_literals: bool,
    deny: Vec<Glob>,
    allow: Vec<Glob>,
}

/// A pattern in small letters: `*` stands for any letters or none, `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob(Box<[u8]>);

/// What the event says, whatever it is.
#[derive(Default, Deserialize)]
struct Content {
    #[serde(default)]
    allow_ip_literals: Value,
    #[serde(default)]
    allow: Value,
    #[serde(default)]
    deny: Value,
}

impl Acl {
    /// Reads the event. What in it has another type than it should counts as absent; and where nothing is allowed,
    /// nobody is, this server included.
    #[must_use]
    pub fn read(event: &Pdu) -> Self {
        Self::new(&event.content_as().unwrap_or_default())
    }

    fn new(content: &Content) -> Self {
        let globs = |list: &Value| {
            let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.map(Glob::new).collect()
        };
        Self(Some(Lists {
            ip_literals: content.allow_ip_literals != Value::Bool(false),
            deny: globs(&content.deny),
            allow: globs(&content.allow),
        }))
    }

    /// Whether a server may take part. Its port does not matter, nor whether its letters are large.
    #[must_use]
    pub fn allows(&self, server: &ServerName) -> bool {
        let Self(Some(lists)) = self else { return true };
        if server.is_ip_literal() && !lists.ip_literals {
            return false;
        }
        let host = server.host().to_ascii_lowercase();
        let among = |globs: &[Glob]| globs.iter().any(|glob| glob.fits(host.as_bytes()));
        !among(&lists.deny) && among(&lists.allow)
    }

    /// Lets a server pass that may take part.
    ///
    /// # Errors
    /// A refusal that says so to all others.
    pub fn check(&self, server: &ServerName) -> Result<(), Refusal> {
        if self.allows(server) {
            return Ok(());
        }
        let sentence =
            format!("The room's server ACL (m.room.server_acl) does not let {server} take part.");
        Err(Refusal::new(RefusalKind::Forbidden, sentence))
    }
}

/// Whether we may still let others in: our last user may have left since the event was handed in, or the room may have shut out
/// who brings it. For what our own users say the law has the word.
pub(super) fn may_bring(pdu: &Pdu, look: &Look, us: &ServerName) -> Result<(), Refusal> {
    let server = pdu.sender().server_name();
    if server == us {
        return Ok(());
    }
    if !look.servers.contains_key(us) {
        return Err(Refusal::new(RefusalKind::NotFound, NOT_INSIDE));
    }
    look.acl().check(server)
}

/// Checks what one of our users is about to set: a room that shuts out this server has shut itself out of what its own
/// users say, and nobody here could take that back.
pub(super) fn check_own(content: &CanonicalJsonObject, server: &ServerName) -> Result<(), Refusal> {
    let content = CanonicalJsonValue::Object(content.clone());
    let content = serde_json::from_value(content.into()).unwrap_or_default();
    if Acl::new(&content).allows(server) {
        return Ok(());
    }
    let sentence = format!(
        "This m.room.server_acl would shut out {server} itself, and its users could not take that back. `allow` must have a pattern that fits {server}, and `deny` none; `allow_ip_literals` must not be false where the name is an IP address."
    );
    Err(Refusal::new(RefusalKind::InvalidParam, sentence))
}

impl Glob {
    fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase().into_bytes().into())
    }

    /// Goes back to the last `*` only, so that no pattern takes longer than its length times the name's.
    fn fits(&self, name: &[u8]) -> bool {
        let pattern = &self.0;
        let (mut p, mut n) = (0, 0);
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(letter) if *letter == b'?' || *letter == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((at, taken)) = star else { return false };
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
            }
        }
        pattern[p..].iter().all(|letter| *letter == b'*')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn acl(content: &Value) -> Acl {
        let json = json!({
            "type": "m.room.server_acl", "state_key": "", "sender": "@a:x", "content": content,
            "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": [], "room_id": "!r:x",
        });
        let (id, room) = ("$e".try_into().unwrap(), "!r:x".try_into().unwrap());
        Acl::read(&Pdu::restore(id, room, &json.to_string(), false).unwrap())
    }

    fn allows(acl: &Acl, server: &str) -> bool {
        acl.allows(<&ServerName>::try_from(server).unwrap())
    }

    #[test]
    fn without_the_event_everybody_takes_part() {
        assert!(allows(&Acl::default(), "a.example"));
        assert!(allows(&Acl::default(), "127.0.0.1:8448"));
    }

    #[test]
    fn deny_wins_and_what_is_not_allowed_is_denied() {
        let acl =
            acl(&json!({"allow": ["*.example", "other"], "deny": ["evil.example", "*.evil.*"]}));
        for (server, allowed) in [
            ("a.example", true),
            ("a.b.example", true),
            ("example", false),
            ("other", true),
            ("another", false),
            ("evil.example", false),
            ("EVIL.example:8448", false),
            ("a.evil.example", false),
        ] {
            assert_eq!(allows(&acl, server), allowed, "{server}");
        }
    }

    #[test]
    fn where_nothing_is_allowed_nobody_is() {
        for content in [
            json!({}),
            json!({"allow": []}),
            json!({"allow": "*"}),
            json!({"allow": [1, null, ["*"]]}),
            json!({"deny": ["x"]}),
            json!([]),
        ] {
            assert!(!allows(&acl(&content), "a.example"), "{content}");
        }
    }

    #[test]
    fn ports_and_large_letters_do_not_matter() {
        let acl_of = acl;
        let acl = acl(&json!({"allow": ["A.Example", "b?.example"]}));
        for server in ["a.example", "A.EXAMPLE", "a.example:443", "bx.example", "B1.example:1"] {
            assert!(allows(&acl, server), "{server}");
        }
        for server in ["b.example", "bxx.example"] {
            assert!(!allows(&acl, server), "{server}");
        }
        // A pattern with a port is for no server: theirs are taken away.
        assert!(!allows(&acl_of(&json!({"allow": ["a.example:443"]})), "a.example:443"));
    }

    #[test]
    fn addresses_are_refused_only_by_a_false() {
        let literals = ["127.0.0.1", "127.0.0.1:8448", "[::1]", "[2001:db8::1]:8448"];
        for (flag, allowed) in [
            (json!(false), false),
            (json!(true), true),
            (json!(null), true),
            (json!("false"), true),
            (json!(0), true),
        ] {
            let acl = acl(&json!({"allow": ["*"], "allow_ip_literals": flag}));
            for server in literals {
                assert_eq!(allows(&acl, server), allowed, "{server} {flag}");
            }
            assert!(allows(&acl, "a.example"));
        }
        let some = acl(&json!({"allow": ["*"], "deny": ["[::1]", "10.*"]}));
        assert!(!allows(&some, "[::1]:1"));
        assert!(!allows(&some, "10.0.0.1"));
        assert!(allows(&some, "[::2]"));
    }

    #[test]
    fn only_two_letters_are_special() {
        let acl = acl(&json!({"allow": ["a.example", "[b]example", "c\\*"]}));
        assert!(!allows(&acl, "axexample"));
        assert!(!allows(&acl, "bexample"));
        assert!(!allows(&acl, "c1"));
    }

    #[test]
    fn many_stars_take_no_time() {
        let acl = acl(&json!({"allow": ["*a".repeat(60)]}));
        assert!(!allows(&acl, &format!("{}b", "a".repeat(200))));
    }

    /// The plainest way to say what a pattern means.
    fn plainly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => plainly(rest, name),
            (Some((b'*', rest)), Some((_, other))) => {
                plainly(rest, name) || plainly(pattern, other)
            }
            (Some((letter, rest)), Some((first, other))) => {
                (*letter == b'?' || letter == first) && plainly(rest, other)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_it_says(pattern in "[ab*?]{0,8}", name in "[ab]{1,8}") {
            let fits = Glob::new(&pattern).fits(name.as_bytes());
            prop_assert_eq!(fits, plainly(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
