//! What a transaction of another server costs: fifty events of a room against one.

use ruma::{OwnedEventId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    figures::{Figures, median},
    support::{Guest, Peer, TestServer},
    thread::{Says, Thread, bring},
};
use matryx_core::room::StateKey;
use matryx_server::clock::Clock;

/// How often each is repeated.
const TIMES: usize = 100;

/// How many events a transaction may have, and what that may cost against a transaction of one.
const MANY: usize = 50;
const LIMIT: f64 = 8.0;

pub(crate) async fn measure(figures: &mut Figures) {
    let start = TestServer::start_with(Clock::machine(), |config| {
        Peer::befriend(config);
        // Synced to disk, as it is usual.
        config.database.url = None;
    });
    let (server, peer) = (start.await, Peer::start().await);
    let alice = server.user("alice").await;
    let wish = json!({ "preset": "public_chat", "room_version": "11" });
    let room = alice.new_room(wish).await;
    let guest = Guest { peer: &peer, server: &server, id: peer.user("bob") };
    guest.join(&room).await;

    let (auth_events, mut thread) = begin(&guest, room).await;
    let mut some = |count: usize| -> Vec<Value> {
        let says = |_| Says {
            sender: guest.id.as_str(),
            kind: "m.room.message",
            key: None,
            content: json!({ "msgtype": "m.text", "body": "x".repeat(200) }),
            auth_events: &auth_events,
        };
        (0..count).map(|number| thread.say(says(number)).1).collect()
    };
    let (mut one, mut many) = (Vec::with_capacity(TIMES), Vec::with_capacity(TIMES));
    let (mut queries, mut commits) = (0, 0);
    let read = || (server.app().database.asked(), server.app().rooms.tally().read().commits);
    for _ in 0..TIMES {
        one.push(bring(&peer, &server, &some(1)).await);
        let events = some(MANY);
        let before = read();
        many.push(bring(&peer, &server, &events).await);
        let after = read();
        (queries, commits) = (queries + after.0 - before.0, commits + after.1 - before.1);
    }
    let (one, many) = (median(&mut one), median(&mut many));
    figures.note("a transaction of one event, synced", one);
    figures.ratio(format!("a transaction of {MANY} events of one room, synced"), many, one, LIMIT);
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let each = |count: u64| count as f64 / TIMES as f64;
    let text = format!("{:.1} queries, {:.1} syncs", each(queries), each(commits));
    figures.say("… asks of the database", text);
    drop(server.stop().await);
}

/// Where the guest's first event comes, and what allows it.
async fn begin<'a>(guest: &Guest<'a>, room: String) -> (Vec<OwnedEventId>, Thread<'a>) {
    let id = <&RoomId>::try_from(&*room).expect("a room id");
    let held = guest.server.app().rooms.room(id).await.expect("a store").expect("a room");
    let look = held.look();
    let user: &UserId = &guest.id;
    let allowing = [StateKey::create(), StateKey::power_levels(), StateKey::member(user)];
    let auth_events = allowing.iter().filter_map(|key| Some(look.entry(key)?.event_id.clone()));
    let (tips, depth) = look.prev_events();
    let thread = Thread { peer: guest.peer, version: RoomVersionId::V11, room, tips, depth };
    (auth_events.collect(), thread)
}
