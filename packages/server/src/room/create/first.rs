//! What is said in a new room after its create event, in the specification's order.

use matryx_core::{
    event::Draft,
    refusal::{Refusal, RefusalKind},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue as Value, OwnedUserId, UserId,
    events::TimelineEventType as Kind, room_version_rules::RoomVersionRules,
};

use super::{NewRoom, Preset, Profiles, creation, levels};
use crate::{
    membership::{invitation, joined},
    room::{acl, canonical_alias, power_levels},
};

/// The events.
pub(super) fn events(
    creator: &UserId,
    wanted: &NewRoom,
    rules: &RoomVersionRules,
    create: &Draft,
    profiles: &Profiles,
) -> Result<Vec<Draft>, Refusal> {
    let profile = |user: &UserId| profiles.get(user).cloned().unwrap_or_default();
    let state = |kind, key: &str, content| Draft {
        sender: creator.to_owned(),
        kind,
        state_key: Some(key.to_owned()),
        content,
        redacts: None,
    };
    let mut events = vec![state(Kind::RoomMember, creator.as_str(), joined(&profile(creator)))];
    let levels = match initial(wanted, &Kind::RoomPowerLevels) {
        Some(content) => content.clone(),
        None => levels::content(creator, wanted, rules),
    };
    let creators = creation::creators(create, rules);
    power_levels::check_form(&levels, rules, |user| creators.iter().any(|name| name == user))?;
    events.push(state(Kind::RoomPowerLevels, "", levels));
    if let Some(alias) = &wanted.alias {
        events.push(state(Kind::RoomCanonicalAlias, "", one("alias", alias.as_str())));
    }
    for (kind, content) in preset(wanted.preset) {
        if initial(wanted, &kind).is_none() {
            events.push(state(kind, "", content));
        }
    }
    for initial in &wanted.initial_state {
        check_initial(&initial.kind)?;
        if initial.kind == Kind::RoomCanonicalAlias {
            canonical_alias::check_new(&initial.content, wanted.alias.as_deref())?;
        }
        if initial.kind == Kind::RoomServerAcl && initial.state_key.is_empty() {
            acl::check_own(&initial.content, creator.server_name())?;
        }
        // Said already: everything else depends on the levels.
        if initial.kind != Kind::RoomPowerLevels || !initial.state_key.is_empty() {
            let content = initial.content.clone();
            events.push(state(initial.kind.clone(), &initial.state_key, content));
        }
    }
    if let Some(name) = &wanted.name {
        events.push(state(Kind::RoomName, "", one("name", name)));
    }
    if let Some(topic) = &wanted.topic {
        events.push(state(Kind::RoomTopic, "", topic_content(topic)));
    }
    // Users of other servers are invited when the room is there: their servers sign the invites.
    let here = |user: &&OwnedUserId| user.server_name() == creator.server_name();
    for user in once_each(&wanted.invite).filter(here) {
        let content = invitation(&profile(user), wanted.is_direct);
        events.push(state(Kind::RoomMember, user.as_str(), content));
    }
    Ok(events)
}

/// A public room keeps guests out, which is what it means that `m.room.guest_access` is not there.
fn preset(preset: Preset) -> impl Iterator<Item = (Kind, CanonicalJsonObject)> {
    let (rule, guests) = match preset {
        Preset::Private | Preset::TrustedPrivate => ("invite", Some("can_join")),
        Preset::Public => ("public", None),
    };
    let always = [
        (Kind::RoomJoinRules, one("join_rule", rule)),
        (Kind::RoomHistoryVisibility, one("history_visibility", "shared")),
    ];
    let guests = guests.map(|guests| (Kind::RoomGuestAccess, one("guest_access", guests)));
    always.into_iter().chain(guests)
}

/// What the creator wants to stand at a type with an empty state key; the last of it, where they say it twice.
fn initial<'a>(wanted: &'a NewRoom, kind: &Kind) -> Option<&'a CanonicalJsonObject> {
    let fits = wanted
        .initial_state
        .iter()
        .rfind(|initial| initial.kind == *kind && initial.state_key.is_empty());
    fits.map(|initial| &initial.content)
}

/// Three kinds have ways of their own.
fn check_initial(kind: &Kind) -> Result<(), Refusal> {
    let instead = match kind {
        Kind::RoomCreate => "what it says goes into `creation_content`",
        Kind::RoomMember => "people are invited by `invite`",
        Kind::RoomRedaction => "there is nothing to redact in a new room",
        _ => return Ok(()),
    };
    let sentence = format!("`{kind}` cannot be in `initial_state`: {instead}.");
    Err(Refusal::new(RefusalKind::InvalidRoomState, sentence))
}

/// The topic for clients that know only text, and for those that choose among representations.
/// <https://spec.matrix.org/v1.19/client-server-api/#mroomtopic>
fn topic_content(topic: &str) -> CanonicalJsonObject {
    let plain = Value::Array(vec![Value::Object(one("body", topic))]);
    let block = [("m.text".to_owned(), plain)].into_iter().collect();
    let mut content = one("topic", topic);
    content.insert("m.topic".to_owned(), Value::Object(block));
    content
}

fn one(key: &str, value: &str) -> CanonicalJsonObject {
    [(key.to_owned(), value.into())].into_iter().collect()
}

fn once_each<T: PartialEq>(all: &[T]) -> impl Iterator<Item = &T> {
    all.iter().enumerate().filter(|(at, item)| !all[..*at].contains(item)).map(|(_, item)| item)
}
