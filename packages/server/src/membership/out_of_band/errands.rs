//! What rooms that we are not in have still to be told or asked: durable, tried again for days, and at once when somebody
//! shows up who is in the room.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use matryx_core::event::Pdu;
use matryx_repository::{Database, Errand, StoreError, Task};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId,
};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::{
    Way, leave, undo,
    visit::{Verdict, visit},
};
use crate::{app::App, clock::later, federation::Backoff, room::SendError};

/// How long after an errand has failed it is tried again.
const WAITS: Backoff = Backoff { first: Duration::from_secs(30), longest: Duration::from_hours(6) };

/// The same for tests, which bring servers back quickly.
const SHORT_WAITS: Backoff = Backoff { first: Duration::from_millis(100), ..WAITS };

/// How long after one attempt it is tried again at the earliest, whoever shows up.
const PAUSE: Duration = Duration::from_mins(1);

/// When an errand is given up. A server that comes back later finds that the user does not answer.
const GIVEN_UP: Duration = Duration::from_hours(14 * 24);

/// How many are on their way at the same time.
const AT_ONCE: usize = 16;

/// Whose errand, and where.
type Name = (OwnedRoomId, OwnedUserId);

/// The errands that are not done. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Errands(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    list: Mutex<List>,
    news: Notify,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct List {
    waiting: BTreeMap<Name, Errand>,
    /// Which are on their way.
    running: BTreeMap<Name, OwnedEventId>,
    /// When those that are waiting were last on their way, or were begun with.
    begun: BTreeMap<Name, MilliSecondsSinceUnixEpoch>,
}

impl List {
    fn begin(&mut self, name: Name, errand: &Errand, now: MilliSecondsSinceUnixEpoch) {
        self.running.insert(name.clone(), errand.event.clone());
        self.begun.insert(name, now);
    }
}

/// An errand that comes up now.
pub(super) fn errand(app: &App, on: &Pdu, way: &Way, task: Task, wait: Duration) -> Errand {
    let now = app.clock.now();
    Errand {
        room: on.room_id().to_owned(),
        user: match on.state_key().and_then(|user| user.try_into().ok()) {
            Some(user) => user,
            None => on.sender().clone(),
        },
        task,
        event: on.event_id().clone(),
        version: way.version.clone(),
        via: way.via.clone(),
        since: now,
        next: later(now, wait),
        tries: 0,
    }
}

impl Errands {
    /// Reads what is not done yet.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn open(database: &Database) -> Result<Self, StoreError> {
        let errands = database.errands().await?.into_iter();
        let waiting =
            errands.map(|errand| ((errand.room.clone(), errand.user.clone()), errand)).collect();
        Ok(Self(Arc::new(Inner {
            list: Mutex::new(List { waiting, ..List::default() }),
            news: Notify::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        })))
    }

    /// How many are not done.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list().waiting.len()
    }

    /// A server that is in this room, or was, has shown itself: if it is one of those that lead there, what the room has to be
    /// told is told now.
    pub(super) fn resident_seen(&self, app: &App, room: &RoomId, server: &ServerName) {
        self.hasten(app, PAUSE, |errand| errand.room == room && leads(server, errand));
    }

    /// A server is back, or some are.
    fn back(&self, app: &App, server: Option<&ServerName>) {
        let which = |errand: &Errand| server.is_none_or(|server| leads(server, errand));
        self.hasten(app, Duration::ZERO, which);
    }

    /// Errands to tell something become due, if they have not been on their way within `pause`. What is asked again late is
    /// asked late, whoever shows up.
    fn hasten(&self, app: &App, pause: Duration, which: impl Fn(&Errand) -> bool) {
        let now = app.clock.now();
        let short = app.config.testing.short_federation_backoff;
        let pause = if short { pause.min(SHORT_WAITS.first) } else { pause };
        let mut any = false;
        let mut list = self.list();
        let List { waiting, begun, .. } = &mut *list;
        for (name, errand) in waiting {
            let soon = begun.get(name).map_or(now, |begun| later(*begun, pause).max(now));
            let tells = matches!(errand.task, Task::Leave { .. } | Task::Undo);
            if errand.next > soon && tells && which(errand) {
                errand.next = soon;
                any = true;
            }
        }
        drop(list);
        if any {
            self.0.news.notify_one();
        }
    }

    /// Whether the same is to be asked already.
    pub(super) fn is_asked(&self, errand: &Errand) -> bool {
        let list = self.list();
        let known = list.waiting.get(&(errand.room.clone(), errand.user.clone()));
        known.is_some_and(|known| known.event == errand.event && known.task == errand.task)
    }

    /// What is to be done for a user in a room.
    pub(super) fn get(&self, room: &RoomId, user: &UserId) -> Option<Errand> {
        self.list().waiting.get(&(room.to_owned(), user.to_owned())).cloned()
    }

    /// Drops an errand that has ended otherwise.
    pub(super) fn drop(&self, errand: &Errand) {
        let name = (errand.room.clone(), errand.user.clone());
        let mut list = self.list();
        if list.waiting.get(&name).is_some_and(|waiting| waiting.event == errand.event) {
            list.waiting.remove(&name);
        }
    }

    /// Keeps a durable errand for later.
    pub(super) fn add(&self, errand: Errand) {
        self.list().waiting.insert((errand.room.clone(), errand.user.clone()), errand);
        self.0.news.notify_one();
    }

    /// Goes on a durable errand at once, as a task of its own. The answer tells that the first attempt has ended.
    pub(super) fn begin(&self, app: &App, errand: Errand) -> oneshot::Receiver<()> {
        let name = (errand.room.clone(), errand.user.clone());
        let (ended, end) = oneshot::channel();
        {
            let mut list = self.list();
            list.waiting.insert(name.clone(), errand.clone());
            list.begin(name, &errand, app.clock.now());
        }
        let (errands, app) = (self.clone(), app.clone());
        app.tasks.clone().spawn(async move {
            errands.run_until_stopped(&app, errand, true).await;
            // Who waited may have gone.
            let _ = ended.send(());
        });
        end
    }

    /// Sees to the errands until the server stops.
    pub(crate) async fn work(self, app: App) {
        let mut up = app.federation.destinations().on_up();
        loop {
            let next = self.start_due(&app);
            tokio::select! {
                biased;
                () = app.shutdown.cancelled() => return,
                () = self.0.news.notified() => {}
                () = app.clock.sleep_until_any(next) => {}
                server = up.next() => self.back(&app, server.as_deref()),
            }
        }
    }

    /// Starts what is due and has a place; gives the time when the next one is due.
    fn start_due(&self, app: &App) -> Option<MilliSecondsSinceUnixEpoch> {
        let now = app.clock.now();
        let mut list = self.list();
        let mut due = Vec::new();
        let mut next: Option<MilliSecondsSinceUnixEpoch> = None;
        for (name, errand) in &list.waiting {
            if list.running.contains_key(name) {
                continue;
            }
            if errand.next > now {
                next = Some(next.map_or(errand.next, |next| next.min(errand.next)));
                continue;
            }
            due.push((name.clone(), errand.clone()));
        }
        for (name, errand) in due {
            // The one that ends makes room, and wakes us.
            let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() else { break };
            list.begin(name, &errand, now);
            let (errands, app) = (self.clone(), app.clone());
            app.tasks.clone().spawn(async move {
                errands.run_until_stopped(&app, errand, false).await;
                drop(place);
                errands.0.news.notify_one();
            });
        }
        next
    }

    /// A server that stops does not wait for others: the errand is kept, and goes on after the next start.
    async fn run_until_stopped(&self, app: &App, errand: Errand, first: bool) {
        tokio::select! {
            biased;
            () = app.shutdown.cancelled() => {}
            () = self.run(app, errand, first) => {}
        }
    }

    /// One attempt, and what follows of it.
    async fn run(&self, app: &App, errand: Errand, first: bool) {
        let over = match attempt(app, &errand, first).await {
            Ok(over) => over,
            Err(error) => {
                tracing::error!(%error, room = %errand.room, "errand.attempt");
                false
            }
        };
        let name = (errand.room.clone(), errand.user.clone());
        let next = (!over).then(|| put_off(app, errand.clone())).flatten();
        let written = match &next {
            Some(next) => app.database.put_off_errand(next).await,
            None => app.database.end_errand(&errand).await,
        };
        if let Err(error) = written {
            tracing::error!(%error, room = %errand.room, "errand.write");
        }
        let mut list = self.list();
        // A newer one may have taken its place, and be on its way itself.
        if list.running.get(&name).is_some_and(|event| *event == errand.event) {
            list.running.remove(&name);
        }
        if list.waiting.get(&name).is_some_and(|waiting| waiting.event == errand.event) {
            if let Some(next) = next {
                list.waiting.insert(name, next);
            } else {
                list.waiting.remove(&name);
                list.begun.remove(&name);
            }
        }
        drop(list);
        self.0.news.notify_one();
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries once. Whether that was the last time.
async fn attempt(app: &App, errand: &Errand, first: bool) -> Result<bool, SendError> {
    if errand.task == Task::Undo {
        return undo::attempt(app, errand).await;
    }
    if !is_current(app, errand).await? {
        return Ok(true);
    }
    let verdict = visit(app, errand, first).await;
    match (&errand.task, verdict) {
        (_, Verdict::Later) => Ok(false),
        (Task::AskAgain, Verdict::NotThere) => {
            let only = Some(errand.event.clone());
            leave::write(app, &errand.room, &errand.user, None, only).await?;
            Ok(true)
        }
        (_, Verdict::Done | Verdict::NotThere | Verdict::NobodyKnows) => Ok(true),
    }
}

/// Whether the user's record still is what the errand is about: whoever has been invited anew, or has joined, does not leave any
/// more.
pub(super) async fn is_current(app: &App, errand: &Errand) -> Result<bool, StoreError> {
    let standing = app.rooms.stream().standing(&errand.user).await?;
    Ok(standing.rooms.get(&errand.room).is_some_and(|mine| mine.event == errand.event))
}

/// How long after something has failed it is tried again.
pub(super) fn waits(app: &App) -> Backoff {
    if app.config.testing.short_federation_backoff { SHORT_WAITS } else { WAITS }
}

/// Whether a server leads to the room of an errand.
fn leads(server: &ServerName, errand: &Errand) -> bool {
    errand.via.iter().any(|via| via == server)
}

/// The errand as it is tried next, if it is.
fn put_off(app: &App, errand: Errand) -> Option<Errand> {
    let now = app.clock.now();
    if later(errand.since, GIVEN_UP) <= now {
        tracing::warn!(room = %errand.room, user = %errand.user, "errand.given_up");
        return None;
    }
    let tries = errand.tries.saturating_add(1);
    let wait = waits(app).after(u32::try_from(tries).unwrap_or(u32::MAX));
    Some(Errand { next: later(now, wait), tries, ..errand })
}
