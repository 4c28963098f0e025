//! What it costs when a room of ten thousand members forks, and when the fork is joined, against the same events in one line.

use std::time::Duration;

use matryx_core::membership::Membership;
use matryx_server::{clock::Clock, room::Look};
use ruma::{OwnedEventId, RoomId, UserId};
use serde_json::{Value, json};

use crate::{
    crowded::{Crowded, MEMBERS},
    figures::{Figures, median},
    support::{Peer, TestServer},
    thread::{Says, Thread, bring},
};

/// How often each is repeated.
const TIMES: usize = 20;

/// On what the sides of a fork differ.
#[derive(Clone, Copy)]
enum Over {
    /// One bans a member, both set the topic.
    Topic,
    /// One changes the power levels twice besides: what was said between is in the chains of one side, and has to be looked
    /// for in those of the members.
    Levels,
}

pub(crate) async fn measure(figures: &mut Figures) {
    let (server, peer) =
        (TestServer::start_with(Clock::machine(), Peer::befriend).await, Peer::start().await);
    let crowded = Crowded::new(&peer);
    crowded.open(&peer);
    let alice = server.user("alice").await;
    alice.join_via(&crowded.hosted.id, &[peer.name().as_str()]).await.granted();
    let scene = Scene { server: &server, peer: &peer, crowded: &crowded };
    let mut branch = scene.begin().await;

    let (mut one, mut next) = (Vec::with_capacity(TIMES), Vec::with_capacity(TIMES));
    for number in 0..TIMES {
        one.push(scene.bring(&[branch.topic(number)]).await);
        next.push(scene.bring(&[branch.message()]).await);
    }
    let (one, next) = (median(&mut one), median(&mut next));
    figures.note(format!("a topic in a room of {MEMBERS}, nowhere forked"), one);
    figures.note("… and a message after it", next);
    let mut numbers = 0..MEMBERS;
    for (over, what) in [(Over::Topic, "topics and a ban"), (Over::Levels, "power levels as well")]
    {
        let (mut forks, mut joins) = (Vec::with_capacity(TIMES), Vec::with_capacity(TIMES));
        for _ in 0..TIMES {
            let number = numbers.next().expect("a member more");
            let (forked, joined) = scene.fork(&mut branch, over, number).await;
            forks.push(forked);
            joins.push(joined);
        }
        let first = forks[0];
        let (forked, joined) = (median(&mut forks), median(&mut joins));
        let against = |time: Duration, base: Duration| {
            let ratio = time.as_secs_f64() / base.as_secs_f64();
            format!("{} µs ({ratio:.2} : 1)", time.as_micros())
        };
        figures.say(format!("a topic that forks the room, over {what}"), against(forked, one));
        figures.say("… and a message that joins the sides", against(joined, next));
        figures.note("… the first such fork", first);
    }
    drop(server.stop().await);
}

/// Who takes part.
#[derive(Clone, Copy)]
struct Scene<'a> {
    server: &'a TestServer,
    peer: &'a Peer,
    crowded: &'a Crowded,
}

impl<'a> Scene<'a> {
    async fn look(&self) -> std::sync::Arc<Look> {
        let room = <&RoomId>::try_from(&*self.crowded.hosted.id).expect("a room id");
        self.server.app().rooms.room(room).await.expect("a store").expect("a room").look()
    }

    async fn begin(&self) -> Branch<'a> {
        let thread = self.crowded.goes_on(self.peer, self.look().await.prev_events().0);
        let levels = self.crowded.hosted.at("m.room.power_levels", "").expect("power levels");
        Branch { crowded: self.crowded, thread, levels: levels.clone() }
    }

    async fn bring(&self, events: &[Value]) -> Duration {
        bring(self.peer, self.server, events).await
    }

    /// Forks the room, and joins it again: how long both took.
    async fn fork(
        &self,
        branch: &mut Branch<'a>,
        over: Over,
        number: usize,
    ) -> (Duration, Duration) {
        let (mut left, mut right) = (branch.clone(), branch.clone());
        let (ban, target) = left.ban(number);
        let mut events = vec![ban, left.topic(number)];
        if let Over::Levels = over {
            events.extend([left.change_levels(number), left.change_levels(number + 1)]);
        }
        self.bring(&events).await;
        let forked = self.bring(&[right.topic(number)]).await;
        assert_eq!(self.look().await.tips.len(), 2, "a fork");
        *branch = left;
        branch.thread.tips.extend(right.thread.tips);
        let joined = self.bring(&[branch.message()]).await;
        let look = self.look().await;
        assert_eq!(look.tips.len(), 1, "no fork any more");
        assert_eq!(look.membership(target), Membership::Banned);
        (forked, joined)
    }
}

/// One side of a fork, or the room where there is none. All of it is said by the room's creator.
#[derive(Clone)]
struct Branch<'a> {
    crowded: &'a Crowded,
    thread: Thread<'a>,
    /// The power levels that are in force.
    levels: OwnedEventId,
}

impl<'a> Branch<'a> {
    fn say(
        &mut self,
        kind: &str,
        key: Option<&str>,
        content: Value,
        about: Option<OwnedEventId>,
    ) -> Value {
        let Self { crowded: Crowded { hosted, .. }, thread, levels } = self;
        let standing = [("m.room.create", ""), ("m.room.member", &hosted.creator)]
            .into_iter()
            .filter_map(|(kind, key)| hosted.at(kind, key).cloned());
        let auth_events: Vec<_> = standing.chain([levels.clone()]).chain(about).collect();
        let sender = &hosted.creator;
        let (id, event) =
            thread.say(Says { sender, kind, key, content, auth_events: &auth_events });
        if kind == "m.room.power_levels" {
            *levels = id;
        }
        event
    }

    fn message(&mut self) -> Value {
        self.say(
            "m.room.message",
            None,
            json!({ "msgtype": "m.text", "body": "x".repeat(200) }),
            None,
        )
    }

    fn topic(&mut self, number: usize) -> Value {
        self.say("m.room.topic", Some(""), json!({ "topic": format!("Topic {number}") }), None)
    }

    fn change_levels(&mut self, number: usize) -> Value {
        let creator = &self.crowded.hosted.creator;
        let content = json!({ "users": { creator: 100 }, "invite": number });
        self.say("m.room.power_levels", Some(""), content, None)
    }

    /// Bans a member.
    fn ban(&mut self, number: usize) -> (Value, &'a UserId) {
        let (user, id) = &self.crowded.members[number];
        let content = json!({ "membership": "ban" });
        let event = self.say("m.room.member", Some(user.as_str()), content, Some(id.clone()));
        (event, user)
    }
}
