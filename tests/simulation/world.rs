//! A world of servers, in which a script happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use http::Method;
use matryx_server::{clock::Clock, room::Look};
use rand::{Rng, SeedableRng, rngs::StdRng};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, ServerName, UInt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    client::Client,
    net::Net,
    node::{Node, Told},
    script::{Deed, FOUNDER, Script, Step, USERS, Who},
    verdict,
};

/// How much may cross the network before a world rests: more is a failure.
const MOST: usize = 10_000;

/// What went wrong.
pub type Failure = String;

/// Servers, their users, and a room.
pub struct World {
    pub net: Net,
    pub clock: Clock,
    pub nodes: Vec<Node>,
    /// Who comes first, where the script doesn't say.
    dice: StdRng,
    pub room: OwnedRoomId,
    /// The users' access tokens, by server.
    pub tokens: Vec<Vec<String>>,
    /// Requests that are not answered yet.
    pub open: Vec<Asked>,
    /// Messages whose senders were told that they are sent.
    pub acknowledged: Vec<Said>,
    /// When servers have last been seen not to be in the room, in steps.
    pub away: BTreeMap<usize, usize>,
    /// What each user's client knows.
    pub clients: BTreeMap<Who, Client>,
    pub steps: usize,
    /// Servers that were denied at some time.
    pub denied: Vec<usize>,
    pub said: u64,
}

/// A message that was acknowledged.
pub struct Said {
    /// The server of who said it.
    pub by: usize,
    pub event: OwnedEventId,
    /// The servers that were in the room then, as that server saw it.
    pub to: Vec<usize>,
    /// When it was said, in steps.
    pub step: usize,
}

/// A request of a user's that is not answered yet.
pub struct Asked {
    pub what: String,
    pub answer: JoinHandle<Told>,
    /// For a message: its sender's server, who was in the room, and when.
    pub message: Option<(usize, Vec<usize>, usize)>,
}

impl World {
    /// Runs a script from an empty world to the end, heals, and judges: what has crossed the network, a line each.
    pub fn run(script: &Script) -> Result<Vec<String>, Failure> {
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
            dice: StdRng::seed_from_u64(script.seed),
            room: OwnedRoomId::try_from("!none").map_err(|error| error.to_string())?,
            tokens: Vec::new(),
            open: Vec::new(),
            acknowledged: Vec::new(),
            away: BTreeMap::new(),
            clients: BTreeMap::new(),
            steps: 0,
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

    /// Lets a user's client go on from where it was.
    pub fn follow(&mut self, who: Who) -> Result<&Client, Failure> {
        let since = self.clients.get(&who).and_then(|client| client.since.as_deref());
        let since = since.map_or_else(String::new, |since| format!("&since={since}"));
        let path = format!("/_matrix/client/v3/sync?timeout=0&use_state_after=true{since}");
        let token = self.tokens[who.0][who.1].clone();
        let answer = self.ask(who.0, Method::GET, &path, Some(&token), &Value::Null)?;
        let client = self.clients.entry(who).or_default();
        client.told(&answer, self.room.as_str());
        Ok(client)
    }

    /// The servers that are in the room, as one of them sees it; nothing if it does not hold the room.
    pub fn inside(&self, node: usize) -> Option<Vec<usize>> {
        let look = self.look(node)?;
        let is_in =
            |(index, node): (usize, &Node)| look.servers.contains_key(&node.name).then_some(index);
        Some(self.nodes.iter().enumerate().filter_map(is_in).collect())
    }

    /// The room as a server sees it.
    pub fn look(&self, node: usize) -> Option<Arc<Look>> {
        let alive = self.nodes[node].alive()?;
        let (app, room) = (alive.app.clone(), self.room.clone());
        let held = alive.run(async move { app.rooms.room(&room).await });
        held.ok()?.map(|room| room.look())
    }

    /// Whether a server hears nothing of another one, by the room's ACL as it sees it.
    fn denies(&self, node: &ServerName, other: &ServerName) -> bool {
        let node = self.nodes.iter().position(|known| known.name == node);
        let look = node.and_then(|node| self.look(node));
        look.is_some_and(|look| look.acl().check(other).is_err())
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        self.steps += 1;
        match step {
            Step::Look(who) => {
                if self.nodes[who.0].alive().is_some() {
                    self.follow(*who)?;
                }
            }
            Step::Do(who, deed) => self.act(*who, deed),
            Step::Cut(a, b) => self.net.cut(&self.nodes[*a].name, &self.nodes[*b].name),
            Step::Mend(a, b) => self.net.mend(&self.nodes[*a].name, &self.nodes[*b].name),
            Step::Fault(a, b, fault, count) => {
                self.net.fault(&self.nodes[*a].name, &self.nodes[*b].name, *fault, *count);
            }
            Step::Release => self.net.release(),
            Step::Kill(node) => self.nodes[*node].kill(),
            Step::Crash(node, steps) => self.nodes[*node].light(*steps),
            Step::Start(node) => self.nodes[*node].start(),
            Step::Wait(seconds) => self.clock.advance(Duration::from_secs(*seconds)),
        }
        self.settle()?;
        self.clock.advance(Duration::from_millis(700));
        self.settle()
    }

    /// Goes on until nothing moves any more: nothing is on its way, and every server waits for the clock or a user.
    ///
    /// What is handed over next is the seed's choice, as is how far a server comes with it before the next is.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let mut busy: BTreeSet<usize> = (0..self.nodes.len()).collect();
        for _ in 0..MOST {
            let moving = self.net.moving();
            if moving == 0 || self.dice.random_bool(0.6) {
                for node in std::mem::take(&mut busy) {
                    self.nodes[node].go_on(u64::MAX);
                }
            } else if let Some(node) = busy.first() {
                let steps = self.dice.random_range(1..200);
                self.nodes[*node].go_on(steps);
            }
            let moving = self.net.moving();
            if moving == 0 && busy.is_empty() {
                return self.take_answers();
            }
            if moving > 0 {
                let which = self.dice.random_range(0..moving);
                self.hand_over(which, &mut busy)?;
            }
        }
        Err("does not come to rest".to_owned())
    }

    /// Hands over something that is on its way.
    fn hand_over(&mut self, which: usize, busy: &mut BTreeSet<usize>) -> Result<(), Failure> {
        if let Some((from, to)) = self.net.asks(which)
            && self.denies(&to, &from)
        {
            self.net.mark(which);
        }
        // It was denied when it asked, and still is.
        if let Some((by, of)) = self.net.taken(which)
            && self.denies(&by, &of)
        {
            return Err(format!("{by} has let in what {of} sent, which the room's ACL denies"));
        }
        let to = self.net.hand_over(which);
        busy.extend(self.nodes.iter().position(|node| node.name == to));
        Ok(())
    }

    /// Notes which servers see themselves outside of the room.
    fn note_absences(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].alive().is_some()
                && self.inside(node).is_none_or(|inside| !inside.contains(&node))
            {
                self.away.insert(node, self.steps);
            }
        }
    }

    /// Takes the answers that have come.
    fn take_answers(&mut self) -> Result<(), Failure> {
        self.note_absences();
        let (done, open): (Vec<Asked>, Vec<Asked>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|asked| asked.answer.is_finished());
        self.open = open;
        for Asked { what, answer, message } in done {
            // A server that was killed answers nothing.
            let Some(Ok((status, body))) = futures::FutureExt::now_or_never(answer) else {
                continue;
            };
            if status == 500 {
                return Err(format!("{what} was answered 500 {body}"));
            }
            if let (200, Some((by, mut to, step))) = (status, message) {
                let event = text(&body, "event_id")?;
                let event = event.as_str().try_into().map_err(|_| "an event id".to_owned())?;
                let now = self.inside(by).unwrap_or_default();
                to.retain(|node| now.contains(node));
                self.acknowledged.push(Said { by, event, to, step });
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
    fn heal(mut self) -> Result<Vec<String>, Failure> {
        self.net.heal();
        for node in &mut self.nodes {
            node.start();
            node.spare();
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
                return Ok(self.net.log());
            }
            self.clock.advance(Duration::from_secs(100));
        }
        wrong.map(|()| self.net.log())
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
