//! Events that can't be let in yet, because something before them can't be had or because one of us is still joining their
//! room. They are kept, so that a transaction is answered as soon as each of its events is in its room or here; they are tried
//! again when what they miss comes, when who sent them is back, after a start, and now and then.

mod list;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use matryx_repository::{Database, StoreError, Waiting as Row};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName,
    UInt,
};
use serde_json::value::RawValue;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use self::list::List;
use super::again;
use crate::app::App;

/// The longest text that is kept, in bytes: an event, and something beside it that is thrown away.
const LONGEST: usize = 2 * 65_536;

/// How many servers' rooms are worked on at the same time, and how many of one server.
const AT_ONCE: usize = 64;
const AT_ONCE_OF_ONE: usize = 8;

/// Whose events, and where: they are tried one after another.
pub(super) type Way = (OwnedRoomId, OwnedServerName);

/// What waits.
#[derive(Debug)]
pub(super) struct Waiting {
    list: Mutex<List>,
    news: Notify,
    places: Arc<Semaphore>,
}

/// What became of an event that was tried.
#[derive(Debug)]
pub(super) enum Tried {
    /// It waits no more.
    Done,
    /// It still waits, for these if that is known.
    Missing(Vec<OwnedEventId>),
}

/// Held by who works on a way.
struct Running {
    app: App,
    way: Way,
    _place: OwnedSemaphorePermit,
}

impl Drop for Running {
    fn drop(&mut self) {
        let waiting = &self.app.federation.inbox().0.waiting;
        let mut list = waiting.list();
        list.running.remove(&self.way);
        list.let_go(&self.app, &self.way);
        drop(list);
        // More may have come, and there is a place.
        waiting.news.notify_one();
    }
}

impl Waiting {
    /// Reads what waits. All of it is tried at once.
    pub(super) async fn open(database: &Database) -> Result<Self, StoreError> {
        let mut list = List::default();
        for row in database.waiting().await? {
            list.insert(row, MilliSecondsSinceUnixEpoch(UInt::MIN));
        }
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self { list: Mutex::new(list), news: Notify::new(), places })
    }

    pub(super) fn count(&self) -> usize {
        self.list().count
    }

    /// Keeps events that a server has sent: durable when it returns. Where too many wait, the oldest give way. Begins with them,
    /// if that is wanted; `None` if it is not, or somebody is at it, or there is no place for it. The answer tells that they
    /// have been tried.
    pub(super) async fn keep(
        &self,
        app: &App,
        way: &Way,
        texts: &[Box<RawValue>],
        at_once: bool,
    ) -> Result<Option<oneshot::Receiver<()>>, StoreError> {
        let (now, (room, origin)) = (app.clock.now(), way);
        let texts = texts.iter().map(|text| text.get()).filter(|text| text.len() <= LONGEST);
        let rows = texts.map(|text| (Row::of(room.clone(), origin.clone(), text, now), text));
        self.keep_rows(app, way, rows.collect(), at_once).await
    }

    /// Keeps a note about what a server has said: durable when it returns.
    pub(super) async fn note(&self, app: &App, way: &Way, text: &str) -> Result<(), StoreError> {
        let row = Row::note(way.0.clone(), way.1.clone(), text, app.clock.now());
        self.keep_rows(app, way, vec![(row, text)], false).await.map(drop)
    }

    /// Tries what notes tell of, if there are any about this server: what it says now may rest on that.
    pub(super) async fn notes_first(&self, app: &App, way: &Way, patience: Duration) {
        let running = {
            let mut list = self.list();
            if !list.hasten_notes(way, app.clock.now()) {
                return;
            }
            self.claim(app, &mut list, way)
        };
        if let Some(tried) = running.map(run) {
            app.clock.within(patience, tried).await;
        }
    }

    async fn keep_rows(
        &self,
        app: &App,
        way: &Way,
        rows: Vec<(Row, &str)>,
        at_once: bool,
    ) -> Result<Option<oneshot::Receiver<()>>, StoreError> {
        let (now, (room, origin)) = (app.clock.now(), way);
        app.database.keep_waiting(&rows).await?;
        let (gone, running): (Vec<Row>, _) = {
            let mut list = self.list();
            for (row, _) in rows {
                list.insert(row, now);
            }
            let gone = std::iter::from_fn(|| list.give_way(room, origin)).collect();
            (gone, if at_once { self.claim(app, &mut list, way) } else { None })
        };
        let told = running.map(run);
        self.news.notify_one();
        if !gone.is_empty() {
            tracing::info!(%room, %origin, count = gone.len(), "inbox.too_many_wait");
            app.database.end_waiting(&gone).await?;
        }
        Ok(told)
    }

    fn claim(&self, app: &App, list: &mut List, way: &Way) -> Option<Running> {
        let of_one = list.running.iter().filter(|(_, origin)| *origin == way.1).count();
        if of_one >= AT_ONCE_OF_ONE || list.running.contains(way) {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        list.running.insert(way.clone());
        Some(Running { app: app.clone(), way: way.clone(), _place: place })
    }

    /// Works until nothing of a way is due.
    async fn see_to(&self, app: &App, way: &Way) {
        loop {
            let now = app.clock.now();
            let due = self.list().due(way, now);
            if due.is_empty() {
                return;
            }
            for row in &due {
                self.list().begun(row);
            }
            let tried = match again::try_all(app, way, &due).await {
                Ok(tried) => tried,
                Err(error) => {
                    tracing::error!(%error, room = %way.0, origin = %way.1, "inbox.again");
                    Vec::new()
                }
            };
            let done = self.list().tried(app, due, tried);
            if let Err(error) = app.database.end_waiting(&done).await {
                // They are tried once more after the next start, and known then.
                tracing::error!(%error, "inbox.end_waiting");
            }
        }
    }

    /// Events of a room have come to their place: what was missing them is due.
    pub(super) fn placed(&self, app: &App, room: &RoomId, events: &[OwnedEventId]) {
        let now = app.clock.now();
        let mut any = false;
        if let Some(servers) = self.list().rooms.get_mut(room) {
            for entry in servers.values_mut().flatten() {
                if entry.next > now && events.iter().any(|id| entry.missing.contains(id)) {
                    entry.next = now;
                    any = true;
                }
            }
        }
        if any {
            self.news.notify_one();
        }
    }

    /// A server is back, or some are: what it has sent is due.
    fn back(&self, app: &App, server: Option<&ServerName>) {
        let now = app.clock.now();
        let mut list = self.list();
        for (origin, entries) in list.rooms.values_mut().flatten() {
            if server.is_none_or(|server| server == origin) {
                for entry in entries {
                    entry.next = entry.next.min(now);
                }
            }
        }
    }

    /// Sees to what waits until the server stops.
    pub(super) async fn work(&self, app: &App) {
        let mut up = app.federation.destinations().on_up();
        loop {
            let next = self.start_due(app);
            tokio::select! {
                biased;
                () = app.shutdown.cancelled() => return,
                () = self.news.notified() => {}
                () = app.entering.ended() => {}
                () = app.clock.sleep_until_any(next) => {}
                server = up.next() => self.back(app, server.as_deref()),
            }
        }
    }

    /// Starts what is due and has a place; gives the time when the next is due.
    fn start_due(&self, app: &App) -> Option<MilliSecondsSinceUnixEpoch> {
        let now = app.clock.now();
        let ways = self.list().ways();
        let (due, later): (Vec<_>, Vec<_>) = ways.into_iter().partition(|(_, next)| *next <= now);
        for (way, _) in due {
            // What comes during a join has its place after it. Whoever ends makes room, and wakes us.
            if !app.entering.is_under_way(&way.0) {
                let running = self.claim(app, &mut self.list(), &way);
                drop(running.map(run));
            }
        }
        later.into_iter().map(|(_, next)| next).min()
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works on a way, as a task of its own.
fn run(running: Running) -> oneshot::Receiver<()> {
    let (tried, told) = oneshot::channel();
    let app = running.app.clone();
    app.tasks.clone().spawn(async move {
        tokio::select! {
            biased;
            // What waits is kept, and goes on after the next start.
            () = app.shutdown.cancelled() => {}
            () = app.federation.inbox().0.waiting.see_to(&app, &running.way) => {}
        }
        drop(running);
        // Who waited may have gone.
        let _ = tried.send(());
    });
    told
}
