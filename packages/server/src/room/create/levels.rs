//! The power levels that a room begins with.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue as Value, Int, UserId,
    room_version_rules::RoomVersionRules,
};

use super::{NewRoom, Preset};

/// What a creator has before version 12, and those whom they trust.
const ALL: u8 = 100;
/// What those have who keep order.
const MODERATOR: u8 = 50;
/// Since version 12 closing a room is for its creators.
const TOMBSTONE: u8 = 150;

/// The content of the power levels: the defaults, with what the creator wants otherwise on top.
///
/// What they name takes the place of the default, lists included: who sends `events` says which types ask for a level of
/// their own, and can take away those that ask for one by default. Other servers read it like this, and clients count on it.
/// Only the creators keep the level without which there would be no room, where they forget to name themselves.
pub(super) fn content(
    creator: &UserId,
    wanted: &NewRoom,
    rules: &RoomVersionRules,
) -> CanonicalJsonObject {
    let mut content = defaults(creator, wanted, rules);
    content.extend(wanted.levels.clone());
    if !rules.authorization.explicitly_privilege_room_creators
        && let Some(Value::Object(users)) = content.get_mut("users")
    {
        users.entry(creator.to_string()).or_insert_with(|| level(ALL));
    }
    content
}

fn defaults(creator: &UserId, wanted: &NewRoom, rules: &RoomVersionRules) -> CanonicalJsonObject {
    let privileged = rules.authorization.explicitly_privilege_room_creators;
    let mut users = CanonicalJsonObject::new();
    if !privileged {
        users.insert(creator.to_string(), level(ALL));
        if wanted.preset == Preset::TrustedPrivate {
            users.extend(wanted.invite.iter().map(|user| (user.to_string(), level(ALL))));
        }
    }
    let events = object([
        ("m.room.name", level(MODERATOR)),
        ("m.room.avatar", level(MODERATOR)),
        ("m.room.canonical_alias", level(MODERATOR)),
        ("m.room.power_levels", level(ALL)),
        ("m.room.history_visibility", level(ALL)),
        ("m.room.server_acl", level(ALL)),
        ("m.room.encryption", level(ALL)),
        ("m.room.tombstone", level(if privileged { TOMBSTONE } else { ALL })),
    ]);
    let invite = if wanted.preset == Preset::Public { MODERATOR } else { 0 };
    object([
        ("users", Value::Object(users)),
        ("users_default", level(0)),
        ("events", Value::Object(events)),
        ("events_default", level(0)),
        ("state_default", level(MODERATOR)),
        ("ban", level(MODERATOR)),
        ("kick", level(MODERATOR)),
        ("redact", level(MODERATOR)),
        ("invite", level(invite)),
        ("notifications", Value::Object(object([("room", level(MODERATOR))]))),
    ])
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> CanonicalJsonObject {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn level(level: u8) -> Value {
    Value::Integer(Int::from(level))
}
