//! What waits for one server, in order. No IO and no clock: who asks decides when.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use matryx_repository::{Out, OutPlace};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedTransactionId, api::federation::transactions::edu::Edu,
    serde::Raw,
};
use sha2::{Digest, Sha256};

use crate::federation::inbox::{MOST_EDUS, MOST_PDUS};

/// How many EDUs wait for a server; the oldest give way. None of them is worth much later.
const EDUS_WAITING: usize = 1000;

/// How many events wait for a server that does not answer before it is far behind: then it gets the newest of each room.
const FAR: usize = 500;

/// How many wait for one that answers.
const TOO_FAR: usize = 10_000;

/// How many events of one room are kept for a server that is far behind, where they do not lead to one another.
const FORKS: usize = 20;

/// An event on its way: one value, shared by the queues of all servers that it goes to.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) place: OutPlace,
    pub(super) room: OwnedRoomId,
    pub(super) event_id: OwnedEventId,
    /// Whether all that came before it in the room leads to it.
    sole: bool,
    /// Whether it goes to servers that are not in the room and find nothing from anything: who is told that an invite is
    /// taken back.
    alone: bool,
    /// How many servers are still owed it, however it is told to them.
    owed: Arc<AtomicUsize>,
}

/// A transaction as it is sent, again and again under the same id until it is acknowledged.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: OwnedTransactionId,
    pub(super) parcels: Vec<Arc<Parcel>>,
    pub(super) edus: Vec<Raw<Edu>>,
}

/// What waits for one server.
#[derive(Debug, Default)]
pub(super) struct Queue {
    parcels: VecDeque<Arc<Parcel>>,
    edus: VecDeque<Raw<Edu>>,
    /// What was not acknowledged, and goes first.
    again: Option<Batch>,
    /// Whether a transaction has been taken of which nobody knows yet what has become.
    on_its_way: bool,
    /// Whether the last attempt failed.
    failing: bool,
    /// How many were left when the queue was thinned out last.
    thin: usize,
    /// The most events in the next transaction, where that has to be less than usual.
    narrow: Option<usize>,
}

impl Parcel {
    pub(super) fn new(out: &Out, owed: usize) -> Self {
        Self {
            place: out.place,
            room: out.room.clone(),
            event_id: out.event_id.clone(),
            sole: out.sole,
            alone: false,
            owed: Arc::new(AtomicUsize::new(owed)),
        }
    }

    /// The same event for those servers that get it alone.
    pub(super) fn alone(&self) -> Self {
        Self {
            room: self.room.clone(),
            event_id: self.event_id.clone(),
            owed: Arc::clone(&self.owed),
            alone: true,
            ..*self
        }
    }

    /// One server is not owed it any more; whether that was the last.
    pub(super) fn settle(&self) -> bool {
        self.owed.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Queue {
    /// Puts an event at the end. Returns those which the server is not owed any more, because it is far behind.
    pub(super) fn push(&mut self, parcel: Arc<Parcel>) -> Vec<Arc<Parcel>> {
        self.parcels.push_back(parcel);
        self.thin_out()
    }

    /// The newest event that waits behind the transaction that is tried.
    #[cfg(test)]
    pub(super) fn newest(&self) -> Option<OutPlace> {
        self.parcels.back().map(|parcel| parcel.place)
    }

    /// Whether a transaction has been taken of which nobody knows yet what has become.
    #[cfg(test)]
    pub(super) fn is_on_its_way(&self) -> bool {
        self.on_its_way
    }

    /// Puts an EDU at the end.
    pub(super) fn push_edu(&mut self, edu: Raw<Edu>) {
        let most = if self.failing { MOST_EDUS } else { EDUS_WAITING };
        while self.edus.len() >= most {
            self.edus.pop_front();
        }
        self.edus.push_back(edu);
    }

    /// The next transaction; `None` if nothing waits. `nonce` is no other transaction's: two that carry the same EDUs
    /// mean them twice.
    pub(super) fn take(&mut self, nonce: impl FnOnce() -> String) -> Option<Batch> {
        debug_assert!(!self.on_its_way, "one transaction at a time");
        if let Some(again) = self.again.take() {
            self.on_its_way = true;
            return Some(again);
        }
        let most = self.narrow.unwrap_or(MOST_PDUS).min(self.parcels.len());
        let parcels: Vec<_> = self.parcels.drain(..most).collect();
        let edus: Vec<_> = self.edus.drain(..self.edus.len().min(MOST_EDUS)).collect();
        if parcels.is_empty() && edus.is_empty() {
            return None;
        }
        self.on_its_way = true;
        let nonce = if edus.is_empty() { String::new() } else { nonce() };
        Some(Batch { id: name(&parcels, &nonce), parcels, edus })
    }

    /// A transaction was acknowledged.
    pub(super) fn succeeded(&mut self) {
        self.on_its_way = false;
        self.failing = false;
        self.narrow = None;
    }

    /// A transaction was not acknowledged: it is the next again. Returns what [`push`](Self::push) returns.
    pub(super) fn failed(&mut self, batch: Batch) -> Vec<Arc<Parcel>> {
        (self.on_its_way, self.failing) = (false, true);
        while self.edus.len() > MOST_EDUS {
            self.edus.pop_front();
        }
        self.again = Some(batch);
        self.thin_out()
    }

    /// The server will not take a transaction as it is: it is told less at a time. Returns what it refuses to take at all.
    pub(super) fn refused(&mut self, batch: Batch) -> Vec<Arc<Parcel>> {
        (self.on_its_way, self.failing) = (false, true);
        let Batch { parcels, edus, .. } = batch;
        if !edus.is_empty() {
            // Without the EDUs it is another transaction.
            self.put_back(parcels);
            return Vec::new();
        }
        if parcels.len() <= 1 {
            return parcels;
        }
        self.narrow = Some(parcels.len() / 2);
        self.put_back(parcels);
        Vec::new()
    }

    fn put_back(&mut self, parcels: Vec<Arc<Parcel>>) {
        for parcel in parcels.into_iter().rev() {
            self.parcels.push_front(parcel);
        }
    }

    /// If the server is far behind, keeps of each room what leads to everything else. What is to be sent again goes to
    /// pieces then, and is sent as something new.
    fn thin_out(&mut self) -> Vec<Arc<Parcel>> {
        let far = if self.failing { FAR } else { TOO_FAR };
        if self.parcels.len() <= far.max(self.thin * 2) {
            return Vec::new();
        }
        if let Some(Batch { parcels, .. }) = self.again.take() {
            self.put_back(parcels);
        }
        // By room: how many are kept, and whether what is older can be found from them.
        let mut rooms: HashMap<OwnedRoomId, (usize, bool)> = HashMap::new();
        let mut kept = VecDeque::new();
        let mut gone = Vec::new();
        let mut alone = 0;
        for parcel in std::mem::take(&mut self.parcels).into_iter().rev() {
            if parcel.alone && alone < TOO_FAR {
                alone += 1;
                kept.push_front(parcel);
                continue;
            }
            let (count, found) = rooms.entry(parcel.room.clone()).or_default();
            if *found || *count == FORKS {
                gone.push(parcel);
            } else {
                (*count, *found) = (*count + 1, parcel.sole);
                kept.push_front(parcel);
            }
        }
        self.parcels = kept;
        self.thin = self.parcels.len();
        gone
    }
}

/// A transaction's id: the same for the same content, also after a restart.
fn name(parcels: &[Arc<Parcel>], nonce: &str) -> OwnedTransactionId {
    let mut hash = Sha256::new();
    for parcel in parcels {
        hash.update(parcel.event_id.as_bytes());
        hash.update(b"\n");
    }
    hash.update(nonce);
    format!("{:x}", hash.finalize()).into()
}

#[cfg(test)]
mod tests {
    use ruma::{event_id, room_id};
    use serde_json::json;

    use super::*;

    fn parcel(room: usize, number: usize, sole: bool) -> Arc<Parcel> {
        let out = Out {
            place: OutPlace { pos: number as u64, n: 1 },
            room: format!("!{room}:x").try_into().unwrap(),
            event_id: format!("${number}").try_into().unwrap(),
            servers: None,
            also: Vec::new(),
            from: None,
            sole,
        };
        Arc::new(Parcel::new(&out, 1))
    }

    fn typing() -> Raw<Edu> {
        Raw::new(&json!({"edu_type": "m.typing", "content": {}})).unwrap().cast_unchecked()
    }

    fn ids(parcels: &[Arc<Parcel>]) -> Vec<u64> {
        parcels.iter().map(|parcel| parcel.place.pos).collect()
    }

    #[test]
    fn a_transaction_has_its_limits_and_keeps_the_order() {
        let mut queue = Queue::default();
        for number in 0..120 {
            assert!(queue.push(parcel(0, number, true)).is_empty());
        }
        for _ in 0..250 {
            queue.push_edu(typing());
        }
        let mut nonces = 0;
        let mut batches = Vec::new();
        while let Some(batch) = queue.take(|| {
            nonces += 1;
            nonces.to_string()
        }) {
            queue.succeeded();
            batches.push(batch);
        }
        let sizes: Vec<_> = batches.iter().map(|b| (b.parcels.len(), b.edus.len())).collect();
        assert_eq!(sizes, [(50, 100), (50, 100), (20, 50)]);
        let all: Vec<_> = batches.iter().flat_map(|batch| ids(&batch.parcels)).collect();
        assert_eq!(all, (0..120).collect::<Vec<_>>());
        assert_ne!(batches[0].id, batches[1].id);
    }

    #[test]
    fn what_failed_goes_first_as_it_was() {
        let mut queue = Queue::default();
        queue.push(parcel(0, 1, true));
        queue.push_edu(typing());
        let batch = queue.take(|| "1".to_owned()).unwrap();
        let id = batch.id.clone();
        queue.push(parcel(0, 2, true));
        assert!(queue.failed(batch).is_empty());
        let again = queue.take(|| "2".to_owned()).unwrap();
        assert_eq!((&again.id, ids(&again.parcels), again.edus.len()), (&id, vec![1], 1));
        queue.succeeded();
        let next = queue.take(|| "3".to_owned()).unwrap();
        assert_ne!(next.id, id);
        assert_eq!(ids(&next.parcels), [2]);
    }

    #[test]
    fn the_same_events_make_the_same_id_and_the_same_edus_do_not() {
        let first = |nonce: &str, edu: bool| {
            let mut queue = Queue::default();
            queue.push(parcel(0, 1, true));
            if edu {
                queue.push_edu(typing());
            }
            queue.take(|| nonce.to_owned()).unwrap().id
        };
        assert_eq!(first("1", false), first("2", false));
        assert_ne!(first("1", true), first("2", true));
    }

    #[test]
    fn who_is_far_behind_gets_the_newest_of_each_room() {
        let mut queue = Queue::default();
        let mut gone = Vec::new();
        for number in 0..50 {
            gone.extend(queue.push(parcel(number % 3, number, true)));
        }
        let batch = queue.take(String::new).unwrap();
        gone.extend(queue.failed(batch));
        // The last two of room 1 do not lead to one another.
        for number in 50..2000 {
            gone.extend(queue.push(parcel(number % 3, number, !matches!(number, 1996 | 1999))));
        }
        assert!(queue.parcels.len() <= FAR + 1);
        let before = gone.len();
        while gone.len() == before {
            gone.extend(queue.push(parcel(9, 5000, true)));
        }
        let batch = queue.take(String::new).unwrap();
        assert_eq!(ids(&batch.parcels), [1993, 1996, 1997, 1998, 1999, 5000]);
        assert_eq!(gone.iter().filter(|parcel| parcel.place.pos < 5000).count(), 2000 - 5);
    }

    #[test]
    fn who_is_far_behind_gets_all_that_nothing_leads_to() {
        let mut queue = Queue::default();
        let batch = Batch { id: "failed".into(), parcels: Vec::new(), edus: Vec::new() };
        queue.failed(batch);
        let mut gone = Vec::new();
        for number in 0..1000 {
            let parcel = parcel(0, number, true);
            let alone = number % 100 == 7;
            gone.extend(queue.push(if alone { Arc::new(parcel.alone()) } else { parcel }));
        }
        assert!(queue.parcels.len() <= FAR + 1);
        let waiting: Vec<u64> = queue.parcels.iter().map(|parcel| parcel.place.pos).collect();
        for number in (7..1000).step_by(100) {
            assert!(waiting.contains(&number), "{number}");
        }
        assert!(gone.iter().all(|parcel| parcel.settle()));
    }

    #[test]
    fn what_a_server_will_not_take_is_told_one_by_one_and_then_not() {
        let mut queue = Queue::default();
        for number in 0..4 {
            queue.push(parcel(0, number, true));
        }
        queue.push_edu(typing());
        let mut dropped = Vec::new();
        let mut sent = Vec::new();
        while let Some(batch) = queue.take(|| "1".to_owned()) {
            if !batch.edus.is_empty() || ids(&batch.parcels).contains(&2) {
                dropped.extend(queue.refused(batch));
            } else {
                sent.extend(ids(&batch.parcels));
                queue.succeeded();
            }
        }
        assert_eq!((ids(&dropped), sent), (vec![2], vec![0, 1, 3]));
    }

    #[test]
    fn the_last_that_is_owed_a_parcel_settles_it() {
        let out = Out {
            place: OutPlace::default(),
            room: room_id!("!r:x").to_owned(),
            event_id: event_id!("$1").to_owned(),
            servers: None,
            also: Vec::new(),
            from: None,
            sole: true,
        };
        let parcel = Parcel::new(&out, 2);
        assert!(!parcel.settle());
        assert!(parcel.settle());
    }
}
