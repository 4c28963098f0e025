//! Many clients at once.

use std::time::{Duration, Instant};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    figures::median,
    world::{Client, World},
};

/// How a crowd fared.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    /// Calls a second, all together.
    pub(crate) rate: f64,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
}

/// How it fared in each of some rounds.
#[derive(Default)]
pub(crate) struct Rounds {
    rates: Vec<f64>,
    medians: Vec<Duration>,
    p99s: Vec<Duration>,
}

impl Rounds {
    pub(crate) fn add(&mut self, crowd: Crowd) {
        self.rates.push(crowd.rate);
        self.medians.push(crowd.median);
        self.p99s.push(crowd.p99);
    }

    /// The middle of the rounds, each number for itself.
    pub(crate) fn median(mut self) -> Crowd {
        self.rates.sort_unstable_by(f64::total_cmp);
        Crowd {
            rate: self.rates[self.rates.len() / 2],
            median: median(&mut self.medians),
            p99: median(&mut self.p99s),
        }
    }
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

/// How long everything rests before something is measured: who was woken before is served by then, down to the last
/// acknowledgement, and all are equally cold.
const REST: Duration = Duration::from_millis(10);

/// Where single operations are measured, and who waits meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) world: &'a World,
    /// Who does it.
    pub(crate) client: &'a Client,
    pub(crate) room: &'a str,
    pub(crate) watched: &'a Watched,
    /// Who says something elsewhere before each operation, and where, so that all who wait have just been served. Nobody where
    /// they wait for what is measured.
    pub(crate) elsewhere: Option<(&'a Client, &'a str)>,
}

/// What single operations take in a room.
pub(crate) struct OneByOne {
    pub(crate) send: Duration,
    pub(crate) member: Duration,
    pub(crate) sync: Duration,
}

impl Scene<'_> {
    /// Sends, changes a membership and syncs, in turn, each time once everybody who waits has heard of the last, and rests.
    pub(crate) async fn one_by_one(&self, times: usize) -> OneByOne {
        let (mut send, mut member, mut sync) = (Vec::new(), Vec::new(), Vec::new());
        let mut since = self.client.sync(None).await;
        for number in 0..times {
            self.rest(number).await;
            send.push(self.told(async || self.client.send(self.room, number).await).await);
            self.rest(number).await;
            let change = async || self.client.ban_or_unban(self.room, number).await;
            member.push(self.told(change).await);
            self.rest(number).await;
            let begun = Instant::now();
            since = self.client.sync(Some(&since)).await;
            sync.push(begun.elapsed());
        }
        OneByOne { send: median(&mut send), member: median(&mut member), sync: median(&mut sync) }
    }

    /// How long something takes that is said in the room; goes on when whoever waits for that has heard of it.
    async fn told(&self, say: impl AsyncFnOnce()) -> Duration {
        let before = self.watched.counts();
        let begun = Instant::now();
        say().await;
        let taken = begun.elapsed();
        if self.elsewhere.is_none() {
            self.watched.all_told(&before, self.world, self.room).await;
        }
        taken
    }

    async fn rest(&self, number: usize) {
        if let Some((somebody, room)) = self.elsewhere {
            let before = self.watched.counts();
            somebody.send(room, number).await;
            self.watched.all_told(&before, self.world, room).await;
        }
        tokio::time::sleep(REST).await;
    }
}

/// The time that one in a hundred exceeds.
fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}
