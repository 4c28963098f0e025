//! What rooms cost, as ratios to the floor in one run: `cargo bench`.
//!
//! The floor is the same engine with the same settings, doing four statements in one durable transaction: what no
//! server on this engine can go below. Everything else is measured over HTTP on kept-alive connections. Numbers are
//! medians; the ratios are what counts, and what `docs/architecture.md` quotes.

#![expect(clippy::expect_used, reason = "a benchmark that can't go on stops")]

mod crowd;
#[path = "../shared/figures.rs"]
mod figures;
mod floor;
#[path = "../shared/parts.rs"]
mod parts;
mod start;
mod world;

use crowd::{Rounds, Scene, Watched};
use figures::{Figures, median, round};
use floor::Floor;
use parts::Wanted;
use world::{Syncing, World};

/// How often what is measured alone is repeated.
const TIMES: usize = 300;

fn main() {
    parts::run(measure);
}

/// `cargo bench --bench rooms -- synced crowd` measures two parts.
async fn measure(wanted: Wanted) -> Figures {
    let mut figures = Figures::default();
    if wanted.has("synced") {
        alone(Syncing::On, &mut figures).await;
    }
    if wanted.has("unsynced") {
        alone(Syncing::Off, &mut figures).await;
    }
    if wanted.has("crowd") {
        together(&mut figures).await;
    }
    if wanted.has("large") {
        large(&mut figures).await;
    }
    if wanted.has("quiet") {
        quiet(&mut figures).await;
    }
    if wanted.has("start") {
        start::measure(&mut figures).await;
    }
    figures
}

/// One client, one thing after another: the floor, then each kind of request, and that several times over, so that all of them
/// meet with the same moods of the machine.
async fn alone(syncing: Syncing, figures: &mut Figures) {
    const ROUNDS: usize = 6;
    let mut floor = Floor::open(syncing).await;
    let world = World::start(syncing).await;
    let alice = world.user("alice").await;
    let room = alice.create_room().await;
    let (mut writing, mut sending, mut changing, mut creating) = (vec![], vec![], vec![], vec![]);
    let mut written = None;
    for _ in 0..ROUNDS {
        let each = TIMES / ROUNDS;
        writing.extend(floor.time(each).await);
        let begun = world.written();
        sending.extend(alice.time(each, |i| alice.send(&room, i)).await);
        let sent = world.written();
        changing.extend(alice.time(each, |i| alice.ban_or_unban(&room, i)).await);
        let changed = world.written();
        creating.extend(alice.time(each, |_| async { drop(alice.create_room().await) }).await);
        let created = world.written();
        written = Some([sent.since(&begun), changed.since(&sent), created.since(&changed)]);
    }
    let floor_time = median(&mut writing);
    let (limit, name) = match syncing {
        Syncing::On => (2.0, "synced"),
        Syncing::Off => (4.0, "syncing off"),
    };
    figures.note(format!("the floor, {name}: four statements in one transaction"), floor_time);
    figures.ratio(format!("a send, {name}"), median(&mut sending), floor_time, limit);
    figures.ratio(format!("a membership change, {name}"), median(&mut changing), floor_time, limit);
    if let (Syncing::On, Some([sent, changed, created])) = (syncing, written) {
        let creating = median(&mut creating);
        figures.ratio("createRoom with all its events, synced", creating, floor_time, 4.0);
        figures.written("a send", sent);
        figures.written("a membership change", changed);
        figures.written("createRoom", created);
    }
    world.stop().await;
    floor.close().await;
}

/// Sixteen clients at once, and one alone before them, several times over. The machine's own hiccups of some milliseconds hit
/// all sixteen at once, and so more than one call in a hundred of a short time: the median of the rounds passes over them.
async fn together(figures: &mut Figures) {
    const ROUNDS: usize = 9;
    const EACH: usize = 60;
    let world = World::start(Syncing::On).await;
    let alice = world.user("alice").await;
    let one = alice.create_room().await;
    let mut users = Vec::new();
    let mut rooms = Vec::new();
    for number in 0..16 {
        let user = world.user(&format!("u{number}")).await;
        alice.invite(&one, &user).await;
        user.join(&one).await;
        rooms.push(user.create_room().await);
        users.push(user);
    }
    let ones = vec![one; 16];
    let (mut alone, mut same, mut apart) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        alone.add(crowd::send(std::slice::from_ref(&alice), &ones[..1], 2 * EACH).await);
        same.add(crowd::send(&users, &ones, EACH).await);
        apart.add(crowd::send(&users, &rooms, EACH).await);
    }
    let (alone, same, apart) = (alone.median(), same.median(), apart.median());
    for (place, crowd, limit) in [("one room", &same, 3.0), ("16 rooms", &apart, 2.5)] {
        let rate = crowd.rate / alone.rate;
        figures.at_least(format!("16 clients in {place}, rate against one client"), rate, limit);
    }
    for (place, crowd) in [("one room", &same), ("16 rooms", &apart)] {
        let ratio = crowd.median.as_secs_f64() / alone.median.as_secs_f64();
        let median = format!("{} µs ({} : 1)", crowd.median.as_micros(), round(ratio));
        figures.say(format!("median of 16 clients in {place}"), median);
        figures.ratio(format!("p99 of 16 clients in {place}"), crowd.p99, alone.median, 4.0);
    }
    world.stop().await;
}

/// A room of 10,000, a hundred of them waiting in /sync, against a room of ten: while nobody waits at all, and each time after
/// the same hundred have been served for another room.
async fn large(figures: &mut Figures) {
    let world = World::start(Syncing::On).await;
    let alice = world.user("alice").await;
    let small = alice.create_room().await;
    world.fill(&small, &alice, 10).await;
    let large = alice.create_room().await;
    world.fill(&large, &alice, 10_000).await;
    let caller = world.user("caller").await;
    let elsewhere = caller.create_room().await;
    let mut waiting = Vec::new();
    for number in 0..100 {
        let user = world.user(&format!("w{number}")).await;
        for (host, room) in [(&alice, &large), (&caller, &elsewhere)] {
            host.invite(room, &user).await;
            user.join(room).await;
        }
        waiting.push(user);
    }
    let times = TIMES / 3;
    let nobody = Watched::begin(Vec::new()).await;
    let scene =
        Scene { world: &world, client: &alice, room: &small, watched: &nobody, elsewhere: None };
    let few = scene.one_by_one(times).await;
    let watched = Watched::begin(waiting).await;
    let few_beside = scene.one_by_one(times).await;
    let scene = Scene { watched: &watched, ..scene };
    let after = Scene { elsewhere: Some((&caller, &elsewhere)), ..scene };
    let few_after = after.one_by_one(times).await;
    let many = Scene { room: &large, ..scene }.one_by_one(times).await;
    let of = "in a room of 10,000 with 100 waiting, against a room of 10";
    let served = "… after the same 100 have been served";
    figures.ratio(format!("a send {of}"), many.send, few.send, 1.5);
    figures.ratio(served, many.send, few_after.send, 1.5);
    figures.ratio(format!("a membership change {of}"), many.member, few.member, 1.5);
    figures.ratio(served, many.member, few_after.member, 1.5);
    figures.ratio(format!("an incremental sync {of}"), many.sync, few.sync, 1.5);
    figures.ratio(served, many.sync, few_after.sync, 1.5);
    let ratio = few_beside.send.as_secs_f64() / few.send.as_secs_f64();
    let beside = "a send in a room of 10 beside 100 who wait for another room and hear nothing";
    figures.say(beside, format!("{} µs ({ratio:.2} : 1)", few_beside.send.as_micros()));
    watched.stop();
    world.stop().await;
}

/// Nothing new in a thousand rooms.
async fn quiet(figures: &mut Figures) {
    let world = World::start(Syncing::Off).await;
    let alice = world.user("alice").await;
    for _ in 0..1000 {
        alice.create_room().await;
    }
    let since = alice.sync(None).await;
    let before = world.asked();
    let mut syncs = alice.time(TIMES, |_| async { drop(alice.sync(Some(&since)).await) }).await;
    figures.note("an incremental sync without news, 1,000 rooms", median(&mut syncs));
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let reads = (world.asked() - before) as f64 / TIMES as f64;
    figures.at_most("queries of the database in it", reads, 0.0);
    world.stop().await;
}
