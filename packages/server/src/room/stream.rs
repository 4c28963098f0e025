//! What everybody may see: how far the server's stream is published, which rooms have moved since the start, and where the
//! users who are looking stand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard},
};

use matryx_repository::{Append, Database, Mine, Out, OutPlace, StoreError};
use moka::sync::Cache;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::{mpsc, watch};

use super::tips;
use crate::sync::Notifier;

/// How many users' rooms stay in memory.
const USERS: u64 = 10_000;

/// A user's rooms: shared, so that taking them costs nothing.
pub type Standings = imbl::HashMap<OwnedRoomId, Arc<Mine>>;

/// A user's memberships as of a position.
#[derive(Debug, Clone)]
pub struct Standing {
    /// As of when.
    pub pos: u64,
    /// Every room that they have or had to do with.
    pub rooms: Standings,
}

/// The published stream.
#[derive(Debug)]
pub struct Stream {
    database: Database,
    shown: RwLock<Shown>,
    /// The published position, for those who wait for it.
    published: watch::Sender<u64>,
    users: Cache<OwnedUserId, Arc<Mutex<User>>>,
    notifier: Notifier,
    /// What goes to other servers, for whoever brings it there.
    outgoing: Following<Vec<Out>>,
    /// Rooms with too many tips.
    crowded: Following<OwnedRoomId>,
}

/// News for one follower, kept for as long as it is behind; nothing is kept before there is one.
#[derive(Debug)]
struct Following<T>(RwLock<Option<mpsc::UnboundedSender<T>>>);

#[derive(Debug)]
struct Shown {
    /// Everything up to here is committed and visible.
    published: u64,
    /// The published position when the process started: what moved before is known to the store alone.
    started: u64,
    /// Where each room stands that has moved since.
    moved: HashMap<OwnedRoomId, u64>,
}

/// A user's rooms as far as they are known in memory.
#[derive(Debug, Default)]
struct User {
    rooms: Standings,
    /// Whether the store has been read. Until then `rooms` holds only what happened since it was begun.
    complete: bool,
}

/// The right to show what has been committed. Readers see all of it or nothing.
pub(super) struct Writing<'a> {
    stream: &'a Stream,
    shown: RwLockWriteGuard<'a, Shown>,
    rooms: Vec<OwnedRoomId>,
    users: Vec<OwnedUserId>,
    outgoing: Vec<Out>,
    crowded: Vec<OwnedRoomId>,
    pos: u64,
}

impl<T> Default for Following<T> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<T> Following<T> {
    fn follow(&self) -> mpsc::UnboundedReceiver<T> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn tell(&self, news: T) {
        if let Some(sender) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            // Who has stopped to follow is not told.
            drop(sender.send(news));
        }
    }
}

impl Stream {
    pub(super) fn new(database: Database, published: u64) -> Self {
        Self {
            database,
            shown: RwLock::new(Shown { published, started: published, moved: HashMap::new() }),
            published: watch::Sender::new(published),
            users: Cache::new(USERS),
            notifier: Notifier::default(),
            outgoing: Following::default(),
            crowded: Following::default(),
        }
    }

    /// What goes to other servers, from now on, in order. There is one follower: the last who asks.
    pub fn follow(&self) -> mpsc::UnboundedReceiver<Vec<Out>> {
        self.outgoing.follow()
    }

    /// Rooms as they come to have too many tips. There is one follower: the last who asks.
    pub(super) fn crowded(&self) -> mpsc::UnboundedReceiver<OwnedRoomId> {
        self.crowded.follow()
    }

    /// Whom news wakes.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The position up to which everything is visible.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).published
    }

    /// Waits until a position is published.
    pub async fn reached(&self, pos: u64) {
        // Fails only when the stream is gone, and we hold it.
        drop(self.published.subscribe().wait_for(|published| *published >= pos).await);
    }

    /// A user's rooms and the position as of which they are that.
    ///
    /// # Errors
    /// When the database fails; it is read only for a user who has not been seen for long.
    pub async fn standing(&self, user: &UserId) -> Result<Standing, StoreError> {
        loop {
            let entry = self.users.get_with(user.to_owned(), Arc::default);
            {
                let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
                let known = entry.lock().unwrap_or_else(PoisonError::into_inner);
                if known.complete {
                    return Ok(Standing { pos: shown.published, rooms: known.rooms.clone() });
                }
            }
            let stored = self.database.rooms_of(user).await?;
            // The store may be ahead of what is published by a moment, and nobody is shown that.
            let newest = stored.iter().map(|mine| mine.pos).max().unwrap_or_default();
            self.reached(newest).await;
            {
                let mut known = entry.lock().unwrap_or_else(PoisonError::into_inner);
                for mine in stored {
                    match known.rooms.get(&mine.room) {
                        Some(newer) if newer.pos >= mine.pos => {}
                        _ => {
                            known.rooms.insert(mine.room.clone(), Arc::new(mine));
                        }
                    }
                }
                known.complete = true;
            }
        }
    }

    /// Those of these rooms that have moved after `since`, with where they stood last.
    ///
    /// # Errors
    /// When the database fails; it is read only for a `since` from before the start of the process.
    pub async fn moved(
        &self,
        rooms: impl IntoIterator<Item = &RoomId>,
        since: u64,
    ) -> Result<Vec<(OwnedRoomId, u64)>, StoreError> {
        let mut moved = Vec::new();
        let mut unknown = Vec::new();
        {
            let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
            for room in rooms {
                match shown.moved.get(room) {
                    Some(pos) if *pos > since => moved.push((room.to_owned(), *pos)),
                    None if since < shown.started => unknown.push(room),
                    _ => {}
                }
            }
        }
        if !unknown.is_empty() {
            let stored = self.database.positions(unknown).await?;
            moved.extend(stored.into_iter().filter(|(_, pos)| *pos > since));
        }
        Ok(moved)
    }

    pub(super) fn writing(&self) -> Writing<'_> {
        let shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        Writing {
            stream: self,
            pos: shown.published,
            shown,
            rooms: Vec::new(),
            users: Vec::new(),
            outgoing: Vec::new(),
            crowded: Vec::new(),
        }
    }
}

impl Writing<'_> {
    /// Takes in an append that is durable.
    pub(super) fn show(&mut self, pos: u64, append: Append) {
        self.pos = pos;
        let room = append.room;
        for mine in append.mine {
            self.users.push(mine.user.clone());
            let Some(entry) = self.stream.users.get(&mine.user) else { continue };
            let pos = if mine.pos == 0 { pos } else { mine.pos };
            let mut known = entry.lock().unwrap_or_else(PoisonError::into_inner);
            known.rooms.insert(room.clone(), Arc::new(Mine { pos, ..mine }));
        }
        self.outgoing.extend(
            append.out.into_iter().map(|out| Out { place: OutPlace { pos, ..out.place }, ..out }),
        );
        if append.head.is_some_and(|head| head.tips.len() > tips::MANY) {
            self.crowded.push(room.clone());
        }
        if !append.lines.is_empty() {
            self.shown.moved.insert(room.clone(), pos);
            self.rooms.push(room);
        }
    }

    /// Lets everybody see it, then wakes who waits for it.
    pub(super) fn publish(self) {
        let Self { stream, mut shown, rooms, users, outgoing, crowded, pos } = self;
        shown.published = pos;
        drop(shown);
        stream.published.send_replace(pos);
        stream.notifier.wake(&rooms, &users);
        if !outgoing.is_empty() {
            stream.outgoing.tell(outgoing);
        }
        for room in crowded {
            stream.crowded.tell(room);
        }
    }
}
