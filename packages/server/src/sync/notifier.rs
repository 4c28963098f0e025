//! Whom news wakes. Who waits registers first and reads then, so that nothing falls between; publishing costs what is
//! waiting, not what is a member.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedRoomId, OwnedUserId};
use tokio::sync::Notify;

/// Those who wait, by what they wait for.
#[derive(Debug, Default)]
pub struct Notifier {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    rooms: HashMap<OwnedRoomId, HashMap<u64, Arc<Notify>>>,
    users: HashMap<OwnedUserId, HashMap<u64, Arc<Notify>>>,
}

/// Somebody who waits. Dropping it ends that.
#[derive(Debug)]
pub struct Waiter<'a> {
    notifier: &'a Notifier,
    id: u64,
    user: OwnedUserId,
    rooms: Vec<OwnedRoomId>,
    news: Arc<Notify>,
}

impl Notifier {
    /// Registers somebody who waits for news of a user's memberships and of these rooms.
    #[must_use]
    pub fn register(&self, user: OwnedUserId, rooms: Vec<OwnedRoomId>) -> Waiter<'_> {
        let news = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next += 1;
        let id = waiting.next;
        waiting.users.entry(user.clone()).or_default().insert(id, Arc::clone(&news));
        for room in &rooms {
            waiting.rooms.entry(room.clone()).or_default().insert(id, Arc::clone(&news));
        }
        Waiter { notifier: self, id, user, rooms, news }
    }

    /// Wakes everybody who waits for one of these.
    pub fn wake(&self, rooms: &[OwnedRoomId], users: &[OwnedUserId]) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of_rooms = rooms.iter().filter_map(|room| waiting.rooms.get(room));
        let of_users = users.iter().filter_map(|user| waiting.users.get(user));
        for news in of_rooms.chain(of_users).flat_map(HashMap::values) {
            // Remembers one wake-up, for who has registered and is still reading.
            news.notify_one();
        }
    }
}

impl Waiter<'_> {
    /// Waits for news since the registration or since the last time this returned.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.notifier.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        forget(&mut waiting.users, &self.user, self.id);
        for room in &self.rooms {
            forget(&mut waiting.rooms, room, self.id);
        }
    }
}

/// Takes one waiter out; what nobody waits for any more takes no memory.
fn forget<K: Hash + Eq>(waiting: &mut HashMap<K, HashMap<u64, Arc<Notify>>>, key: &K, id: u64) {
    if let Some(waiters) = waiting.get_mut(key) {
        waiters.remove(&id);
        if waiters.is_empty() {
            waiting.remove(key);
        }
    }
}
