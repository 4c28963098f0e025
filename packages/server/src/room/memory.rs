//! Which rooms are in memory, and for how long.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use moka::sync::Cache;
use ruma::{OwnedRoomId, RoomId};
use tokio::sync::MutexGuard;

use super::{Look, Room};

/// How many bytes of rooms stay in memory, about: their state above all.
const CAPACITY: u64 = 128 * 1024 * 1024;

/// What a room costs beside its state, and what an entry of the state costs, in bytes.
const ROOM: usize = 64 * 1024;
const ENTRY: usize = 320;

/// What the lane of a room costs that is not held, in bytes.
const LANE: usize = 2 * 1024;

/// The rooms in memory: those that somebody uses, and those that have been used lately.
pub(super) struct Memory {
    /// Every room that is in use. A room must never be in memory twice: it would have two lanes.
    used: Mutex<HashMap<OwnedRoomId, Weak<Room>>>,
    /// What keeps the rooms in memory that have been used lately.
    lately: Cache<OwnedRoomId, Arc<Room>>,
    /// Held while a room is loaded or created, by a hash of its id.
    loading: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
}

impl Memory {
    pub(super) fn new() -> Self {
        let weight = |_: &OwnedRoomId, room: &Arc<Room>| {
            let look = room.look();
            let own = if look.n > 0 { ROOM } else { LANE };
            u32::try_from(look.state.len() * ENTRY + own).unwrap_or(u32::MAX)
        };
        Self {
            used: Mutex::default(),
            lately: Cache::builder().max_capacity(CAPACITY).weigher(weight).build(),
            loading: (0..64).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// A room, if it is in memory.
    pub(super) fn get(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).get(id)?.upgrade()
    }

    /// Remembers that a room has been used just now.
    pub(super) fn touch(&self, id: &RoomId) {
        self.lately.get(id);
    }

    /// Keeps a room as one that has been used just now, and weighs it anew.
    pub(super) fn use_lately(&self, room: &Arc<Room>) {
        self.lately.insert(room.id.clone(), Arc::clone(room));
    }

    /// Keeps a room that is not in memory yet, while [`Self::loading`] is held for it.
    pub(super) fn keep(&self, look: Look) -> Arc<Room> {
        let room = Arc::new(Room::new(look));
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= 2 * used.values().filter(|room| room.strong_count() > 0).count().max(512) {
            used.retain(|_, room| room.strong_count() > 0);
        }
        used.insert(room.id.clone(), Arc::downgrade(&room));
        self.use_lately(&room);
        room
    }

    /// Lets a room go whose creation has failed.
    pub(super) fn forget(&self, id: &RoomId) {
        self.lately.invalidate(id);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// To be held while it is found out whether a room is there, and loaded.
    pub(super) async fn loading(&self, id: &RoomId) -> MutexGuard<'_, ()> {
        let index = usize::try_from(self.hasher.hash_one(id) % self.loading.len() as u64);
        self.loading[index.unwrap_or_default()].lock().await
    }
}
