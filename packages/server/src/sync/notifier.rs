//! Whom news wakes. Who waits registers first and reads then, so that nothing falls between; publishing costs what is
//! waiting, not what is a member.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use tokio::{sync::Notify, task::yield_now, time::sleep};

/// How much later those who wait are woken than the news was made. Whoever made it has their answer by then, and what comes
/// right after it is told together with it.
const COURTESY: Duration = Duration::from_millis(1);

/// How many are woken before everybody else gets their turn again: a hundred who read at once would hold up all others.
const AT_ONCE: usize = 2;

/// Those who wait, by what they wait for.
#[derive(Debug, Default)]
pub struct Notifier {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    rooms: HashMap<OwnedRoomId, HashMap<u64, Arc<News>>>,
    users: HashMap<OwnedUserId, HashMap<u64, Arc<News>>>,
}

/// What wakes somebody.
#[derive(Debug, Default)]
struct News {
    notify: Notify,
    /// Whether they are at rest: they have read what there was, and wait.
    at_rest: AtomicBool,
}

/// Somebody who waits. Dropping it ends that.
#[derive(Debug)]
pub struct Waiter<'a> {
    notifier: &'a Notifier,
    id: u64,
    user: OwnedUserId,
    rooms: Vec<OwnedRoomId>,
    news: Arc<News>,
}

impl Notifier {
    /// Registers somebody who waits for news of a user's memberships and of these rooms.
    #[must_use]
    pub fn register(&self, user: OwnedUserId, rooms: Vec<OwnedRoomId>) -> Waiter<'_> {
        let news = Arc::<News>::default();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next += 1;
        let id = waiting.next;
        waiting.users.entry(user.clone()).or_default().insert(id, Arc::clone(&news));
        for room in &rooms {
            waiting.rooms.entry(room.clone()).or_default().insert(id, Arc::clone(&news));
        }
        Waiter { notifier: self, id, user, rooms, news }
    }

    /// Wakes everybody who waits for one of these, a few at a time, and after whoever made the news has been answered.
    pub fn wake(&self, rooms: &[OwnedRoomId], users: &[OwnedUserId]) {
        let waiting: Vec<Arc<News>> = {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let of_rooms = rooms.iter().filter_map(|room| waiting.rooms.get(room));
            let of_users = users.iter().filter_map(|user| waiting.users.get(user));
            of_rooms.chain(of_users).flat_map(HashMap::values).cloned().collect()
        };
        if !waiting.is_empty() {
            tokio::spawn(tell(waiting));
        }
    }

    /// How many have read everything there is of a room, and wait for news of it.
    #[must_use]
    pub fn waiting_for(&self, room: &RoomId) -> usize {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of_room = waiting.rooms.get(room).into_iter().flat_map(HashMap::values);
        of_room.filter(|news| news.at_rest.load(Ordering::Relaxed)).count()
    }
}

async fn tell(waiting: Vec<Arc<News>>) {
    sleep(COURTESY).await;
    for some in waiting.chunks(AT_ONCE) {
        for news in some {
            // Remembers one wake-up, for who has registered and is still reading.
            news.notify.notify_one();
        }
        yield_now().await;
    }
}

impl Waiter<'_> {
    /// Waits for news since the registration or since the last time this returned.
    pub async fn news(&self) {
        self.news.at_rest.store(true, Ordering::Relaxed);
        self.news.notify.notified().await;
        self.news.at_rest.store(false, Ordering::Relaxed);
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
fn forget<K: Hash + Eq>(waiting: &mut HashMap<K, HashMap<u64, Arc<News>>>, key: &K, id: u64) {
    if let Some(waiters) = waiting.get_mut(key) {
        waiters.remove(&id);
        if waiters.is_empty() {
            waiting.remove(key);
        }
    }
}
