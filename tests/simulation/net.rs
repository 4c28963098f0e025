//! The network between simulated servers: who reaches whom, and what happens on the way.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use matryx_server::federation::{Transport, TransportError};
use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};
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
    up: HashMap<OwnedServerName, (Router, Handle)>,
    /// Pairs that don't reach each other.
    cut: BTreeSet<(OwnedServerName, OwnedServerName)>,
    /// What happens to the next requests from one server to another.
    faults: HashMap<(OwnedServerName, OwnedServerName), VecDeque<Fault>>,
    held: Vec<oneshot::Sender<()>>,
    /// Requests that are on their way or being answered; those held back don't count.
    moving: usize,
    /// Requests so far.
    sent: u64,
}

/// One server's way to the others.
#[derive(Debug)]
pub struct Way {
    pub net: Net,
    pub from: OwnedServerName,
}

/// Counts a request as moving for as long as somebody waits for it.
struct Moving(Net);

impl Moving {
    fn new(net: &Net) -> Self {
        net.state().moving += 1;
        Self(net.clone())
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.0.state().moving -= 1;
    }
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

    /// Lets what is held back arrive, the last first.
    pub fn release(&self) {
        let held = std::mem::take(&mut self.state().held);
        for request in held.into_iter().rev() {
            // Who has stopped waiting is gone.
            let _ = request.send(());
        }
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

    /// Requests that are moving, and how many there have been.
    pub fn traffic(&self) -> (usize, u64) {
        let state = self.state();
        (state.moving, state.sent)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the network is held")
    }

    /// What happens to the next request; an error where there is no way.
    fn next(&self, from: &ServerName, to: &ServerName) -> Result<Option<Fault>, TransportError> {
        let mut state = self.state();
        state.sent += 1;
        let way = (from.to_owned(), to.to_owned());
        if state.cut.contains(&way) {
            return Err(TransportError::Unreachable("the way is cut".to_owned()));
        }
        Ok(state.faults.get_mut(&way).and_then(VecDeque::pop_front))
    }

    /// Lets a request arrive. The other server goes on with it whoever still waits for the answer.
    async fn arrive(
        &self,
        to: &ServerName,
        request: &Request<Bytes>,
    ) -> Result<Response<Body>, TransportError> {
        let gone = || TransportError::Unreachable("nobody is there".to_owned());
        let (router, runs) = self.state().up.get(to).cloned().ok_or_else(gone)?;
        let (parts, body) = request.clone().into_parts();
        let request = Request::from_parts(parts, Body::from(body));
        let moving = Moving::new(self);
        let answer = runs.spawn(async move {
            let answer = router.oneshot(request).await;
            drop(moving);
            answer
        });
        match answer.await {
            Ok(Ok(response)) => Ok(response),
            // It was killed in the middle.
            Ok(Err(never)) => match never {},
            Err(_) => Err(gone()),
        }
    }
}

impl Transport for Way {
    fn send<'a>(
        &'a self,
        to: &'a ServerName,
        request: Request<Bytes>,
    ) -> BoxFuture<'a, Result<Response<Body>, TransportError>> {
        Box::pin(async move {
            let moving = Moving::new(&self.net);
            match self.net.next(&self.from, to)? {
                None => self.net.arrive(to, &request).await,
                Some(Fault::Lose) => Err(TransportError::TimedOut("the answer")),
                Some(Fault::LoseAnswer) => {
                    drop(self.net.arrive(to, &request).await);
                    Err(TransportError::TimedOut("the answer"))
                }
                Some(Fault::Double) => {
                    drop(self.net.arrive(to, &request).await);
                    self.net.arrive(to, &request).await
                }
                Some(Fault::Hold) => {
                    let (release, released) = oneshot::channel();
                    self.net.state().held.push(release);
                    drop(moving);
                    // Fails when the network itself is gone.
                    let _ = released.await;
                    let _moving = Moving::new(&self.net);
                    self.net.arrive(to, &request).await
                }
            }
        })
    }
}
