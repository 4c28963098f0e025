//! The servers that the scenes are played on, and what everybody must see in the end.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::LazyLock,
    time::Duration,
};

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::support::{Homeserver, Listener, Software, Sync, TestUser, eventually, fresh, runtime};

// The pairs differ in their hosts, too, which is what server ACLs look at.
static MATRYX: [LazyLock<Homeserver>; 3] = [
    LazyLock::new(|| Homeserver::new(Software::Matryx, "127.0.0.1")),
    LazyLock::new(|| Homeserver::new(Software::Matryx, "localhost")),
    LazyLock::new(|| Homeserver::new(Software::Matryx, "localhost")),
];
static SYNAPSE: [LazyLock<Homeserver>; 4] = [
    LazyLock::new(|| Homeserver::new(Software::Synapse, "localhost")),
    // The others take part only where there is no Matryx.
    LazyLock::new(|| Homeserver::new(Software::Synapse, "127.0.0.1")),
    LazyLock::new(|| Homeserver::new(Software::Synapse, "localhost")),
    LazyLock::new(|| Homeserver::new(Software::Synapse, "localhost")),
];

/// The longest that a scene may take, waiting for others not counted.
const LONGEST: Duration = Duration::from_mins(15);

/// Held by all scenes together, or by one that stops servers.
static STAGE: RwLock<()> = RwLock::const_new(());

/// Two servers that have not met in any of the scene's rooms.
#[derive(Clone, Copy)]
pub struct Scene {
    /// Where the scene's room is made.
    pub home: &'static Homeserver,
    /// Where the others are.
    pub away: &'static Homeserver,
}

impl Scene {
    fn new(home: Software, away: Software) -> Self {
        let (home, away): (&Homeserver, &Homeserver) = match (home, away) {
            (Software::Matryx, Software::Synapse) => (&MATRYX[0], &SYNAPSE[0]),
            (Software::Synapse, Software::Matryx) => (&SYNAPSE[0], &MATRYX[0]),
            (Software::Matryx, Software::Matryx) => (&MATRYX[0], &MATRYX[1]),
            (Software::Synapse, Software::Synapse) => (&SYNAPSE[0], &SYNAPSE[1]),
        };
        Self { home, away }
    }

    /// Two more servers: those of three Matryx and a Synapse that are not in the scene yet.
    fn others(home: Software, away: Software) -> [&'static Homeserver; 2] {
        match (home, away) {
            (Software::Matryx, Software::Matryx) => [&SYNAPSE[0], &MATRYX[2]],
            (Software::Synapse, Software::Synapse) => [&SYNAPSE[2], &SYNAPSE[3]],
            _ => [&MATRYX[1], &MATRYX[2]],
        }
    }

    /// Whether both are Matryx, and things work that Synapse does not do.
    pub fn is_ours(&self) -> bool {
        self.home.is_matryx() && self.away.is_matryx()
    }

    /// Whoever knows the room, for those who do not.
    pub fn via(&self) -> [&str; 1] {
        [self.home.name()]
    }
}

impl Scene {
    /// Plays to the end; a bad one says where to look further.
    async fn perform(self, story: impl AsyncFnOnce(Self)) -> std::thread::Result<()> {
        let story = async {
            let end = tokio::time::timeout(LONGEST, story(self)).await;
            end.expect("the scene comes to an end");
        };
        let end = AssertUnwindSafe(story).catch_unwind().await;
        if end.is_err() {
            for (place, server) in [("home", self.home), ("away", self.away)] {
                eprintln!("the log of {place}, {}: {}", server.name(), server.log().display());
            }
        }
        end
    }
}

/// Plays a scene beside others.
pub fn play(home: Software, away: Software, story: impl AsyncFnOnce(Scene)) {
    let scene = Scene::new(home, away);
    runtime().block_on(async {
        let _shared = STAGE.read().await;
        scene.perform(story).await.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// Plays a scene of four servers.
pub fn play_with_others(
    home: Software,
    away: Software,
    story: impl AsyncFnOnce(Scene, [&'static Homeserver; 2]),
) {
    let others = Scene::others(home, away);
    play(home, away, async |scene| story(scene, others).await);
}

/// Plays a scene that stops servers or cuts them off: with no other beside it.
pub fn play_alone(home: Software, away: Software, story: impl AsyncFnOnce(Scene)) {
    let scene = Scene::new(home, away);
    runtime().block_on(async {
        let _alone = STAGE.write().await;
        let end = scene.perform(story).await;
        // The others find the servers as they were.
        scene.home.start().await;
        scene.away.start().await;
        end.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// Waits until a listener has seen somebody's membership become this.
pub async fn sees(listener: &mut Listener, room: &str, whom: &TestUser, membership: &str) {
    let what = format!("{membership} of {whom:?} in {room}");
    listener.until(&what, |answer| answer.room(room).membership(whom) == Some(membership)).await;
}

/// Everybody says something that everybody hears.
pub async fn talk(room: &str, people: &[&TestUser]) {
    let mut listeners = Vec::new();
    for person in people {
        listeners.push(person.listens().await);
    }
    for person in people {
        let text = format!("{} says {}", person.localpart, fresh());
        person.say(room, &text).await;
        for listener in &mut listeners {
            let heard = |said: Vec<&str>| said.contains(&text.as_str());
            listener.until(&text, |answer| heard(answer.room(room).said())).await;
        }
    }
}

/// Waits until all who are in the room agree on its state, on its members, and on what each of these people is in it,
/// and until everybody's own `/sync` agrees, too.
pub async fn agree(room: &str, people: &[(&TestUser, &str)]) {
    eventually(&format!("agreement about {room}"), async || {
        let mut agreed: Option<BTreeMap<String, String>> = None;
        for (who, _) in people.iter().filter(|(_, membership)| *membership == "join") {
            let state = state(who, room).await?;
            for (whom, membership) in people {
                let found = state.memberships.get(&whom.id).map_or("leave", String::as_str);
                same(&format!("{whom:?} for {who:?}"), found, *membership)?;
            }
            let members = who.members(room, &[]).await.granted();
            let listed = memberships(members["chunk"].as_array().map_or(&[], Vec::as_slice));
            same(&format!("/members for {who:?}"), &listed, &state.memberships)?;
            let synced = synced(who, room).await?;
            same(&format!("the members in /sync for {who:?}"), &synced, &state.memberships)?;
            match &agreed {
                Some(agreed) => same(&format!("the state for {who:?}"), &state.events, agreed)?,
                None => agreed = Some(state.events),
            }
        }
        for (who, membership) in people {
            let answer = who.sync(Sync::initial()).await;
            let section = answer.section(room).unwrap_or("none");
            // Those who were sent away may be told so once more.
            let expected = match *membership {
                "leave" | "ban" if section == "leave" => "leave",
                "leave" | "ban" => "none",
                membership => membership,
            };
            same(&format!("the section of the room for {who:?}"), section, expected)?;
        }
        Ok(())
    })
    .await;
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    let reason = || format!("{what}: found {found:#?} where {expected:#?} was expected");
    (found == expected).then_some(()).ok_or_else(reason)
}

/// The current state of a room as one of its members is told it.
struct State {
    /// Type and key, and the event's id.
    events: BTreeMap<String, String>,
    memberships: BTreeMap<String, String>,
}

async fn state(who: &TestUser, room: &str) -> Result<State, String> {
    let answer = who.state(room).await;
    if answer.status != 200 {
        return Err(format!("the state for {who:?}: {}", answer.text));
    }
    let events = answer.granted();
    let events = events.as_array().map_or(&[][..], Vec::as_slice);
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let place = |event| format!("{} `{}`", text(event, "type"), text(event, "state_key"));
    Ok(State {
        events: events.iter().map(|event| (place(event), text(event, "event_id"))).collect(),
        memberships: memberships(events),
    })
}

/// What everybody is after these events, in their order.
fn memberships(events: &[Value]) -> BTreeMap<String, String> {
    let members = events.iter().filter(|event| event["type"] == "m.room.member");
    members
        .filter_map(|event| {
            let membership = event["content"]["membership"].as_str()?;
            Some((event["state_key"].as_str()?.to_owned(), membership.to_owned()))
        })
        .collect()
}

/// What everybody is, as a first `/sync` says it.
async fn synced(who: &TestUser, room: &str) -> Result<BTreeMap<String, String>, String> {
    let filter = json!({ "room": { "timeline": { "limit": 50 } } });
    let answer = who.sync(Sync::initial().filter(&filter)).await;
    if answer.section(room) != Some("join") {
        return Err(format!("{room} is in {:?} for {who:?}", answer.section(room)));
    }
    let room = answer.joined(room);
    Ok(memberships(&[room.state(), room.timeline()].concat()))
}
