//! What someone wants of a room, as a function of how the room looks: synchronous, and ready to be run again.

use std::sync::Arc;

use imbl::HashMap;
use matryx_core::{
    event::{Draft, Pdu},
    refusal::Refusal,
    room::StateKey,
};
use matryx_repository::{Alias, StoreError, TransactionKey};
use ruma::{OwnedEventId, UserId, events::StateEventType};

use super::Look;

/// What someone wants of a room.
///
/// It can't wait for anything: facts from elsewhere are loaded before and carried in. It may run more than once.
pub struct Intent {
    /// The state keys whose events `decide` reads, besides the law.
    pub needs: Vec<StateKey>,
    /// The request that it answers, if repeating that request must not repeat the deed.
    pub transaction: Option<TransactionKey>,
    /// What to do, given how the room looks.
    pub decide: Decide,
}

/// A decision: it may run more than once, so it takes nothing away.
pub type Decide = Box<dyn Fn(&Desk<'_>) -> Result<Proposal, Refusal> + Send + Sync>;

/// What an intent may look at.
pub struct Desk<'a> {
    /// The room.
    pub look: &'a Look,
    pub(super) events: &'a HashMap<StateKey, Arc<Pdu>>,
}

/// What an intent comes to.
pub enum Proposal {
    /// Nothing changes; this event stands already and is the answer.
    Unchanged(OwnedEventId),
    /// These things happen together, or none of them.
    Change(Changes),
}

/// What happens together.
#[derive(Default)]
pub struct Changes {
    /// What is said, in order.
    pub say: Vec<Said>,
    /// Aliases that come into being with the room.
    pub aliases: Vec<Alias>,
}

/// Something that is said in a room.
pub enum Said {
    /// By us, now.
    Draft(Draft),
    /// By us, already sealed: a create event, which names its room.
    Sealed(Pdu),
}

/// What became of an intent. The events are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The events, in order: the new ones, or the one that stood already.
    pub events: Vec<OwnedEventId>,
    /// The position as of which everybody can see them.
    pub pos: u64,
}

/// Why an intent came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// A rule forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another server had a part in it, and did not play it.
    #[error(transparent)]
    Elsewhere(Box<Elsewhere>),
    /// The room is not held here.
    #[error("the room is not known to this server")]
    UnknownRoom,
    /// The database failed; nothing has been written.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The intent itself failed; the room has not noticed.
    #[error("the server failed while it worked on the request")]
    Panicked,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Closed,
}

/// What another server's part came to, as our own client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {body}")]
pub struct Elsewhere {
    /// The HTTP status.
    pub status: http::StatusCode,
    /// The body: `errcode`, `error`, and what else belongs to the code.
    pub body: serde_json::Value,
}

impl From<Elsewhere> for SendError {
    fn from(elsewhere: Elsewhere) -> Self {
        Self::Elsewhere(Box::new(elsewhere))
    }
}

impl SendError {
    /// Whether the same would fail in the same way again: what is kept, or this server, is at fault and not the moment.
    #[must_use]
    pub fn lasts(&self) -> bool {
        match self {
            Self::Store(error) => matches!(**error, StoreError::Inconsistent { .. }),
            Self::Panicked => true,
            _ => false,
        }
    }
}

impl From<StoreError> for SendError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl Intent {
    /// An intent without a transaction id.
    pub fn new(
        needs: Vec<StateKey>,
        decide: impl Fn(&Desk<'_>) -> Result<Proposal, Refusal> + Send + Sync + 'static,
    ) -> Self {
        Self { needs, transaction: None, decide: Box::new(decide) }
    }

    /// The same, answering a request that may be repeated.
    #[must_use]
    pub fn once(mut self, transaction: Option<TransactionKey>) -> Self {
        self.transaction = transaction;
        self
    }
}

impl Desk<'_> {
    /// The event that stands at a key: of the law, or among the intent's needs.
    #[must_use]
    pub fn event(&self, key: &StateKey) -> Option<&Arc<Pdu>> {
        self.look.law.event(key).or_else(|| self.events.get(key))
    }

    /// The event that stands at a type with an empty state key.
    #[must_use]
    pub fn state(&self, kind: StateEventType) -> Option<&Arc<Pdu>> {
        self.event(&StateKey::new(kind, ""))
    }

    /// A user's member event.
    #[must_use]
    pub fn member(&self, user: &UserId) -> Option<&Arc<Pdu>> {
        self.event(&StateKey::member(user))
    }
}

impl Proposal {
    /// One thing said.
    #[must_use]
    pub fn say(draft: Draft) -> Self {
        Self::Change(Changes { say: vec![Said::Draft(draft)], ..Changes::default() })
    }
}
