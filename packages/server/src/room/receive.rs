//! The door for what others have said: judge an event, keep it in its place, and settle where the room forks. Its format,
//! signatures and hash are behind whoever calls: `matryx_core::event::open` holds it against them.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use matryx_core::{
    event::Pdu,
    room::{Judgement, StateKey, StateMap, difference},
};
use matryx_repository::{Before, StoreError, StoredEvent, Tip};
use ruma::{OwnedEventId, RoomId};
use tokio::sync::oneshot;

use super::{
    Look, Rooms, SendError, TipState, acl,
    judge::judge_alone,
    lane::{Ask, Job, Outcome},
    place::{Stand, after, sharing},
    work::{Judged, Rows, Work},
};

/// By whom an event is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// By a server that brings it to everybody in the room, or because we asked for it.
    Transaction,
    /// By a server that leaves it to us to bring it to everybody: we are its resident, or its sender is one of our users.
    Handshake,
}

/// What became of an event that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It has been judged. What is soft-failed is kept, and so is what is rejected for good; no client is shown either.
    Judged(Judgement),
    /// It was known already.
    Known(Judgement),
    /// These events have to be had first. Nothing is kept: the event can come again.
    Missing(Vec<OwnedEventId>),
}

/// What another server says of the state at events that we do not hold.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The state after such an event. All that stands in it is held.
    pub after: HashMap<OwnedEventId, StateMap>,
}

/// An event that comes in, and how.
struct Incoming<'a> {
    pdu: &'a Arc<Pdu>,
    door: Door,
    given: &'a Given,
    /// It as it is kept, where it came before without its place.
    known: Option<&'a Arc<StoredEvent>>,
}

impl Rooms {
    /// Lets in an event that someone else has made, or that someone else has signed as well: its signatures have been
    /// verified. See [`Received`].
    ///
    /// # Errors
    /// Why the server could not judge it.
    pub async fn receive(&self, pdu: Pdu, door: Door) -> Result<Received, SendError> {
        let room = pdu.room_id().to_owned();
        self.heard(&room, Ask::Receive(Arc::new(pdu), door)).await
    }

    /// The same for an event that follows what we do not hold: the state there is given. The event gets a line with a gap
    /// before it, and becomes an extremity beside the others.
    ///
    /// # Errors
    /// Why the server could not judge it.
    pub async fn receive_at(&self, pdu: Pdu, given: Given) -> Result<Received, SendError> {
        let room = pdu.room_id().to_owned();
        self.heard(&room, Ask::ReceiveAt(Arc::new(pdu), given)).await
    }

    /// Lets in events that other servers have made, in the order given: one append where they can share it.
    ///
    /// # Errors
    /// For each, why the server could not judge it.
    pub async fn receive_all(
        &self,
        room: &RoomId,
        pdus: Vec<Pdu>,
    ) -> Result<Vec<Result<Received, SendError>>, SendError> {
        let room = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        let (replies, results): (Vec<_>, Vec<_>) = pdus.iter().map(|_| oneshot::channel()).unzip();
        let asks = pdus.into_iter().map(|pdu| Ask::Receive(Arc::new(pdu), Door::Transaction));
        self.enqueue_all(&room, asks.zip(replies).map(|(ask, reply)| Job { ask, reply }));
        let mut received = Vec::with_capacity(results.len());
        for result in results {
            received.push(match result.await {
                Ok(Ok((Outcome::Heard(what), _))) => Ok(what),
                Ok(Ok(_)) => Err(SendError::Panicked),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(SendError::Closed),
            });
        }
        Ok(received)
    }

    async fn heard(&self, room: &RoomId, ask: Ask) -> Result<Received, SendError> {
        let room = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        match self.ask(&room, ask).await? {
            (Outcome::Heard(what), _) => Ok(what),
            _ => Err(SendError::Panicked),
        }
    }

    /// Judges an event and settles it into the room. In the lane.
    pub(super) async fn hear(
        &self,
        pdu: &Arc<Pdu>,
        door: Door,
        given: &Given,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<Received, SendError> {
        if door == Door::Handshake {
            acl::may_bring(pdu, &work.look, self.server_name())?;
        }
        let known = self.find(work, pdu.event_id()).await?;
        // What came alone before, without its place, has to be judged in its place now. If its own auth events did not
        // allow it, that is final.
        let known = match &known {
            Some(known) if known.awaits_place() => Some(known),
            Some(known) => return Ok(Received::Known(known.fate.clone())),
            None => None,
        };
        let pdu = known.map_or(pdu, |known| &known.pdu);
        let incoming = Incoming { pdu, door, given, known };
        let named = match self.named(&incoming, work).await? {
            ControlFlow::Continue(named) => named,
            ControlFlow::Break(received) => return Ok(received),
        };
        let (fate, stand) = self.fate(&incoming, &named, work).await?;
        if let Some(stand) = stand {
            self.keep_in_place(&incoming, &fate, stand, work, rows).await?;
        }
        Ok(Received::Judged(fate))
    }

    /// The events that an event names; or what has become of it already, where it has no place in the room, or none yet.
    async fn named(
        &self,
        incoming: &Incoming<'_>,
        work: &Work,
    ) -> Result<ControlFlow<Received, HashMap<OwnedEventId, Arc<StoredEvent>>>, SendError> {
        let Incoming { pdu, given, known, .. } = *incoming;
        let rejected = |why: String| Received::Judged(Judgement::Rejected(why));
        let as_known = |known: &StoredEvent| Received::Known(known.fate.clone());
        if pdu.prev_events().is_empty() {
            // Only a room's first event follows nothing. If it is ours, nothing can be before it that would have to be judged.
            let why = "it follows nothing, and is not the room's create event";
            let received = known.map_or_else(|| rejected(why.to_owned()), |known| as_known(known));
            return Ok(ControlFlow::Break(received));
        }
        let ids: BTreeSet<&OwnedEventId> =
            pdu.prev_events().iter().chain(pdu.auth_events()).collect();
        let named = self.find_all(work, ids.iter().map(|id| &***id)).await?;
        let missing = missing(pdu, &named, given);
        if let Some(known) = known
            && (!missing.is_empty() || !given.after.is_empty())
            && self.has_stood(pdu).await?
        {
            // What we hold has come after it: as an extremity it would bring back what was then.
            return Ok(ControlFlow::Break(as_known(known)));
        }
        if !missing.is_empty() {
            return Ok(ControlFlow::Break(Received::Missing(missing)));
        }
        let elsewhere = |id: &&OwnedEventId| {
            named.get(*id).is_some_and(|event| event.pdu.room_id() != work.look.room_id)
        };
        Ok(match pdu.prev_events().iter().find(elsewhere) {
            // There is no state of this room before it, so that it can't be kept either.
            Some(id) => {
                let why = format!("it follows {id}, which belongs to another room");
                ControlFlow::Break(rejected(why))
            }
            None => ControlFlow::Continue(named),
        })
    }

    /// What is to be held of an event, and where it stands if it is kept.
    async fn fate(
        &self,
        incoming: &Incoming<'_>,
        named: &HashMap<OwnedEventId, Arc<StoredEvent>>,
        work: &Work,
    ) -> Result<(Judgement, Option<Stand>), SendError> {
        let Incoming { pdu, door, given, known } = *incoming;
        let keeps_rejected = may_keep_rejected(pdu, known.map(|known| &**known), given, &work.look);
        let alone = judge_alone(pdu, named, &work.look);
        if let Err(why) = &alone
            && !keeps_rejected
        {
            // No state is read for what falls without one.
            return Ok((Judgement::Rejected(why.clone()), None));
        }
        let stand = self.state_before(pdu, given, work).await?;
        let fate = match alone {
            Ok(()) => self.judge_in_place(pdu, &stand.state, given, work).await?,
            Err(why) => Judgement::Rejected(why),
        };
        let kept = match fate {
            Judgement::Accepted => true,
            // Whoever hands it in is told, and nobody else has it: there is nothing to keep.
            _ if door == Door::Handshake => false,
            Judgement::SoftFailed(_) => true,
            Judgement::Rejected(_) => keeps_rejected,
        };
        Ok((fate, kept.then_some(stand)))
    }

    /// Keeps an event in its place: with a line if it is accepted, else so that what follows it can be judged.
    async fn keep_in_place(
        &self,
        incoming: &Incoming<'_>,
        fate: &Judgement,
        stand: Stand,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<(), SendError> {
        let Incoming { pdu, door, given, known } = *incoming;
        let (before, fork) = self.place(pdu, &stand, work).await?;
        let Stand { state, .. } = stand;
        if let Some(fork) = fork {
            work.forks.insert(pdu.event_id().clone(), fork.clone());
            rows.forks.push(fork);
        }
        work.before.insert(pdu.event_id().clone(), state.clone());
        if *fate != Judgement::Accepted {
            let mut event = StoredEvent::received(pdu, fate.clone(), before);
            event.redacted_by = known.and_then(|known| known.redacted_by.clone());
            let event = Arc::new(event);
            work.fresh.insert(pdu.event_id().clone(), Arc::clone(&event));
            rows.events.push(event);
            return Ok(());
        }
        self.apply_redaction(pdu, work, rows).await?;
        let mut judged = self.settle_fork(pdu, before, state, work).await?;
        judged.onward = door == Door::Handshake;
        judged.known = known.cloned();
        work.settle(judged, self.server_name(), rows);
        if !given.after.is_empty() {
            self.mark_gap(pdu, work, rows).await?;
        }
        if let Some(redaction) = self.early_redaction(pdu.event_id(), work).await? {
            self.apply_redaction(&redaction, work, rows).await?;
        }
        Ok(())
    }

    /// Whether an event stands in the room's state, or has stood in it.
    async fn has_stood(&self, pdu: &Pdu) -> Result<bool, StoreError> {
        let Some(key) = pdu.key() else { return Ok(false) };
        let versions = self.database().versions(pdu.room_id(), &key).await?;
        let mut entries = versions.iter().filter_map(|version| version.entry.as_ref());
        Ok(entries.any(|entry| entry.event_id == *pdu.event_id()))
    }

    /// What an accepted event makes of the extremities and of the current state.
    async fn settle_fork(
        &self,
        pdu: &Arc<Pdu>,
        before: Before,
        state: StateMap,
        work: &Work,
    ) -> Result<Judged, SendError> {
        let own = StoredEvent::received(pdu, Judgement::Accepted, before);
        let state = after(&sharing(&work.look.state, &state), Some(&own));
        let tip = Tip { event_id: pdu.event_id().clone(), depth: pdu.depth() };
        let mut tips: Vec<TipState> = work
            .look
            .tips
            .iter()
            .filter(|tip| !pdu.prev_events().contains(&tip.tip.event_id))
            .cloned()
            .collect();
        tips.push(TipState { tip, state });
        let forks = tips.iter().map(|tip| tip.state.clone()).collect();
        let mut with_own = work.clone();
        with_own.fresh.insert(pdu.event_id().clone(), Arc::new(own));
        let current = self.resolved(forks, &with_own).await?;
        let changes = difference(&work.look.state, &current);
        let ids = changes.iter().filter_map(|change| Some(&*change.new.as_ref()?.event_id));
        let arrivals = self.find_all(&with_own, ids).await?;
        Ok(Judged {
            pdu: Arc::clone(pdu),
            before,
            sent: None,
            onward: false,
            known: None,
            tips,
            tip: None,
            changes,
            arrivals: arrivals.into_values().map(|event| Arc::clone(&event.pdu)).collect(),
        })
    }
}

/// Whether the rejection of an event may be kept, which makes it final. What other servers tell of a state makes nothing final,
/// nor does it take away what has been accepted for what it allows: others rest on that. And servers that have never been in the
/// room leave nothing behind in it.
fn may_keep_rejected(pdu: &Pdu, known: Option<&StoredEvent>, given: &Given, look: &Look) -> bool {
    let sender = pdu.sender();
    let has_been_here = || {
        look.servers.contains_key(sender.server_name())
            || look.entry(&StateKey::member(sender)).is_some()
    };
    given.after.is_empty() && !known.is_some_and(StoredEvent::is_judged) && has_been_here()
}

/// What has to be had before an event can be judged: predecessors with their state, and auth events.
fn missing(
    pdu: &Pdu,
    found: &HashMap<OwnedEventId, Arc<StoredEvent>>,
    given: &Given,
) -> Vec<OwnedEventId> {
    let has_place =
        |id: &OwnedEventId| found.get(id).is_some_and(|event| event.before != Before::Unknown);
    let prev =
        pdu.prev_events().iter().filter(|id| !has_place(id) && !given.after.contains_key(*id));
    let auth = pdu.auth_events().iter().filter(|id| !found.contains_key(*id));
    let all: BTreeSet<&OwnedEventId> = prev.chain(auth).collect();
    all.into_iter().cloned().collect()
}
