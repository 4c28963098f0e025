//! Joining a room through a server that is in it.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>
//!
//! Candidates are asked for a template a few seconds apart, so that one that hangs holds nobody up. The first template is
//! sealed and sent; what comes back is read as it comes, verified on all cores, judged and imported. Where that fails, the
//! next candidate has its turn. Who asks for the same join meanwhile waits for the one that runs, and hanging up does not
//! stop it.

mod answer;
mod attempt;
mod candidates;
mod failures;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared},
    stream::FuturesUnordered,
};
use matryx_core::refusal::Refusal;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId,
};
use tokio::sync::{Notify, oneshot};

use self::{attempt::Offer, failures::Failures};
use super::join::{Locally, locally};
use crate::{app::App, room::SendError};

/// How long one candidate is waited for before the next one is asked as well.
const STAGGER: Duration = Duration::from_secs(3);

type Joining = Shared<BoxFuture<'static, Result<OwnedEventId, SendError>>>;

/// The joins that are under way. Cheap to clone.
#[derive(Clone, Default)]
pub struct Entering(Arc<Parts>);

#[derive(Default)]
struct Parts {
    running: Mutex<HashMap<(OwnedRoomId, OwnedUserId), Joining>>,
    /// Held while somebody joins a room: the second one may find that we are in it then.
    rooms: Mutex<HashMap<OwnedRoomId, Weak<tokio::sync::Mutex<()>>>>,
    ended: Notify,
}

/// Who wants to join what, and what they say.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) room: OwnedRoomId,
    pub(super) user: OwnedUserId,
    /// The member event's content as far as the client gives it, cleaned.
    pub(super) content: CanonicalJsonObject,
    /// Servers that are said to be in the room, the likeliest first.
    pub(super) via: Vec<OwnedServerName>,
}

impl Entering {
    /// Waits until nobody joins this room through another server: events of it that came meanwhile have their place then.
    pub async fn settled(&self, room: &RoomId) {
        let lock = {
            let rooms = self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.get(room).and_then(Weak::upgrade)
        };
        if let Some(lock) = lock {
            drop(lock.lock().await);
        }
    }

    /// Whether this user's join of a room is under way.
    pub(super) fn is_running(&self, room: &RoomId, user: &UserId) -> bool {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.contains_key(&(room.to_owned(), user.to_owned()))
    }

    /// Whether somebody joins this room through another server.
    #[must_use]
    pub fn is_under_way(&self, room: &RoomId) -> bool {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.keys().any(|(joined, _)| joined == room)
    }

    /// How many requests wait for a join of this room.
    #[must_use]
    pub fn waiting_for(&self, room: &RoomId) -> usize {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let of_room = running.iter().filter(|((joined, _), _)| joined == room);
        // One more holds it than waits for it: the list itself.
        of_room.map(|(_, joining)| joining.strong_count().map_or(0, |count| count - 1)).sum()
    }

    /// Waits until a join has ended. There is one who waits for that: what came meanwhile has its place then.
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }

    fn lock_of(&self, room: &RoomId) -> Arc<tokio::sync::Mutex<()>> {
        let mut rooms = self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = rooms.get(room).and_then(Weak::upgrade) {
            return lock;
        }
        rooms.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::<tokio::sync::Mutex<()>>::default();
        rooms.insert(room.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

impl std::fmt::Debug for Entering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entering")
    }
}

/// Joins a room through another server, or attaches to the join that is under way.
///
/// # Errors
/// What the candidates answered, one after another.
pub(super) async fn enter(app: &App, wish: Wish) -> Result<OwnedEventId, SendError> {
    let key = (wish.room.clone(), wish.user.clone());
    let joining = {
        let mut running = app.entering.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joining) = running.get(&key) {
            joining.clone()
        } else {
            let (reply, result) = oneshot::channel();
            let joining = result.map(|result| result.unwrap_or(Err(SendError::Closed)));
            let joining = joining.boxed().shared();
            running.insert(key.clone(), joining.clone());
            let app = app.clone();
            app.tasks.clone().spawn(async move {
                let result = tokio::select! {
                    biased;
                    () = app.shutdown.cancelled() => Err(SendError::Closed),
                    result = in_turn(&app, &wish) => result,
                };
                let mut running =
                    app.entering.0.running.lock().unwrap_or_else(PoisonError::into_inner);
                running.remove(&key);
                app.entering.0.ended.notify_one();
                // Who has hung up is not told.
                drop(reply.send(result));
            });
            joining
        }
    };
    joining.await
}

/// One join of a room after another: whoever comes second may not need another server any more.
async fn in_turn(app: &App, wish: &Wish) -> Result<OwnedEventId, SendError> {
    let lock = app.entering.lock_of(&wish.room);
    let _turn = lock.lock().await;
    match locally(app, &wish.room, &wish.user, &wish.content).await? {
        Locally::Joined(event) => Ok(event),
        Locally::Elsewhere(refusal) => through_others(app, wish, refusal).await,
    }
}

async fn through_others(
    app: &App,
    wish: &Wish,
    refusal: Option<Refusal>,
) -> Result<OwnedEventId, SendError> {
    let mut failures = Failures::new(&wish.room, refusal);
    let mut waiting: VecDeque<OwnedServerName> = candidates::of(app, wish).await?.into();
    let mut asked = FuturesUnordered::new();
    let mut again = true;
    loop {
        if asked.is_empty() {
            let Some(server) = waiting.pop_front() else { return Err(failures.told()) };
            asked.push(attempt::ask(app, wish, server));
        }
        let offer = tokio::select! {
            biased;
            Some(offer) = asked.next() => offer,
            () = app.clock.sleep(STAGGER), if !waiting.is_empty() => {
                asked.extend(waiting.pop_front().map(|server| attempt::ask(app, wish, server)));
                continue;
            }
        };
        match offer {
            Err(failure) => failures.add(failure),
            Ok(offer) => match accept(app, wish, offer, &mut failures).await? {
                Accepted::Joined(event) => return Ok(event),
                // The answer was lost, not refused: they may think that the user has joined.
                Accepted::Lost(server) if again => {
                    again = false;
                    waiting.push_back(server);
                }
                Accepted::Lost(_) | Accepted::No => {}
            },
        }
        // Nobody is waited for in the place of one who said no.
        asked.extend(waiting.pop_front().map(|server| attempt::ask(app, wish, server)));
    }
}

/// What became of an offer.
enum Accepted {
    Joined(OwnedEventId),
    Lost(OwnedServerName),
    No,
}

async fn accept(
    app: &App,
    wish: &Wish,
    offer: Offer,
    failures: &mut Failures,
) -> Result<Accepted, SendError> {
    let server = offer.server.clone();
    match attempt::take(app, wish, offer).await {
        Ok(event) => Ok(Accepted::Joined(event)),
        Err(attempt::Undone::Ours(error)) => Err(error),
        Err(attempt::Undone::Theirs(failure)) => {
            let lost = failure.is_lost();
            failures.add(failure);
            Ok(if lost { Accepted::Lost(server) } else { Accepted::No })
        }
    }
}
