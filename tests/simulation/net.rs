//! The network between simulated servers: who reaches whom, and what happens on the way.
//!
//! Nothing crosses it by itself. Requests and answers lie in it until the world hands one of them over.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use matryx_server::federation::{Transport, TransportError};
use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{runtime::Handle, sync::oneshot};
use tower::ServiceExt;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// It never arrives.
    Lose,
    /// It arrives, and its answer gets lost.
    LoseAnswer,
    /// It arrives twice.
    Double,
    /// It is on its way until the script lets it arrive; what is sent later overtakes it.
    Hold,
}

/// The network. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Net(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Servers that are up: what answers, and where it runs.
    up: BTreeMap<OwnedServerName, (Router, Handle)>,
    /// Pairs that don't reach each other.
    cut: BTreeSet<(OwnedServerName, OwnedServerName)>,
    /// What happens to the next requests from one server to another.
    faults: BTreeMap<(OwnedServerName, OwnedServerName), VecDeque<Fault>>,
    /// What is on its way.
    moving: Vec<Parcel>,
    held: Vec<Parcel>,
    /// What has been handed over, a line each.
    log: Vec<String>,
    /// The transactions that servers have sent, by who sent them to whom.
    sent: Transactions,
    /// Those that were taken.
    arrived: Transactions,
    /// The events that servers have let in for others, and so bring to everybody: who, and the event's id.
    vouched: BTreeSet<(OwnedServerName, String)>,
}

/// Transactions, by who sent them to whom.
pub type Transactions = BTreeMap<(OwnedServerName, OwnedServerName), Vec<Value>>;

type Answered = Result<Response<Body>, TransportError>;

/// What crosses the network.
#[derive(Debug)]
enum Parcel {
    Request { to: OwnedServerName, request: Request<Bytes>, back: Back },
    Answer { answered: Answered, back: Back, taken: bool },
}

/// Who waits for an answer. A request whose server dies over it is answered by that.
#[derive(Debug)]
struct Back {
    net: Net,
    from: OwnedServerName,
    to: OwnedServerName,
    /// It gets lost on the way back.
    lost: bool,
    /// Who asks should be refused.
    denied: bool,
    waits: Option<oneshot::Sender<Answered>>,
}

/// One server's way to the others.
#[derive(Debug)]
pub struct Way {
    pub net: Net,
    pub from: OwnedServerName,
}

impl Net {
    pub fn connect(&self, server: &ServerName, router: Router, runs: Handle) {
        self.state().up.insert(server.to_owned(), (router, runs));
    }

    pub fn disconnect(&self, server: &ServerName) {
        self.state().up.remove(server);
    }

    pub fn cut(&self, a: &ServerName, b: &ServerName) {
        self.state().cut.extend([(a.to_owned(), b.to_owned()), (b.to_owned(), a.to_owned())]);
    }

    pub fn mend(&self, a: &ServerName, b: &ServerName) {
        let mut state = self.state();
        state.cut.remove(&(a.to_owned(), b.to_owned()));
        state.cut.remove(&(b.to_owned(), a.to_owned()));
    }

    /// What happens to the next `count` requests.
    pub fn fault(&self, from: &ServerName, to: &ServerName, fault: Fault, count: usize) {
        let mut state = self.state();
        let faults = state.faults.entry((from.to_owned(), to.to_owned())).or_default();
        faults.extend(std::iter::repeat_n(fault, count));
    }

    /// Lets what is held back go on.
    pub fn release(&self) {
        let mut state = self.state();
        let held = mem::take(&mut state.held);
        state.moving.extend(held);
    }

    /// A network without faults.
    pub fn heal(&self) {
        {
            let mut state = self.state();
            state.cut.clear();
            state.faults.clear();
        }
        self.release();
    }

    /// How much is on its way.
    pub fn moving(&self) -> usize {
        self.state().moving.len()
    }

    /// What has been handed over so far, a line each.
    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Hands over one of the things that are on their way: the server that has something to do now.
    pub fn hand_over(&self, which: usize) -> OwnedServerName {
        let parcel = self.state().moving.swap_remove(which);
        match parcel {
            Parcel::Request { to, request, back } => {
                let (method, uri) = (request.method(), request.uri());
                let body = String::from_utf8_lossy(request.body());
                self.note(&format!("{} > {to} {method} {uri} {body}", back.from));
                let up = self.state().up.get(&to).cloned();
                if let Some((router, runs)) = up {
                    runs.spawn(answer(router, request, back));
                }
                to
            }
            Parcel::Answer { answered, mut back, .. } => {
                let status = answered.as_ref().map_or(0, |response| response.status().as_u16());
                self.note(&format!("{} < {status}", back.from));
                if let Some(waits) = back.waits.take() {
                    // Who has stopped waiting is gone.
                    let _ = waits.send(answered);
                }
                back.from.clone()
            }
        }
    }

    /// Remembers that the one who asks should be refused.
    pub fn mark(&self, which: usize) {
        if let Some(Parcel::Request { back, .. }) = self.state().moving.get_mut(which) {
            back.denied = true;
        }
    }

    /// Who has taken something of whom they should have refused, if that is what one of the things on their way says.
    pub fn taken(&self, which: usize) -> Option<(OwnedServerName, OwnedServerName)> {
        match self.state().moving.get(which)? {
            Parcel::Answer { back, taken: true, .. } => Some((back.to.clone(), back.from.clone())),
            _ => None,
        }
    }

    /// From whom to whom a request goes, if that is what one of the things on their way is.
    pub fn asks(&self, which: usize) -> Option<(OwnedServerName, OwnedServerName)> {
        match self.state().moving.get(which)? {
            Parcel::Request { to, back, .. } => Some((back.from.clone(), to.clone())),
            Parcel::Answer { .. } => None,
        }
    }

    /// The transactions that servers have sent.
    pub fn sent(&self) -> Transactions {
        self.state().sent.clone()
    }

    /// The transactions that servers have taken.
    pub fn arrived(&self) -> Transactions {
        self.state().arrived.clone()
    }

    /// The events that a server has let in for others by a handshake.
    pub fn vouched(&self, server: &ServerName) -> BTreeSet<String> {
        let state = self.state();
        let of = state.vouched.iter().filter(|(by, _)| by == server);
        of.map(|(_, event)| event.clone()).collect()
    }

    fn note(&self, line: &str) {
        self.state().log.push(line.to_owned());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the network is held")
    }
}

/// Answers a request, whoever still waits for that.
async fn answer(router: Router, request: Request<Bytes>, back: Back) {
    let path = request.uri().path().to_owned();
    let asked = serde_json::from_slice(request.body()).unwrap_or_default();
    let Ok(response) = router.oneshot(request.map(Body::from)).await;
    let (parts, body) = response.into_parts();
    let whole = body.collect().await.expect("a body").to_bytes();
    let taken = parts.status.is_success() && is_taken(&path, &whole);
    if parts.status.is_success() && path.contains("/send/") {
        let way = (back.from.clone(), back.to.clone());
        back.net.state().arrived.entry(way).or_default().push(asked);
    }
    if taken && is_handshake(&path) {
        let event = path.rsplit('/').next().unwrap_or_default().replace("%24", "$");
        back.net.state().vouched.insert((back.to.clone(), event));
    }
    back.bring(Ok(Response::from_parts(parts, Body::from(whole))), taken);
}

/// Whether a successful answer says that an event of the other server's has been let in.
fn is_taken(path: &str, answer: &[u8]) -> bool {
    if path.contains("/send/") {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let mut pdus = answer["pdus"].as_object().into_iter().flat_map(|pdus| pdus.values());
        return pdus.any(|outcome| outcome["error"].is_null());
    }
    is_handshake(path)
}

/// Whether somebody asks for an event to be let in and brought to everybody.
fn is_handshake(path: &str) -> bool {
    ["/send_join/", "/send_knock/", "/send_leave/"].iter().any(|door| path.contains(door))
}

impl Back {
    fn bring(mut self, answered: Answered, taken: bool) {
        self.leave(answered, taken);
    }

    fn leave(&mut self, answered: Answered, taken: bool) {
        let Some(waits) = self.waits.take() else { return };
        let lost = Err(TransportError::TimedOut("the answer"));
        let answered = if self.lost { lost } else { answered };
        let (net, from, to) = (self.net.clone(), self.from.clone(), self.to.clone());
        let taken = taken && self.denied;
        let back = Self { net, from, to, lost: false, denied: false, waits: Some(waits) };
        self.net.state().moving.push(Parcel::Answer { answered, back, taken });
    }
}

impl Drop for Back {
    /// Nobody is there, or it was killed in the middle.
    fn drop(&mut self) {
        self.leave(Err(TransportError::Unreachable("nobody is there".to_owned())), false);
    }
}

impl Transport for Way {
    fn send<'a>(
        &'a self,
        to: &'a ServerName,
        request: Request<Bytes>,
    ) -> BoxFuture<'a, Result<Response<Body>, TransportError>> {
        Box::pin(async move {
            let (waits, answered) = oneshot::channel();
            self.post(to, request, waits)?;
            let gone = |_| TransportError::Unreachable("the network is gone".to_owned());
            answered.await.map_err(gone)?
        })
    }
}

impl Way {
    /// Puts a request into the network.
    fn post(
        &self,
        to: &ServerName,
        request: Request<Bytes>,
        waits: oneshot::Sender<Answered>,
    ) -> Result<(), TransportError> {
        let mut state = self.net.state();
        let way = (self.from.clone(), to.to_owned());
        if request.uri().path().contains("/send/") {
            let body = serde_json::from_slice(request.body()).unwrap_or_default();
            state.sent.entry(way.clone()).or_default().push(body);
        }
        if state.cut.contains(&way) {
            return Err(TransportError::Unreachable("the way is cut".to_owned()));
        }
        let fault = state.faults.get_mut(&way).and_then(VecDeque::pop_front);
        let parcel = |request, lost, waits| {
            let (net, from, to) = (self.net.clone(), self.from.clone(), to.to_owned());
            let back = Back { net, from, to: to.clone(), lost, denied: false, waits };
            Parcel::Request { to, request, back }
        };
        match fault {
            Some(Fault::Lose) => return Err(TransportError::TimedOut("the answer")),
            Some(Fault::Hold) => state.held.push(parcel(request, false, Some(waits))),
            Some(Fault::Double) => {
                state.moving.push(parcel(request.clone(), false, None));
                state.moving.push(parcel(request, false, Some(waits)));
            }
            None => state.moving.push(parcel(request, false, Some(waits))),
            Some(Fault::LoseAnswer) => state.moving.push(parcel(request, true, Some(waits))),
        }
        Ok(())
    }
}
