//! Power levels before they are said: what is wrong with them, in words that help. The law has the last word.
//! <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>

use std::collections::{BTreeMap, BTreeSet};

use matryx_core::{
    refusal::{Refusal, RefusalKind},
    room::Power,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue as Value, UserId, room_version_rules::RoomVersionRules,
};

/// The levels that stand alone, and what holds where they are left out.
const SINGLE: [(&str, i64); 7] = [
    ("users_default", 0),
    ("events_default", 0),
    ("state_default", 50),
    ("ban", 50),
    ("redact", 50),
    ("kick", 50),
    ("invite", 0),
];
/// The levels that come in lists.
const LISTS: [&str; 3] = ["users", "events", "notifications"];

/// Checks the form: levels are integers, users are users, and creators are not among them since version 12.
pub(super) fn check_form(
    levels: &CanonicalJsonObject,
    rules: &RoomVersionRules,
    is_creator: impl Fn(&UserId) -> bool,
) -> Result<(), Refusal> {
    let rules = &rules.authorization;
    let fits = |value: &Value| match value {
        Value::Integer(_) => true,
        Value::String(_) => !rules.integer_power_levels,
        _ => false,
    };
    for (key, _) in SINGLE {
        if !levels.get(key).is_none_or(fits) {
            return Err(bad(&format!("`{key}` must be an integer.")));
        }
    }
    for list in LISTS {
        let entries = match levels.get(list) {
            None => continue,
            Some(Value::Object(entries)) => entries,
            Some(_) => return Err(bad(&format!("`{list}` must be an object."))),
        };
        if let Some((name, _)) = entries.iter().find(|(_, level)| !fits(level)) {
            return Err(bad(&format!("In `{list}` the level of {name} must be an integer.")));
        }
    }
    let Some(Value::Object(users)) = levels.get("users") else { return Ok(()) };
    for name in users.keys() {
        let user = <&UserId>::try_from(name.as_str())
            .map_err(|_| bad(&format!("In `users`, {name:?} is not a user id.")))?;
        if rules.explicitly_privilege_room_creators && is_creator(user) {
            return Err(Refusal::new(
                RefusalKind::InvalidParam,
                format!(
                    "{user} is a creator of this room and has unlimited power: a creator cannot be in `users`."
                ),
            ));
        }
    }
    Ok(())
}

/// Checks that somebody gives and takes no more power than they have.
pub(super) fn check_change(
    old: &CanonicalJsonObject,
    new: &CanonicalJsonObject,
    sender: &UserId,
    held: Power,
) -> Result<(), Refusal> {
    for (key, default) in SINGLE {
        let levels = (old.get(key), new.get(key));
        let read = |value: Option<&Value>| value.map_or(Some(default), level);
        if levels.0 != levels.1 {
            may_set(&format!("`{key}`"), read(levels.0), read(levels.1), held, false)?;
        }
    }
    for list in LISTS {
        let (old, new) = (entries(old, list), entries(new, list));
        let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
        for name in names {
            let (was, is) = (old.get(name).copied(), new.get(name).copied());
            if was != is {
                // Others of the same power are out of reach; one's own power anyone may lay down.
                let rival = list == "users" && name != sender;
                may_set(name, was, is, held, rival)?;
            }
        }
    }
    Ok(())
}

fn may_set(
    what: &str,
    was: Option<i64>,
    is: Option<i64>,
    held: Power,
    rival: bool,
) -> Result<(), Refusal> {
    if let Some(was) = was {
        let level = Power::Level(was);
        if level > held || (rival && level == held) {
            let least = if rival { "more than that" } else { "at least that" };
            return Err(Refusal::forbidden(format!(
                "The power level of {what} is {was}: to change it takes {least}, and you have {held}."
            )));
        }
    }
    match is {
        Some(is) if Power::Level(is) > held => Err(Refusal::forbidden(format!(
            "You cannot set the power level of {what} to {is}: you have {held}, and nobody gives more than they have."
        ))),
        _ => Ok(()),
    }
}

fn entries<'a>(levels: &'a CanonicalJsonObject, list: &str) -> BTreeMap<&'a str, i64> {
    let Some(Value::Object(entries)) = levels.get(list) else { return BTreeMap::new() };
    entries.iter().filter_map(|(name, value)| Some((name.as_str(), level(value)?))).collect()
}

/// A level, also where an old room version has it as text.
fn level(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(level) => Some(i64::from(*level)),
        Value::String(level) => level.trim().parse().ok(),
        _ => None,
    }
}

fn bad(sentence: &str) -> Refusal {
    Refusal::new(RefusalKind::BadJson, format!("In the power levels: {sentence}"))
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, user_id};
    use serde_json::json;

    use super::*;

    fn levels(value: serde_json::Value) -> CanonicalJsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_form_depends_on_the_version() {
        let alice = user_id!("@alice:x");
        let check = |version: RoomVersionId, value| {
            check_form(&levels(value), &version.rules().unwrap(), |user| user == alice)
        };
        for version in [RoomVersionId::V9, RoomVersionId::V12] {
            for bad in [
                json!({"ban": null}),
                json!({"users": []}),
                json!({"users": {"nobody": 1}}),
                json!({"events": {"m.room.name": {}}}),
                json!({"notifications": 5}),
            ] {
                assert!(check(version.clone(), bad.clone()).is_err(), "{version}: {bad}");
            }
            let good = json!({"ban": 5, "users": {"@bob:x": -1}, "org.example": "any"});
            assert_eq!(check(version, good), Ok(()));
        }
        let text = json!({"ban": "50"});
        assert_eq!(check(RoomVersionId::V9, text.clone()), Ok(()));
        assert_eq!(check(RoomVersionId::V10, text).unwrap_err().kind, RefusalKind::BadJson);
        let creator = json!({"users": {"@alice:x": 100}});
        assert_eq!(check(RoomVersionId::V11, creator.clone()), Ok(()));
        let refusal = check(RoomVersionId::V12, creator).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::InvalidParam);
        assert!(refusal.sentence.contains("creator"), "{refusal}");
    }

    #[test]
    fn nobody_gives_or_takes_more_than_they_have() {
        let bob = user_id!("@bob:x");
        let old = levels(json!({
            "kick": 60, "users": {"@bob:x": 50, "@carol:x": 50, "@dave:x": 10},
            "events": {"m.room.name": 51}, "notifications": {"room": 20},
        }));
        let change = |path: [&str; 2], level: Option<i64>| {
            let mut new = serde_json::to_value(&old).unwrap();
            let place = if path[1].is_empty() { &mut new } else { &mut new[path[0]] };
            let key = if path[1].is_empty() { path[0] } else { path[1] };
            match level {
                Some(level) => place[key] = json!(level),
                None => drop(place.as_object_mut().unwrap().remove(key)),
            }
            check_change(&old, &levels(new), bob, Power::Level(50))
        };
        for (path, level, allowed) in [
            (["ban", ""], Some(50), true),
            (["ban", ""], Some(51), false),
            (["kick", ""], Some(0), false),
            (["kick", ""], None, false),
            (["users", "@bob:x"], Some(49), true),
            (["users", "@bob:x"], Some(51), false),
            (["users", "@bob:x"], None, true),
            (["users", "@carol:x"], Some(49), false),
            (["users", "@carol:x"], None, false),
            (["users", "@dave:x"], Some(50), true),
            (["users", "@dave:x"], Some(51), false),
            (["users", "@erin:x"], Some(50), true),
            (["events", "m.room.name"], Some(0), false),
            (["events", "m.room.topic"], Some(50), true),
            (["notifications", "room"], Some(51), false),
        ] {
            let answer = change(path, level);
            assert_eq!(answer.is_ok(), allowed, "{path:?} to {level:?}: {answer:?}");
        }
        let refusal = change(["users", "@dave:x"], Some(51)).unwrap_err();
        assert!(refusal.sentence.contains("51") && refusal.sentence.contains("50"), "{refusal}");
        let all = levels(json!({"kick": 1000, "users": {"@carol:x": 1000}}));
        assert_eq!(check_change(&old, &all, bob, Power::Infinite), Ok(()));
    }
}
