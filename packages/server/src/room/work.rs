//! The corridor behind both doors, as far as it is pure: judge, settle, derive.

use std::{collections::HashSet, sync::Arc};

use imbl::HashMap;
use matryx_core::{
    event::Pdu,
    membership::Membership,
    room::{Change, Judgement, StateEntry, StateKey, StateMap},
};
use matryx_repository::{
    Alias, Append, Before, Errand, Fork, Gap, Line, Mine, NewLine, Out, Sent, Source, StoredEvent,
    Tip, TransactionKey,
};
use ruma::{OwnedEventId, OwnedUserId, ServerName, UserId, events::StateEventType};

use super::{Look, TipState, onward::out, stripped};

/// A room while a lane works on it: how it will look, and the rows that lead there.
#[derive(Debug, Clone)]
pub(super) struct Work {
    /// How the room looks if everything so far is committed.
    pub(super) look: Look,
    /// Events that stand in `look`, by key: what has been needed or said so far.
    pub(super) events: HashMap<StateKey, Arc<Pdu>>,
    /// What has been said or changed so far, by id: it is in no store yet.
    pub(super) fresh: HashMap<OwnedEventId, Arc<StoredEvent>>,
    /// The state before what has been received so far.
    pub(super) before: HashMap<OwnedEventId, StateMap>,
    /// How that is kept, where it is no point of the log.
    pub(super) forks: HashMap<OwnedEventId, Fork>,
    /// The records of local users that have been written so far.
    pub(super) mine: HashMap<OwnedUserId, Arc<Mine>>,
    /// Events of which nothing was kept before the group, not even a redaction: nobody need look for them in the store.
    pub(super) strangers: Arc<HashSet<OwnedEventId>>,
    /// Redactions of what has not come yet, by their target.
    pub(super) early: HashMap<OwnedEventId, Arc<Pdu>>,
    /// The requests that have been answered so far.
    pub(super) answered: HashMap<TransactionKey, OwnedEventId>,
}

/// What one job adds to a room.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) lines: Vec<NewLine>,
    pub(super) events: Vec<Arc<StoredEvent>>,
    pub(super) forks: Vec<Fork>,
    pub(super) mine: Vec<Mine>,
    pub(super) transactions: Vec<(TransactionKey, String)>,
    pub(super) aliases: Vec<Alias>,
    pub(super) early: Vec<(OwnedEventId, OwnedEventId)>,
    pub(super) out: Vec<Out>,
    pub(super) errands: Vec<Errand>,
    pub(super) gaps: Vec<Gap>,
    pub(super) fills: Vec<Arc<StoredEvent>>,
}

/// An event that has been judged and is about to get a line.
pub(super) struct Judged {
    pub(super) pdu: Arc<Pdu>,
    pub(super) before: Before,
    pub(super) sent: Option<Sent>,
    /// Whether it is ours to bring to other servers.
    pub(super) onward: bool,
    /// Whether it was kept before, without a place.
    pub(super) known: Option<Arc<StoredEvent>>,
    /// The extremities after it.
    pub(super) tips: Vec<TipState>,
    /// It as an extremity too, if the state after it is the room's.
    pub(super) tip: Option<Tip>,
    /// What it changes in the current state.
    pub(super) changes: Vec<Change>,
    /// Events other than itself that come to stand in the state by it.
    pub(super) arrivals: Vec<Arc<Pdu>>,
}

impl Work {
    pub(super) fn new(look: &Look) -> Self {
        Self {
            look: look.clone(),
            events: HashMap::new(),
            fresh: HashMap::new(),
            before: HashMap::new(),
            forks: HashMap::new(),
            mine: HashMap::new(),
            strangers: Arc::default(),
            early: HashMap::new(),
            answered: HashMap::new(),
        }
    }

    /// The event at a key, if it is the law's or has been needed before.
    pub(super) fn event(&self, key: &StateKey) -> Option<&Arc<Pdu>> {
        self.look.law.event(key).or_else(|| self.events.get(key))
    }

    /// What an event of ours changes: the room is one line, so it is its own key or nothing.
    pub(super) fn linear(&self, pdu: Arc<Pdu>, sent: Option<Sent>) -> Judged {
        let changes: Vec<Change> = own_change(&self.look, &pdu).into_iter().collect();
        // An event names no more than so many tips; the others stay.
        let left = |tip: &&TipState| !pdu.prev_events().contains(&tip.tip.event_id);
        let tips = self.look.tips.iter().filter(left).cloned().collect();
        Judged {
            before: Before::Log(self.look.n),
            sent,
            onward: true,
            known: None,
            tips,
            tip: Some(Tip { event_id: pdu.event_id().clone(), depth: pdu.depth() }),
            changes,
            arrivals: Vec::new(),
            pdu,
        }
    }

    /// Settles an accepted event: the look after it, and the rows that say so.
    pub(super) fn settle(&mut self, judged: Judged, server: &ServerName, rows: &mut Rows) {
        let Judged { pdu, before, sent, known, onward, tips, tip, changes, arrivals } = judged;
        let n = self.look.n + 1;
        let others = onward.then(|| self.look.others(server).cloned());
        let replaces = changes
            .iter()
            .find(|change| Some(&change.key) == pdu.key().as_ref())
            .and_then(|change| change.old.as_ref())
            .map(|old| old.event_id.clone());
        self.look.apply(&changes);
        self.look.n = n;
        self.look.tips = tips;
        if let Some(tip) = tip {
            self.look.tips.push(TipState { tip, state: self.look.state.clone() });
        }
        for change in &changes {
            self.take(change, &pdu, &arrivals);
        }
        for change in &changes {
            if let Some(mine) = self.record(change, n, server) {
                self.write(mine, rows);
            }
        }
        rows.out.extend(
            others.and_then(|others| out(&self.look, others.as_ref(), &pdu, &changes, server)),
        );
        let event = StoredEvent {
            pdu,
            n: Some(n),
            fate: Judgement::Accepted,
            before,
            replaces,
            redacted_by: known.as_ref().and_then(|known| known.redacted_by.clone()),
            sent,
        };
        let event = Arc::new(event);
        self.fresh.insert(event.pdu.event_id().clone(), Arc::clone(&event));
        rows.lines.push(NewLine { n, event, changes, outlier: known.is_some(), gap: false });
    }

    /// Follows a change with the events in hand.
    fn take(&mut self, change: &Change, pdu: &Arc<Pdu>, arrivals: &[Arc<Pdu>]) {
        let event = change.new.as_ref().and_then(|entry| {
            std::iter::once(pdu).chain(arrivals).find(|pdu| *pdu.event_id() == entry.event_id)
        });
        match event {
            Some(event) => self.events.insert(change.key.clone(), Arc::clone(event)),
            None => self.events.remove(&change.key),
        };
        self.look.law.take(&change.key, event.cloned(), &self.look.rules);
    }

    /// Writes a local user's record.
    pub(super) fn write(&mut self, mine: Mine, rows: &mut Rows) {
        self.mine.insert(mine.user.clone(), Arc::new(mine.clone()));
        rows.mine.push(mine);
    }

    /// The record of a local user whose membership a change is about.
    pub(super) fn record(&self, change: &Change, n: i64, server: &ServerName) -> Option<Mine> {
        let user = local_member(&change.key, server)?;
        let entry = change.new.as_ref().or(change.old.as_ref())?;
        let membership =
            change.new.as_ref().and_then(|entry| entry.membership).unwrap_or(Membership::Left);
        let stripped = matches!(membership, Membership::Invited | Membership::Knocking)
            .then(|| stripped::for_clients(self, &user));
        Some(Mine {
            user,
            room: self.look.room_id.clone(),
            membership,
            event: entry.event_id.clone(),
            source: Source::Room,
            n,
            pos: 0,
            stripped,
            forgotten: false,
        })
    }
}

impl Rows {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            lines,
            events,
            forks,
            mine,
            transactions,
            aliases,
            early,
            out,
            errands,
            gaps,
            fills,
        } = self;
        lines.is_empty()
            && events.is_empty()
            && forks.is_empty()
            && mine.is_empty()
            && transactions.is_empty()
            && aliases.is_empty()
            && early.is_empty()
            && out.is_empty()
            && errands.is_empty()
            && gaps.is_empty()
            && fills.is_empty()
    }

    /// The append that leads from where the room stood to where it looks now. A room without a line is not held, and has
    /// no head.
    pub(super) fn into_append(self, look: &Look, was: u64) -> Append {
        Append {
            room: look.room_id.clone(),
            head: (look.n > 0).then(|| look.head()),
            was: (was > 0).then_some(was),
            lines: self.lines,
            events: self.events,
            forks: self.forks,
            mine: self.mine,
            transactions: self.transactions,
            aliases: self.aliases,
            early: self.early,
            out: self.out,
            sets: Vec::new(),
            errands: self.errands,
            gaps: self.gaps,
            fills: self.fills,
        }
    }
}

/// The lines of an append, once its position is known.
pub(super) fn lines_at(append: &Append, pos: u64) -> Vec<Arc<Line>> {
    append
        .lines
        .iter()
        .map(|line| {
            Arc::new(Line {
                n: line.n,
                pos,
                event: Arc::clone(&line.event),
                changes: line.changes.clone(),
                gap: line.gap,
            })
        })
        .collect()
}

/// What a state event changes where the room has not forked.
fn own_change(look: &Look, pdu: &Pdu) -> Option<Change> {
    let key = pdu.key()?;
    let old = look.entry(&key).cloned();
    let new = StateEntry { event_id: pdu.event_id().clone(), membership: pdu.membership() };
    Some(Change { key, new: Some(new), old })
}

/// The user of a member key, if they are of this server.
pub(super) fn local_member(key: &StateKey, server: &ServerName) -> Option<OwnedUserId> {
    (key.kind == StateEventType::RoomMember)
        .then(|| UserId::parse(&*key.key).ok())
        .flatten()
        .filter(|user| user.server_name() == server)
}
