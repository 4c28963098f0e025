//! What users do, as the requests of their clients.

use http::Method;
use serde_json::{Value, json};

use super::{
    script::{Deed, Who},
    world::{Asked, World},
};

impl World {
    /// Lets somebody do something; the answer is taken when it comes.
    pub fn act(&mut self, who: Who, deed: &Deed) {
        let Some(alive) = self.nodes[who.0].alive() else { return };
        self.said += 1;
        let room = encode(self.room.as_str());
        let rooms = format!("/_matrix/client/v3/rooms/{room}");
        let others = (0..self.nodes.len()).filter(|node| *node != who.0);
        let via: Vec<String> =
            others.map(|node| format!("via={}", self.nodes[node].name)).collect();
        let via = via.join("&");
        let target = |whom: &Who| json!({ "user_id": self.user(*whom) });
        let state = |kind: &str| format!("{rooms}/state/{kind}/");
        let (method, path, body) = match deed {
            Deed::Join => {
                (Method::POST, format!("/_matrix/client/v3/join/{room}?{via}"), json!({}))
            }
            Deed::Knock => {
                (Method::POST, format!("/_matrix/client/v3/knock/{room}?{via}"), json!({}))
            }
            Deed::Leave => (Method::POST, format!("{rooms}/leave"), json!({})),
            Deed::Invite(whom) => (Method::POST, format!("{rooms}/invite"), target(whom)),
            Deed::Kick(whom) => (Method::POST, format!("{rooms}/kick"), target(whom)),
            Deed::Ban(whom) => (Method::POST, format!("{rooms}/ban"), target(whom)),
            Deed::Unban(whom) => (Method::POST, format!("{rooms}/unban"), target(whom)),
            Deed::Say => {
                let path = format!("{rooms}/send/m.room.message/{}", self.said);
                (
                    Method::PUT,
                    path,
                    json!({ "msgtype": "m.text", "body": format!("{}", self.said) }),
                )
            }
            Deed::Rule(rule) => {
                (Method::PUT, state("m.room.join_rules"), json!({ "join_rule": rule }))
            }
            Deed::Deny(node) => {
                let name = self.nodes[*node].name.to_string();
                self.denied.push(*node);
                let acl = json!({ "allow": ["*"], "deny": [name] });
                (Method::PUT, state("m.room.server_acl"), acl)
            }
            Deed::Allow => (Method::PUT, state("m.room.server_acl"), json!({ "allow": ["*"] })),
            Deed::Name => {
                let user = encode(&self.user(who));
                let path = format!("/_matrix/client/v3/profile/{user}/displayname");
                (Method::PUT, path, json!({ "displayname": format!("{}", self.said) }))
            }
            Deed::Level(whom, level) => {
                let path = state("m.room.power_levels");
                let Some(mut levels) = self.levels(who) else { return };
                levels["users"][self.user(*whom)] = json!(level);
                (Method::PUT, path, levels)
            }
        };
        let token = self.tokens[who.0][who.1].clone();
        let asked = format!("{} {method} {path}", self.user(who));
        let answer = alive.ask(method, &path, Some(&token), &body);
        let told = matches!(deed, Deed::Say).then(|| self.inside(who.0)).flatten();
        let message = told.map(|told| (who.0, told, self.steps));
        self.open.push(Asked { what: asked, answer, message });
    }

    /// The power levels as somebody sees them.
    fn levels(&self, who: Who) -> Option<Value> {
        let alive = self.nodes[who.0].alive()?;
        let room = encode(self.room.as_str());
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels/");
        let token = &self.tokens[who.0][who.1];
        let asked = alive.ask(Method::GET, &path, Some(token), &Value::Null);
        let (status, body) = alive.run(async move { asked.await.expect("no panic") });
        (status == 200).then_some(body)
    }
}

/// A path's part.
fn encode(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
