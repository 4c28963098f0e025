//! The rooms of the proof: who has which power, and who may join.

use std::sync::Arc;

use matryx_core::{event::Pdu, room::Powers};
use ruma::RoomVersionId;
use serde_json::{Value, json};

use crate::world::{event_id, rules};

/// A room but for the two members that matter: `@c:x` is in it and may invite.
pub(super) struct Setting {
    pub(super) create: Arc<Pdu>,
    pub(super) levels: Option<Arc<Pdu>>,
    pub(super) powers: Powers,
    pub(super) target: &'static str,
}

pub(super) fn settings(version: &RoomVersionId) -> Vec<Setting> {
    let creators = rules(version).authorization.explicitly_privilege_room_creators;
    let mut settings = Vec::new();
    let levels = [0, 50, 100];
    for asked in [[0, 50, 50], [50, 50, 100], [50, 100, 50]] {
        for actor in levels {
            for target in levels {
                let users = json!({"@a:x": actor, "@t:x": target});
                settings.push(setting(version, "@c:x", json!({}), Some((asked, users)), "@t:x"));
            }
        }
        if creators {
            for (more, users) in [
                (json!(["@a:x", "@t:x"]), json!({})),
                (json!(["@a:x"]), json!({"@t:x": 0})),
                (json!(["@a:x"]), json!({"@t:x": 100})),
                (json!(["@t:x"]), json!({"@a:x": 0})),
                (json!(["@t:x"]), json!({"@a:x": 100})),
            ] {
                let content = json!({"additional_creators": more});
                settings.push(setting(version, "@c:x", content, Some((asked, users)), "@t:x"));
            }
        }
    }
    for creator in ["@c:x", "@a:x", "@t:x"] {
        settings.push(setting(version, creator, json!({}), None, "@t:x"));
    }
    let users = json!({"@a:x": 50});
    let closed = json!({"m.federate": false});
    settings.push(setting(version, "@c:x", closed, Some(([0, 50, 50], users)), "@t:y"));
    settings
}

fn setting(
    version: &RoomVersionId,
    creator: &str,
    mut content: Value,
    levels: Option<([i64; 3], Value)>,
    target: &'static str,
) -> Setting {
    let rules = rules(version);
    content["creator"] = json!(creator);
    let mut create = json!({
        "type": "m.room.create", "sender": creator, "state_key": "", "content": content,
        "prev_events": [], "auth_events": [], "depth": 1, "origin_server_ts": 1,
    });
    if rules.event_format.require_room_create_room_id {
        create["room_id"] = json!("!create");
    }
    let create = restored("create", &create);
    let levels = levels.map(|([invite, kick, ban], mut users)| {
        if !rules.authorization.explicitly_privilege_room_creators {
            users[creator] = json!(100);
        }
        let content = json!({"users": users, "invite": invite, "kick": kick, "ban": ban});
        state("levels", "m.room.power_levels", "", &content)
    });
    let powers = Powers::read(&create, levels.as_deref(), &rules).unwrap();
    Setting { create, levels, powers, target }
}

pub(super) fn join_rules() -> [Option<Value>; 10] {
    let words = ["public", "invite", "knock", "restricted", "knock_restricted", "private", "org.y"];
    let unreadable = [Some(json!({})), Some(json!({"join_rule": 1})), None];
    let mut words =
        words.into_iter().map(|word| Some(json!({"join_rule": word}))).chain(unreadable);
    std::array::from_fn(|_| words.next().unwrap())
}

pub(super) fn state(name: &str, kind: &str, key: &str, content: &Value) -> Arc<Pdu> {
    pdu(name, kind, "@c:x", key, content, "prev", &[])
}

/// An event as if from the store: unsigned, because the law does not look at signatures.
pub(super) fn pdu(
    name: &str,
    kind: &str,
    sender: &str,
    key: &str,
    content: &Value,
    prev: &str,
    auth: &[Arc<Pdu>],
) -> Arc<Pdu> {
    let auth: Vec<_> = auth.iter().map(|event| event.event_id()).collect();
    restored(
        name,
        &json!({
            "type": kind, "sender": sender, "state_key": key, "content": content, "room_id": "!create",
            "prev_events": [event_id(prev)], "auth_events": auth, "depth": 2, "origin_server_ts": 1,
        }),
    )
}

fn restored(name: &str, json: &Value) -> Arc<Pdu> {
    let room_id = "!create".try_into().unwrap();
    Arc::new(Pdu::restore(event_id(name), room_id, &json.to_string(), false).unwrap())
}
