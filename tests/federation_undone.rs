//! What somebody did to a user of ours before hearing that they may not.

use serde_json::{Value, json};

use super::support::{
    Hosted, Listener, Peer, SEND_JOIN, SharedPair, TestServer, TestUser, Told, eventually,
};

static PAIR: SharedPair = SharedPair::new();

/// A user whom a moderator has kicked out of a peer's room.
struct Kicked<'a> {
    peer: Peer,
    server: &'a TestServer,
    /// The room as its founder sees it, who has not heard of the kick.
    room: Hosted,
    moderator: String,
    user: TestUser,
    listener: Listener,
}

impl<'a> Kicked<'a> {
    async fn new(server: &'a TestServer) -> Self {
        let peer = Peer::start().await;
        let mut room = Hosted::public(&peer);
        let moderator = peer.user("moderator").to_string();
        let join = json!({ "membership": "join" });
        room.says(&peer, &moderator, "m.room.member", &moderator, &join);
        let given = levels(&room.creator, &moderator, 50);
        room.says(&peer, &room.creator.clone(), "m.room.power_levels", "", &given);
        room.open(&peer);
        let user = server.user("alice").await;
        let mut listener = user.listens().await;
        user.join_via(&room.id, &[peer.name().as_str()]).await.granted();
        listener.until_in("join", &room.id).await;
        let sent = peer.hears(SEND_JOIN).await;
        let path = sent.path.split('?').next().expect("a path");
        let id = path.rsplit('/').next().expect("an event").replace("%24", "$");
        room.tip = id.as_str().try_into().expect("an event id");
        room.state.push((room.tip.clone(), sent.body));
        room.depth += 1;

        let mut kicked = Self { peer, server, room, moderator, user, listener };
        let mut room = kicked.room.clone();
        let leave = json!({ "membership": "leave" });
        room.says(&kicked.peer, &kicked.moderator, "m.room.member", &kicked.user.id, &leave);
        kicked.bring(&room).await;
        kicked.listener.until_in("leave", &room.id).await;
        kicked
    }

    /// Brings the last event of a room.
    async fn bring(&self, room: &Hosted) {
        let (id, event) = room.state.last().expect("an event");
        let path = format!("/_matrix/federation/v1/send/{}", id.as_str().trim_start_matches('$'));
        let body = json!({ "origin": self.peer.name(), "origin_server_ts": 1, "pdus": [event] });
        let answer = self.peer.put(self.server, &path, &body).await.granted();
        assert_eq!(answer, json!({ "pdus": { id.as_str(): {} } }));
    }

    /// The founder says something that the user's server is not told of yet.
    fn founder_says(&mut self, kind: &str, content: &Value) {
        let founder = self.room.creator.clone();
        self.room.says(&self.peer, &founder, kind, "", content);
    }

    /// Where the founder is, the moderator was none any more when they kicked the user.
    async fn comes_undone(mut self) {
        let taken = levels(&self.room.creator, &self.moderator, 0);
        self.founder_says("m.room.power_levels", &taken);
        self.bring(&self.room).await;
        self.listener.until_in("join", &self.room.id).await;
        assert_eq!(self.user.joined_rooms().await, [self.room.id]);
    }
}

fn levels(creator: &str, moderator: &str, level: i64) -> Value {
    json!({ "users": { creator: 100, moderator: level } })
}

#[test]
fn a_kick_that_is_undone_brings_its_user_back() {
    PAIR.run(async |pair| Kicked::new(&pair.a).await.comes_undone().await);
}

#[test]
fn what_leads_to_the_end_of_a_kick_is_asked_for() {
    PAIR.run(async |pair| {
        let mut kicked = Kicked::new(&pair.a).await;
        kicked.founder_says("m.room.topic", &json!({ "topic": "peace" }));
        let before = kicked.room.state.last().expect("an event").1.clone();
        kicked.peer.on("/_matrix/federation/v1/get_missing_events/", move |_| {
            Told::ok(json!({ "events": [before] }))
        });
        kicked.comes_undone().await;
    });
}

#[test]
fn nothing_waits_for_what_nobody_tells_those_who_are_out() {
    PAIR.run(async |pair| {
        let mut kicked = Kicked::new(&pair.a).await;
        kicked.founder_says("m.room.topic", &json!({ "topic": "peace" }));
        kicked.founder_says("m.room.topic", &json!({ "topic": "war" }));
        kicked.bring(&kicked.room).await;
        let event = kicked.room.tip.clone();
        kicked.peer.hears("/_matrix/federation/v1/get_missing_events/").await;
        eventually("the end of the search", async || {
            match pair.a.app().federation.inbox().waiting() {
                0 => Ok(()),
                waiting => Err(format!("{waiting} wait")),
            }
        })
        .await;
        let room = kicked.room.id.as_str().try_into().expect("a room id");
        let held = pair.a.app().rooms.room(room).await.expect("a store").expect("a room");
        assert!(!held.look().prev_events().0.contains(&event));
    });
}
