//! Many clients at once.

use std::time::{Duration, Instant};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    figures::median,
    world::{Client, World},
};

/// How a crowd fared.
pub(crate) struct Crowd {
    /// Calls a second, all together.
    pub(crate) rate: f64,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
}

/// Each client sends so many messages to its room, all clients at once.
pub(crate) async fn send(clients: &[Client], rooms: &[String], each: usize) -> Crowd {
    let mut sending = JoinSet::new();
    let begun = Instant::now();
    for (client, room) in clients.iter().zip(rooms) {
        let (client, room) = (client.clone(), room.clone());
        sending.spawn(async move {
            let mut taken = Vec::with_capacity(each);
            for number in 0..each {
                let begun = Instant::now();
                client.send(&room, number).await;
                taken.push(begun.elapsed());
            }
            taken
        });
    }
    let mut taken: Vec<Duration> = sending.join_all().await.into_iter().flatten().collect();
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let rate = taken.len() as f64 / begun.elapsed().as_secs_f64();
    Crowd { rate, median: median(&mut taken), p99: p99(&mut taken) }
}

/// Users who wait in /sync, and come back as soon as they are answered.
pub(crate) struct Watched {
    waiting: JoinSet<()>,
    /// How many times each has been answered.
    answered: Vec<watch::Receiver<u64>>,
}

impl Watched {
    pub(crate) async fn begin(users: Vec<Client>) -> Self {
        let mut waiting = JoinSet::new();
        let mut answered = Vec::with_capacity(users.len());
        for user in users {
            let mut since = user.sync(None).await;
            let (count, seen) = watch::channel(0);
            answered.push(seen);
            waiting.spawn(async move {
                loop {
                    since = user.sync_waiting(Some(&since), 30_000).await;
                    count.send_modify(|count| *count += 1);
                }
            });
        }
        Self { waiting, answered }
    }

    fn counts(&self) -> Vec<u64> {
        self.answered.iter().map(|count| *count.borrow()).collect()
    }

    /// Waits until everybody has been answered since these counts, and waits again.
    async fn all_told(&self, before: &[u64], world: &World, room: &str) {
        for (count, before) in self.answered.iter().zip(before) {
            count.clone().wait_for(|now| now > before).await.expect("they wait on");
        }
        while world.waiting_for(room) < self.answered.len() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn stop(mut self) {
        self.waiting.abort_all();
    }
}

/// What single operations take in a room.
pub(crate) struct OneByOne {
    pub(crate) send: Duration,
    pub(crate) member: Duration,
    pub(crate) sync: Duration,
}

/// Sends, changes a membership and syncs, in turn, each time once everybody who waits has heard of the last.
pub(crate) async fn one_by_one(
    world: &World,
    client: &Client,
    room: &str,
    times: usize,
    watched: &Watched,
) -> OneByOne {
    let (mut send, mut member, mut sync) = (Vec::new(), Vec::new(), Vec::new());
    let mut since = client.sync(None).await;
    for number in 0..times {
        let before = watched.counts();
        let begun = Instant::now();
        client.send(room, number).await;
        send.push(begun.elapsed());
        watched.all_told(&before, world, room).await;

        let before = watched.counts();
        let begun = Instant::now();
        client.ban_or_unban(room, number).await;
        member.push(begun.elapsed());
        watched.all_told(&before, world, room).await;

        let begun = Instant::now();
        since = client.sync(Some(&since)).await;
        sync.push(begun.elapsed());
    }
    OneByOne { send: median(&mut send), member: median(&mut member), sync: median(&mut sync) }
}

/// The time that one in a hundred exceeds.
fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}
