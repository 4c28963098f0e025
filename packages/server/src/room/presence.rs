//! Who of another server was what in a room, from line to line: what that server may read rests on it. To know it takes every
//! version of every member there ever was, so that it is read once for all servers, and followed line by line from then on.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use matryx_core::{membership::Membership, room::StateKey};
use matryx_repository::StoreError;
use moka::sync::Cache;
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, ServerName, UserId,
    events::{StateEventType, room::history_visibility::HistoryVisibility},
};
use tokio::sync::Mutex;

use super::{Room, Rooms, Sight};

/// How many steps of all rooms stay in memory. One takes about 100 bytes.
const CAPACITY: u64 = 300_000;

/// How many lines are followed. Behind more of them, everything is read again.
const FOLLOWED: i64 = 500;

/// A user became something at a line.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) n: i64,
    pub(super) user: OwnedUserId,
    pub(super) is: Membership,
}

/// What is known of the rooms that other servers have asked about lately.
pub(super) struct Presence(Cache<OwnedRoomId, Arc<Kept>>);

#[derive(Default)]
struct Kept {
    past: Mutex<Past>,
    steps: AtomicU32,
}

#[derive(Default)]
struct Past {
    /// Up to which line it is known; `None` before anything is.
    n: Option<i64>,
    /// By server, in the order of the lines.
    steps: HashMap<OwnedServerName, Vec<Step>>,
}

impl Presence {
    pub(super) fn new() -> Self {
        let weigh = |_: &OwnedRoomId, kept: &Arc<Kept>| kept.steps.load(Ordering::Relaxed).max(50);
        Self(Cache::builder().max_capacity(CAPACITY).weigher(weigh).build())
    }
}

impl Past {
    fn add(&mut self, key: &StateKey, n: i64, is: Membership) {
        let Ok(user) = UserId::parse(&*key.key) else { return };
        let server = user.server_name().to_owned();
        self.steps.entry(server).or_default().push(Step { n, user, is });
    }
}

impl Rooms {
    /// What the users of a server were in a room, in the order of the lines.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn steps_of(
        &self,
        room: &Room,
        server: &ServerName,
    ) -> Result<Vec<Step>, StoreError> {
        let kept = self.presence().0.get_with(room.id.clone(), Arc::default);
        let mut past = kept.past.lock().await;
        let look = room.look();
        let behind = past.n.map(|n| (n, look.n - n));
        match behind {
            Some((_, ..=0)) => {}
            // Behind a gap the lines do not tell everything.
            Some((n, ..=FOLLOWED)) if look.gaps.range(n + 1..=look.n).next().is_none() => {
                for line in self.lines(room, n + 1, look.n).await? {
                    for change in &line.changes {
                        if change.key.kind == StateEventType::RoomMember {
                            let is = change.new.as_ref().and_then(|entry| entry.membership);
                            past.add(&change.key, line.n, is.unwrap_or(Membership::Left));
                        }
                    }
                }
                past.n = Some(look.n);
            }
            _ => {
                *past = self.read_past(room, look.n).await?;
                let steps = past.steps.values().map(Vec::len).sum::<usize>();
                kept.steps.store(u32::try_from(steps).unwrap_or(u32::MAX), Ordering::Relaxed);
                self.presence().0.insert(room.id.clone(), Arc::clone(&kept));
            }
        }
        Ok(past.steps.get(server).cloned().unwrap_or_default())
    }

    async fn read_past(&self, room: &Room, to: i64) -> Result<Past, StoreError> {
        let member = StateEventType::RoomMember;
        let versions = self.database().versions_of_kind(&room.id, &member).await?;
        let mut past = Past { n: Some(to), steps: HashMap::new() };
        // What is being imported stands under lines that are still to come.
        for (key, version) in versions.into_iter().filter(|(_, version)| version.n <= to) {
            let is = version.entry.and_then(|entry| entry.membership);
            past.add(&key, version.n, is.unwrap_or(Membership::Left));
        }
        past.steps.values_mut().for_each(|steps| steps.sort_by_key(|step| step.n));
        Ok(past)
    }

    /// Another server's view of a room's whole timeline. `inside` says whether it is in the room now: then only rooms that
    /// have ever been less open than `shared` are asked who of its users was what.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn server_sight(
        &self,
        room: &Room,
        server: &ServerName,
        inside: bool,
    ) -> Result<Sight, StoreError> {
        let visibility = self.visibility(room).await?;
        let open = visibility.iter().all(|(_, visibility)| {
            matches!(visibility, HistoryVisibility::Shared | HistoryVisibility::WorldReadable)
        });
        let membership = if inside && open {
            vec![(i64::MIN, Membership::Joined)]
        } else {
            path(&self.steps_of(room, server).await?)
        };
        Ok(Sight::of_server(server.to_owned(), visibility, membership))
    }
}

/// What a server was from line to line: in the room as long as one of its users was, else invited as long as one of them was.
fn path(steps: &[Step]) -> Vec<(i64, Membership)> {
    let mut users = HashMap::new();
    let mut counts = Counts::default();
    let mut path: Vec<(i64, Membership)> = Vec::new();
    for step in steps {
        counts.change(users.insert(&step.user, step.is), step.is);
        let best = counts.best();
        if path.last().is_none_or(|(_, last)| *last != best) {
            path.push((step.n, best));
        }
    }
    path
}

/// How many users of a server are in a room, and how many are invited.
#[derive(Clone, Copy, Default)]
struct Counts {
    joined: usize,
    invited: usize,
}

impl Counts {
    fn change(&mut self, was: Option<Membership>, is: Membership) {
        match was {
            Some(Membership::Joined) => self.joined -= 1,
            Some(Membership::Invited) => self.invited -= 1,
            _ => {}
        }
        match is {
            Membership::Joined => self.joined += 1,
            Membership::Invited => self.invited += 1,
            _ => {}
        }
    }

    fn best(self) -> Membership {
        match (self.joined, self.invited) {
            (0, 0) => Membership::Left,
            (0, _) => Membership::Invited,
            _ => Membership::Joined,
        }
    }
}

/// A server's users at one point of a room.
pub(super) struct Present<'a> {
    users: HashMap<&'a UserId, Membership>,
    counts: Counts,
}

impl<'a> Present<'a> {
    /// As of a line.
    pub(super) fn at(steps: &'a [Step], n: i64) -> Self {
        let mut present = Self { users: HashMap::new(), counts: Counts::default() };
        for step in steps.iter().take_while(|step| step.n <= n) {
            present.set(&step.user, step.is);
        }
        present
    }

    /// Makes one of them something else.
    pub(super) fn set(&mut self, user: &'a UserId, is: Membership) {
        self.counts.change(self.users.insert(user, is), is);
    }

    /// The best that one of them is.
    pub(super) fn best(&self) -> Membership {
        self.counts.best()
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn a_server_is_what_the_best_of_its_users_is() {
        use Membership::{Banned, Invited, Joined, Left};
        let (a, b) = (user_id!("@a:x"), user_id!("@b:x"));
        let step = |n, user: &UserId, is| Step { n, user: user.to_owned(), is };
        let steps = [
            step(1, a, Invited),
            step(3, a, Joined),
            step(4, b, Joined),
            step(6, a, Left),
            step(7, a, Invited),
            step(8, b, Banned),
            step(9, a, Left),
        ];
        assert_eq!(path(&steps), [(1, Invited), (3, Joined), (8, Invited), (9, Left)]);
        let mut present = Present::at(&steps, 7);
        assert_eq!(present.best(), Joined);
        present.set(b, Left);
        assert_eq!(present.best(), Invited);
        assert_eq!(Present::at(&steps, 0).best(), Left);
    }
}
