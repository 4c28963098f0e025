//! Time as a parameter: the only place that asks the machine what time it is.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};
use tokio::sync::watch;

/// What time it is. Cheap to clone; clones of one clock agree.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Machine,
    /// Milliseconds since 1970, moved by hand.
    Hand(Arc<watch::Sender<u64>>),
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
        Self(Source::Hand(Arc::new(watch::Sender::new(u64::from(now.0)))))
    }

    /// The time now, in milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.milliseconds()))
    }

    /// Moves a clock that is set by hand. The machine's clock is not ours to move: nothing happens.
    pub fn advance(&self, by: Duration) {
        if let Source::Hand(time) = &self.0 {
            time.send_modify(|now| *now = now.saturating_add(whole_milliseconds(by)));
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
            Source::Hand(now) => {
                // Only fails when the sender is gone, and we hold it.
                let _ = now.subscribe().wait_for(|now| *now >= time).await;
            }
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
            Source::Hand(now) => *now.borrow(),
        }
    }
}

fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_machines_clock_is_past_2020() {
        assert!(Clock::machine().now().0 > UInt::new_saturating(1_577_836_800_000));
    }
}
