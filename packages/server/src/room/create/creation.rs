//! The create event.
//! <https://spec.matrix.org/v1.19/client-server-api/#mroomcreate>

use matryx_core::{
    event::Draft,
    refusal::{Refusal, RefusalKind},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue as Value, OwnedUserId, UserId,
    events::TimelineEventType, room_version_rules::RoomVersionRules,
};

use super::{NewRoom, Preset};

/// Those who have all the power besides the creator, since version 12.
const ADDITIONAL: &str = "additional_creators";

/// The create event. What the client says of version and creator does not count.
pub(super) fn event(
    creator: &UserId,
    wanted: &NewRoom,
    rules: &RoomVersionRules,
) -> Result<Draft, Refusal> {
    let mut content = wanted.creation_content.clone();
    check(&content)?;
    content.insert("room_version".to_owned(), wanted.version.as_str().into());
    content.remove("creator");
    if !rules.authorization.use_room_create_sender {
        content.insert("creator".to_owned(), creator.as_str().into());
    }
    if rules.authorization.additional_room_creators {
        let mut creators = named(content.remove(ADDITIONAL))?;
        if wanted.preset == Preset::TrustedPrivate {
            creators.extend(wanted.invite.iter().cloned());
        }
        let creators = once_each(creators, creator);
        if !creators.is_empty() {
            content.insert(ADDITIONAL.to_owned(), Value::Array(creators));
        }
    }
    Ok(Draft {
        sender: creator.to_owned(),
        kind: TimelineEventType::RoomCreate,
        state_key: Some(String::new()),
        content,
        redacts: None,
    })
}

/// Who has unlimited power in a room with this create event.
pub(super) fn creators(create: &Draft, rules: &RoomVersionRules) -> Vec<OwnedUserId> {
    if !rules.authorization.explicitly_privilege_room_creators {
        return Vec::new();
    }
    let mut creators = named(create.content.get(ADDITIONAL).cloned()).unwrap_or_default();
    creators.push(create.sender.clone());
    creators
}

/// What the specification gives a meaning must have the form for it.
fn check(content: &CanonicalJsonObject) -> Result<(), Refusal> {
    if !matches!(content.get("m.federate"), None | Some(Value::Bool(_))) {
        return Err(bad("`m.federate` must be true or false."));
    }
    if !matches!(content.get("type"), None | Some(Value::String(_))) {
        return Err(bad("`type` must be a string."));
    }
    Ok(())
}

fn named(creators: Option<Value>) -> Result<Vec<OwnedUserId>, Refusal> {
    let wrong = || bad("`additional_creators` must be a list of user ids.");
    match creators {
        None => Ok(Vec::new()),
        Some(Value::Array(creators)) => creators
            .iter()
            .map(|creator| UserId::parse(creator.as_str().unwrap_or_default()).map_err(|_| wrong()))
            .collect(),
        Some(_) => Err(wrong()),
    }
}

fn once_each(creators: Vec<OwnedUserId>, creator: &UserId) -> Vec<Value> {
    let mut seen = vec![creator.to_owned()];
    for user in creators {
        if !seen.contains(&user) {
            seen.push(user);
        }
    }
    seen.iter().skip(1).map(|user| user.as_str().into()).collect()
}

fn bad(sentence: &str) -> Refusal {
    Refusal::new(RefusalKind::BadJson, format!("In `creation_content`: {sentence}"))
}
