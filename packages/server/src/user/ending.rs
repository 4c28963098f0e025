//! Who waits for the end of a session.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use tokio::sync::watch;

/// By user and device, what is dropped when the session ends.
type Open = HashMap<OwnedUserId, HashMap<OwnedDeviceId, watch::Sender<()>>>;

/// Those who wait for the ends of sessions.
#[derive(Debug, Default)]
pub(super) struct Endings(Mutex<Open>);

/// Waits for the end of one session. Dropping it ends the waiting.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    endings: &'a Endings,
    user: &'a UserId,
    device: &'a DeviceId,
    end: watch::Receiver<()>,
}

impl Endings {
    /// Begins to wait for the end of a device's session.
    pub(super) fn wait<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> Ending<'a> {
        let mut open = self.open();
        let devices = open.entry(user.to_owned()).or_default();
        let end = devices.entry(device.to_owned()).or_insert_with(|| watch::Sender::new(()));
        Ending { endings: self, user, device, end: end.subscribe() }
    }

    /// Tells those who wait for the end of a device's session, or of any of the user's.
    pub(super) fn end(&self, user: &UserId, device: Option<&DeviceId>) {
        let mut open = self.open();
        let Some(devices) = open.get_mut(user) else { return };
        match device {
            Some(device) => drop(devices.remove(device)),
            None => devices.clear(),
        }
        if devices.is_empty() {
            open.remove(user);
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ending<'_> {
    /// Waits for it.
    pub(super) async fn comes(&mut self) {
        // Nothing is ever sent: an error says that the other end was dropped.
        while self.end.changed().await.is_ok() {}
    }
}

impl Drop for Ending<'_> {
    /// What nobody waits for any more takes no memory.
    fn drop(&mut self) {
        let mut open = self.endings.open();
        if self.end.has_changed().is_err() {
            // It has come, and what stands under the same name is another's.
            return;
        }
        let Some(devices) = open.get_mut(self.user) else { return };
        // This one is the last.
        if devices.get(self.device).is_some_and(|end| end.receiver_count() <= 1) {
            devices.remove(self.device);
        }
        if devices.is_empty() {
            open.remove(self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use ruma::{device_id, user_id};

    use super::*;

    #[test]
    fn those_who_wait_for_the_session_are_told_and_no_others() {
        let endings = Endings::default();
        let (alice, bob) = (user_id!("@alice:hs1"), user_id!("@bob:hs1"));
        let (phone, desk) = (device_id!("PHONE"), device_id!("DESK"));
        let ends = |mut ending: Ending<'_>| ending.comes().now_or_never().is_some();

        let (first, second) = (endings.wait(alice, phone), endings.wait(alice, phone));
        let (other, stranger) = (endings.wait(alice, desk), endings.wait(bob, phone));
        endings.end(alice, Some(phone));
        assert!(ends(first) && ends(second));
        assert!(!ends(other) && !ends(stranger));

        let (first, other) = (endings.wait(alice, phone), endings.wait(alice, desk));
        let stranger = endings.wait(bob, phone);
        endings.end(alice, None);
        assert!(ends(first) && ends(other) && !ends(stranger));
        assert!(endings.open().is_empty());
    }

    #[test]
    fn who_gives_up_does_not_stop_others_from_waiting() {
        let endings = Endings::default();
        let (alice, phone) = (user_id!("@alice:hs1"), device_id!("PHONE"));
        let (first, second) = (endings.wait(alice, phone), endings.wait(alice, phone));
        drop(first);
        endings.end(alice, Some(phone));
        // One that begins after an end waits for another; the old one's leaving does not touch it.
        let mut third = endings.wait(alice, phone);
        drop(second);
        assert!(third.comes().now_or_never().is_none());
        endings.end(alice, Some(phone));
        assert!(third.comes().now_or_never().is_some());
        drop(third);
        assert!(endings.open().is_empty());
    }
}
