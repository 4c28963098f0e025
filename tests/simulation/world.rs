//! A world of servers, in which a script happens.

use std::{
    thread,
    time::{Duration, Instant},
};

use http::Method;
use matryx_server::clock::Clock;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, UInt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    net::Net,
    node::{Node, Told},
    script::{Deed, FOUNDER, Script, Step, USERS, Who},
    verdict,
};

/// How long a world may take to come to rest before that counts as a failure.
const REST: Duration = Duration::from_mins(1);
/// How often it must be seen at rest, a millisecond apart.
const SEEN: usize = 8;

/// What went wrong.
pub type Failure = String;

/// Servers, their users, and a room.
pub struct World {
    pub net: Net,
    pub clock: Clock,
    pub nodes: Vec<Node>,
    pub room: OwnedRoomId,
    /// The users' access tokens, by server.
    tokens: Vec<Vec<String>>,
    /// Requests that are not answered yet.
    open: Vec<(String, JoinHandle<Told>, Option<usize>)>,
    /// Messages whose senders were told that they are sent, and on which server.
    pub acknowledged: Vec<(usize, OwnedEventId)>,
    /// Servers that were denied at some time.
    pub denied: Vec<usize>,
    said: u64,
}

impl World {
    /// Runs a script from an empty world to the end, heals, and judges.
    pub fn run(script: &Script) -> Result<(), Failure> {
        let mut world = Self::new(script)?;
        for step in &script.steps {
            world.step(step).map_err(|why| format!("at {step:?}: {why}"))?;
        }
        world.heal()
    }

    fn new(script: &Script) -> Result<Self, Failure> {
        let start =
            MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000_u32) * UInt::from(1000_u32));
        let (net, clock) = (Net::default(), Clock::by_hand(start));
        let node = |index: usize| {
            Node::new(&format!("s{index}.sim"), script.seed * 8 + index as u64, &clock, &net)
        };
        let nodes = (0..script.servers).map(node).collect();
        let mut world = Self {
            net,
            clock,
            nodes,
            room: OwnedRoomId::try_from("!none").map_err(|error| error.to_string())?,
            tokens: Vec::new(),
            open: Vec::new(),
            acknowledged: Vec::new(),
            denied: Vec::new(),
            said: 0,
        };
        for node in 0..script.servers {
            let mut tokens = Vec::new();
            for user in 0..USERS {
                let account = json!({
                    "username": format!("u{user}"), "password": "a long one",
                    "auth": { "type": "m.login.dummy" },
                });
                let path = "/_matrix/client/v3/register";
                let body = world.ask(node, Method::POST, path, None, &account)?;
                tokens.push(text(&body, "access_token")?);
            }
            world.tokens.push(tokens);
        }
        let levels = json!({ "users_default": 0, "invite": 0 });
        let rule = json!({ "type": "m.room.join_rules", "state_key": "",
            "content": { "join_rule": script.rule } });
        let room = json!({ "room_version": script.version, "preset": "private_chat",
            "power_level_content_override": levels, "initial_state": [rule] });
        let token = world.tokens[0][0].clone();
        let path = "/_matrix/client/v3/createRoom";
        let body = world.ask(0, Method::POST, path, Some(&token), &room)?;
        let id = text(&body, "room_id")?;
        world.room = OwnedRoomId::try_from(id.as_str()).map_err(|error| error.to_string())?;
        Ok(world)
    }

    /// The id of a user.
    pub fn user(&self, (node, user): Who) -> String {
        format!("@u{user}:{}", self.nodes[node].name)
    }

    /// What a user's server tells them when they sync from nothing.
    pub fn sync(&mut self, who: Who) -> Result<Value, Failure> {
        let filter = "%7B%22room%22%3A%7B%22include_leave%22%3Atrue%7D%7D";
        let path = format!("/_matrix/client/v3/sync?timeout=0&filter={filter}");
        let token = self.tokens[who.0][who.1].clone();
        self.ask(who.0, Method::GET, &path, Some(&token), &Value::Null)
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Do(who, deed) => self.act(*who, deed),
            Step::Cut(a, b) => self.net.cut(&self.nodes[*a].name, &self.nodes[*b].name),
            Step::Mend(a, b) => self.net.mend(&self.nodes[*a].name, &self.nodes[*b].name),
            Step::Fault(a, b, fault, count) => {
                self.net.fault(&self.nodes[*a].name, &self.nodes[*b].name, *fault, *count);
            }
            Step::Release => self.net.release(),
            Step::Kill(node) => self.nodes[*node].kill(),
            Step::Start(node) => self.nodes[*node].start(),
            Step::Wait(seconds) => self.clock.advance(Duration::from_secs(*seconds)),
        }
        self.settle()?;
        self.clock.advance(Duration::from_millis(700));
        self.settle()
    }

    /// Lets somebody do something; the answer is taken when it comes.
    fn act(&mut self, who: Who, deed: &Deed) {
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
        let message = matches!(deed, Deed::Say).then_some(who.0);
        self.open.push((asked, answer, message));
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

    /// Waits until nothing moves any more: no request, no thread.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut last = None;
        let mut seen = 0;
        while seen < SEEN {
            #[expect(clippy::disallowed_methods, reason = "threads tell nobody that they rest")]
            thread::sleep(Duration::from_millis(1));
            let (moving, sent) = self.net.traffic();
            let rest: Option<Vec<u64>> = self
                .nodes
                .iter()
                .filter_map(Node::alive)
                .map(super::node::Alive::at_rest)
                .collect();
            let now = rest.filter(|_| moving == 0).map(|rest| (sent, rest));
            seen = if now.is_some() && now == last { seen + 1 } else { 0 };
            last = now;
            if begun.elapsed() > REST {
                return Err(format!("does not come to rest: {moving} requests are moving"));
            }
        }
        self.take_answers()
    }

    /// Takes the answers that have come.
    fn take_answers(&mut self) -> Result<(), Failure> {
        let (done, open) =
            std::mem::take(&mut self.open).into_iter().partition(|(_, task, _)| task.is_finished());
        self.open = open;
        let done: Vec<(String, JoinHandle<Told>, Option<usize>)> = done;
        for (asked, task, message) in done {
            // A server that was killed answers nothing.
            let Some(Ok((status, body))) = futures::FutureExt::now_or_never(task) else { continue };
            if status == 500 {
                return Err(format!("{asked} was answered 500 {body}"));
            }
            if let (200, Some(node)) = (status, message) {
                let event = text(&body, "event_id")?;
                let event = event.as_str().try_into().map_err(|_| "an event id".to_owned())?;
                self.acknowledged.push((node, event));
            }
        }
        Ok(())
    }

    /// Asks and waits; the answer must be a success.
    fn ask(
        &mut self,
        node: usize,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<Value, Failure> {
        let alive = self.nodes[node].alive().ok_or("the server is down")?;
        let asked = alive.ask(method, path, token, body);
        let (status, body) = alive.run(async move { asked.await.expect("no panic") });
        if status == 200 { Ok(body) } else { Err(format!("{path} was answered {status} {body}")) }
    }

    /// Takes all faults away, lets everybody hear of everything, and judges.
    fn heal(mut self) -> Result<(), Failure> {
        self.net.heal();
        for node in &mut self.nodes {
            node.start();
        }
        // Long enough for what is asked again late, and more often than any server is left alone.
        for _ in 0..4 {
            self.settle()?;
            self.clock.advance(Duration::from_secs(100));
            self.settle()?;
        }
        self.act(FOUNDER, &Deed::Allow);
        self.rest()?;
        let mut wrong = Ok(());
        for _ in 0..4 {
            for node in 0..self.nodes.len() {
                for user in 0..USERS {
                    self.act((node, user), &Deed::Say);
                }
                self.rest()?;
            }
            self.act(FOUNDER, &Deed::Say);
            self.rest()?;
            wrong = verdict::of(&mut self);
            if wrong.is_ok() {
                return Ok(());
            }
            self.clock.advance(Duration::from_secs(100));
        }
        wrong
    }

    fn rest(&mut self) -> Result<(), Failure> {
        self.settle()?;
        self.clock.advance(Duration::from_secs(2));
        self.settle()
    }
}

fn text(body: &Value, key: &str) -> Result<String, Failure> {
    body[key].as_str().map(str::to_owned).ok_or_else(|| format!("no {key} in {body}"))
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
