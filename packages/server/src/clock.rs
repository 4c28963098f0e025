//! Time as a parameter: the only place that asks the machine what time it is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};
use tokio::sync::oneshot;

/// What time it is. Cheap to clone; clones of one clock agree.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Machine,
    /// Moved by hand.
    Hand(Arc<Mutex<Hand>>),
}

#[derive(Debug, Default)]
struct Hand {
    /// Milliseconds since 1970.
    now: u64,
    /// Who sleeps until when. They are woken in the order of their times, and then of their coming.
    asleep: BTreeMap<(u64, u64), oneshot::Sender<()>>,
    came: u64,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn machine() -> Self {
        Self(Source::Machine)
    }

    /// A clock for tests: it stands still until [`advance`](Self::advance) moves it.
    #[must_use]
    pub fn by_hand(now: MilliSecondsSinceUnixEpoch) -> Self {
        Self(Source::Hand(Arc::new(Mutex::new(Hand { now: u64::from(now.0), ..Hand::default() }))))
    }

    /// The time now, in milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.milliseconds()))
    }

    /// Moves a clock that is set by hand. The machine's clock is not ours to move: nothing happens.
    pub fn advance(&self, by: Duration) {
        let Source::Hand(hand) = &self.0 else { return };
        let due = {
            let mut hand = held(hand);
            hand.now = hand.now.saturating_add(whole_milliseconds(by));
            let next = (hand.now.saturating_add(1), 0);
            let later = hand.asleep.split_off(&next);
            std::mem::replace(&mut hand.asleep, later)
        };
        for sleeper in due.into_values() {
            // Who has stopped sleeping is gone.
            let _ = sleeper.send(());
        }
    }

    /// Waits until the clock shows `time` or later; without a time, for ever.
    pub async fn sleep_until_any(&self, time: Option<MilliSecondsSinceUnixEpoch>) {
        match time {
            Some(time) => self.sleep_until(time).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the clock shows `time` or later.
    pub async fn sleep_until(&self, time: MilliSecondsSinceUnixEpoch) {
        let time = u64::from(time.0);
        match &self.0 {
            Source::Machine => {
                let left = time.saturating_sub(self.milliseconds());
                tokio::time::sleep(Duration::from_millis(left)).await;
            }
            Source::Hand(hand) => {
                let woken = {
                    let mut hand = held(hand);
                    if hand.now >= time {
                        return;
                    }
                    hand.asleep.retain(|_, sleeper| !sleeper.is_closed());
                    hand.came += 1;
                    let (sleeper, woken) = oneshot::channel();
                    let place = (time, hand.came);
                    hand.asleep.insert(place, sleeper);
                    woken
                };
                // Only fails when the clock is gone, and we hold it.
                let _ = woken.await;
            }
        }
    }

    /// Waits so long from now on.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        self.sleep_until(later(self.now(), time))
    }

    /// What comes of something, if that is within so much time.
    pub async fn within<T>(&self, patience: Duration, what: impl Future<Output = T>) -> Option<T> {
        let end = self.sleep(patience);
        tokio::select! {
            biased;
            done = what => Some(done),
            () = end => None,
        }
    }

    fn milliseconds(&self) -> u64 {
        match &self.0 {
            Source::Machine => {
                #[expect(clippy::disallowed_methods, reason = "this is the clock")]
                let now = SystemTime::now();
                // A clock before 1970 is a machine that has lost its battery.
                whole_milliseconds(now.duration_since(UNIX_EPOCH).unwrap_or_default())
            }
            Source::Hand(hand) => held(hand).now,
        }
    }
}

/// The time that is so much later.
#[must_use]
pub fn later(time: MilliSecondsSinceUnixEpoch, by: Duration) -> MilliSecondsSinceUnixEpoch {
    let by = UInt::new_saturating(whole_milliseconds(by));
    MilliSecondsSinceUnixEpoch(time.0.saturating_add(by))
}

/// How much time lies between two points of it; none if the second comes first.
#[must_use]
pub fn passed(since: MilliSecondsSinceUnixEpoch, until: MilliSecondsSinceUnixEpoch) -> Duration {
    Duration::from_millis(until.0.saturating_sub(since.0).into())
}

fn held(hand: &Mutex<Hand>) -> MutexGuard<'_, Hand> {
    hand.lock().unwrap_or_else(PoisonError::into_inner)
}

fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin};

    use futures::poll;
    use ruma::uint;

    use super::*;

    #[tokio::test]
    async fn a_clock_set_by_hand_moves_only_by_hand() {
        let clock = Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(1000)));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(MilliSecondsSinceUnixEpoch(uint!(3000))).await }
        });
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), MilliSecondsSinceUnixEpoch(uint!(2000)));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[tokio::test]
    async fn patience_ends_by_the_clock() {
        let clock = Clock::by_hand(MilliSecondsSinceUnixEpoch(uint!(1000)));
        let second = Duration::from_secs(1);
        assert_eq!(clock.within(second, async { 7 }).await, Some(7));
        let mut waiting = pin!(clock.within(second, pending::<()>()));
        assert!(poll!(&mut waiting).is_pending());
        clock.advance(second);
        assert_eq!(waiting.await, None);
    }

    #[test]
    fn the_machines_clock_is_past_2020() {
        assert!(Clock::machine().now().0 > UInt::new_saturating(1_577_836_800_000));
    }
}
