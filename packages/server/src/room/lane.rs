//! The lane of a room: the one place where it changes. What has queued up is worked through in order, each job seeing
//! the room as the one before it leaves it, and is committed together.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use futures::FutureExt;
use matryx_core::{
    event::{Draft, Pdu, Place, seal},
    refusal::{Refusal, RefusalKind},
    room::{StateKey, StateMap, auth_keys, judge_by_auth_events, judge_by_state},
};
use matryx_repository::{StoreError, TransactionKey};
use ruma::{EventId, OwnedEventId, events::StateEventType};
use serde_json::value::to_raw_value;
use tokio::sync::oneshot;

use super::{
    Aside, Changes, Desk, Door, Intent, Prepared, Proposal, Received, Room, Rooms, Said, SendError,
    committer::{Group, Pending},
    fill::Filling,
    import::Ready,
    receive::Given,
    stripped,
    work::{Rows, Work},
};

/// How many jobs are committed together at most.
const TOGETHER: usize = 64;

/// Something that waits for a room's lane.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) reply: oneshot::Sender<Result<(Outcome, u64), SendError>>,
}

/// What is asked of a lane, by which door.
pub(super) enum Ask {
    /// We say something.
    Send(Intent),
    /// Someone else has said something.
    Receive(Arc<Pdu>, Door),
    /// We are about to say something, which others must agree to first.
    Prepare(Intent),
    /// What one of our users is to the room changes beside it.
    Aside(Aside),
    /// A room that is held elsewhere is held here from now on.
    Import(Box<Ready>),
    /// Someone else has said something after what we do not hold.
    ReceiveAt(Arc<Pdu>, Given),
    /// These are kept without their place.
    Learn(Vec<Arc<Pdu>>),
    /// This stood in the state already when one of us joined.
    Amend(StateMap),
    /// These fill a gap.
    Fill(Filling),
    /// What imports have left behind goes.
    Clear,
    /// Nothing: it panics.
    #[cfg(test)]
    Panic,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Send(_) => f.write_str("Send"),
            Self::Receive(pdu, door) => write!(f, "Receive({}, {door:?})", pdu.event_id()),
            Self::Prepare(_) => f.write_str("Prepare"),
            Self::Aside(aside) => write!(f, "Aside({})", aside.user),
            Self::Import(_) => f.write_str("Import"),
            Self::ReceiveAt(pdu, _) => write!(f, "ReceiveAt({})", pdu.event_id()),
            Self::Learn(pdus) => write!(f, "Learn({})", pdus.len()),
            Self::Amend(state) => write!(f, "Amend({})", state.len()),
            Self::Fill(filling) => write!(f, "Fill({}, {})", filling.n, filling.events.len()),
            Self::Clear => f.write_str("Clear"),
            #[cfg(test)]
            Self::Panic => f.write_str("Panic"),
        }
    }
}

/// What became of what was asked.
#[derive(Debug)]
pub(super) enum Outcome {
    /// These events say it.
    Said(Vec<OwnedEventId>),
    /// This was judged of the event.
    Heard(Received),
    /// The room is held here, and users of ours are in it.
    Held,
    /// This would be said.
    Prepared(Box<Prepared>),
    /// What could be judged is kept.
    Learned,
    /// So many events stand in a gap that did not before.
    Filled(u32),
    /// It is gone.
    Cleared,
}

impl Rooms {
    /// Puts a job into a room's queue, and sees to it that somebody works on it.
    pub(super) fn enqueue(&self, room: &Arc<Room>, job: Job) {
        self.enqueue_all(room, std::iter::once(job));
    }

    /// Puts jobs into a room's queue, one behind the other.
    pub(super) fn enqueue_all(&self, room: &Arc<Room>, jobs: impl Iterator<Item = Job>) {
        let mut queue = room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.extend(jobs);
        if !queue.draining && !queue.jobs.is_empty() {
            queue.draining = true;
            tokio::spawn(self.clone().drain(Arc::clone(room)));
        }
    }

    /// Works until the queue is empty. A room has one such task at most.
    async fn drain(self, room: Arc<Room>) {
        loop {
            let jobs: Vec<Job> = {
                let mut queue = room.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.jobs.is_empty() {
                    queue.draining = false;
                    return;
                }
                let count = queue.jobs.len().min(TOGETHER);
                queue.jobs.drain(..count).collect()
            };
            let done = AssertUnwindSafe(self.work_through(&room, jobs)).catch_unwind().await;
            // Where even that panics, those who wait are told that nobody answers them, and the next have their turn.
            let Ok(Err((jobs, _))) = done else { continue };
            // Something in the group could not be written. Alone, each job learns its own fate.
            for job in jobs {
                if let Err((jobs, error)) = self.work_through(&room, vec![job]).await {
                    self.look_again(&room).await;
                    self.give_up(jobs, error).await;
                }
            }
        }
    }

    /// Runs the jobs one after another, commits what they lead to as one group, and answers.
    ///
    /// # Errors
    /// The jobs unanswered, if the group could not be written: none of it has happened then.
    async fn work_through(
        &self,
        room: &Arc<Room>,
        jobs: Vec<Job>,
    ) -> Result<(), (Vec<Job>, StoreError)> {
        let start = room.look();
        let mut work = Work::new(&start);
        if let Err(error) = self.foresee(&jobs, &mut work).await {
            return Err((jobs, error));
        }
        let mut pending = Vec::new();
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let mut next = work.clone();
            let mut rows = Rows::default();
            let run = AssertUnwindSafe(self.run(&job.ask, &mut next, &mut rows)).catch_unwind();
            let outcome = run.await.unwrap_or_else(|_| {
                tracing::error!(room = %room.id, ask = ?job.ask, "room.panicked");
                Err(SendError::Panicked)
            });
            if outcome.is_ok() {
                if !rows.is_empty() {
                    let append = rows.into_append(&next.look, start.pos);
                    pending.push(Pending { append, look: next.look.clone() });
                }
                work = next;
            }
            outcomes.push(outcome);
        }
        // Also what changes nothing waits for the commit: it may have seen what is only about to be durable.
        let pos = if pending.is_empty() {
            start.pos
        } else {
            match self.commit(Group { room: Arc::clone(room), pending }).await {
                Ok(pos) => pos,
                Err(error) => return Err((jobs, error)),
            }
        };
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            // Who has hung up is not told.
            drop(job.reply.send(outcome.map(|outcome| (outcome, pos))));
        }
        Ok(())
    }

    /// If the store has gone on without us, so do we: nothing could be written on the old look ever again.
    async fn look_again(&self, room: &Room) {
        let look = match self.database().head(&room.id).await {
            Ok(Some(head)) if head.pos != room.look().pos => self.load(head).await,
            _ => return,
        };
        match look {
            Ok(look) => room.replace(look),
            Err(error) => tracing::error!(%error, room = %room.id, "room.reload"),
        }
    }

    /// A job's rows could not be written, alone as well.
    async fn give_up(&self, jobs: Vec<Job>, error: StoreError) {
        let error = Arc::new(error);
        for job in jobs {
            // A transaction id is unique by its record id: the row of an earlier request, forgotten in memory, is
            // what most likely stood in the way.
            let earlier = match &job.ask {
                Ask::Send(Intent { transaction: Some(key), .. }) => {
                    self.database().transaction(key).await.ok().flatten()
                }
                _ => None,
            };
            let answer = if let Some(event) = earlier.and_then(|id| EventId::parse(id).ok()) {
                Ok((Outcome::Said(vec![event]), self.published()))
            } else {
                // What is taken is told to whoever asked for it; everything else is the operator's to know.
                match &*error {
                    StoreError::Exists => tracing::debug!(%error, "room.commit"),
                    error => tracing::error!(%error, "room.commit"),
                }
                Err(SendError::Store(Arc::clone(&error)))
            };
            drop(job.reply.send(answer));
        }
    }

    async fn run(&self, ask: &Ask, work: &mut Work, rows: &mut Rows) -> Result<Outcome, SendError> {
        match ask {
            Ask::Send(intent) => self.intend(intent, work, rows).await.map(Outcome::Said),
            Ask::Prepare(intent) => self.prepare_in(intent, work).await,
            Ask::Aside(aside) => self.set_aside(aside, work, rows).await.map(Outcome::Said),
            Ask::Import(ready) => self.adopt(ready, work, rows).await,
            Ask::Receive(pdu, door) => {
                self.hear(pdu, *door, &Given::default(), work, rows).await.map(Outcome::Heard)
            }
            Ask::ReceiveAt(pdu, given) => {
                self.hear(pdu, Door::Transaction, given, work, rows).await.map(Outcome::Heard)
            }
            Ask::Learn(pdus) => self.take_in(pdus, work, rows).await.map(|()| Outcome::Learned),
            Ask::Amend(state) => self.amend_in(state, work, rows).await,
            Ask::Fill(filling) => self.take_fills(filling, work, rows).await.map(Outcome::Filled),
            Ask::Clear => Ok(self.clear_in(work).await.map(|()| Outcome::Cleared)?),
            #[cfg(test)]
            Ask::Panic => panic!("as the test wants"),
        }
    }

    async fn intend(
        &self,
        intent: &Intent,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<Vec<OwnedEventId>, SendError> {
        if let Some(key) = &intent.transaction
            && let Some(event) = work.answered.get(key).cloned().or_else(|| self.answered(key))
        {
            return Ok(vec![event]);
        }
        self.fetch(work, &intent.needs).await?;
        match propose(intent, work)? {
            Proposal::Unchanged(event) => Ok(vec![event]),
            Proposal::Change(changes) => {
                self.change(changes, intent.transaction.as_ref(), work, rows).await
            }
        }
    }

    async fn change(
        &self,
        changes: Changes,
        transaction: Option<&TransactionKey>,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<Vec<OwnedEventId>, SendError> {
        let mut events = Vec::with_capacity(changes.say.len());
        for said in changes.say {
            let pdu = match said {
                Said::Draft(draft) => Arc::new(self.seal(draft, work).await?),
                Said::Sealed(pdu) => Arc::new(pdu),
            };
            judge(&pdu, work)?;
            self.fetch(work, &stripped::needed(&work.look, &pdu)).await?;
            events.push(pdu.event_id().clone());
            self.apply_redaction(&pdu, work, rows).await?;
            let judged = work.linear(pdu, transaction.map(|key| key.sent.clone()));
            work.settle(judged, self.server_name(), rows);
        }
        if let (Some(key), [event, ..]) = (transaction, events.as_slice()) {
            rows.transactions.push((key.clone(), event.to_string()));
            work.answered.insert(key.clone(), event.clone());
        }
        rows.aliases.extend(changes.aliases);
        Ok(events)
    }

    /// Makes an event of a draft: chooses its auth events and predecessors, hashes, signs and names it.
    pub(super) async fn seal(&self, draft: Draft, work: &mut Work) -> Result<Pdu, SendError> {
        let content = to_raw_value(&draft.content).map_err(|error| bad_json(&error.to_string()))?;
        let keys = auth_keys(
            &draft.kind,
            &draft.sender,
            draft.state_key.as_deref(),
            &content,
            &work.look.rules,
        )
        .map_err(|why| bad_json(&why))?;
        self.fetch(work, &keys).await?;
        let look = &work.look;
        let auth_events =
            keys.iter().filter_map(|key| Some(look.entry(key)?.event_id.clone())).collect();
        let (prev_events, depth) = look.prev_events();
        let place = Place {
            room_id: Some(look.room_id.clone()),
            prev_events,
            auth_events,
            depth,
            origin_server_ts: self.clock().now(),
        };
        Ok(seal(draft, place, self.server_name(), self.key(), &look.rules)?)
    }

    /// Brings the events at these keys to hand.
    pub(super) async fn fetch(&self, work: &mut Work, keys: &[StateKey]) -> Result<(), StoreError> {
        let missing: Vec<&StateKey> = keys.iter().filter(|key| work.event(key).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // What this group has said is in no store yet; it is among `work.events` already.
        for (key, event) in self.events().state(&work.look, missing).await? {
            work.events.insert(key, event);
        }
        Ok(())
    }
}

/// Lets an intent decide.
pub(super) fn propose(intent: &Intent, work: &Work) -> Result<Proposal, SendError> {
    let desk = Desk { look: &work.look, events: &work.events };
    let proposal = catch_unwind(AssertUnwindSafe(|| (intent.decide)(&desk)));
    Ok(proposal.map_err(|_| SendError::Panicked)??)
}

/// Holds an event of ours against the room's current state, which is also the state before it.
pub(super) fn judge(pdu: &Arc<Pdu>, work: &Work) -> Result<(), SendError> {
    let rules = &work.look.rules;
    let standing = |id: &EventId| {
        let found = work.events.values().find(|event| event.event_id() == id);
        found.or_else(|| {
            let law = &work.look.law;
            [&law.create, &law.power_levels, &law.join_rules]
                .into_iter()
                .flatten()
                .find(|event| event.event_id() == id)
        })
    };
    let state =
        |kind: &StateEventType, key: &str| work.event(&StateKey::new(kind.clone(), key)).cloned();
    judge_by_auth_events(pdu, rules, &|id: &EventId| standing(id).cloned())
        .and_then(|()| judge_by_state(pdu, rules, &state))
        .map_err(|why| Refusal { kind: RefusalKind::Forbidden, sentence: why }.into())
}

fn bad_json(why: &str) -> SendError {
    Refusal { kind: RefusalKind::BadJson, sentence: why.to_owned() }.into()
}
