//! What we are about to say, sealed and not said: an invite to a user of another server is for that server to sign first. It
//! comes back by the door for others' events, where it is judged anew.

use std::sync::Arc;

use matryx_core::event::{Draft, Pdu};
use matryx_core::refusal::{Refusal, RefusalKind};
use ruma::{OwnedEventId, RoomId, RoomVersionId, room_version_rules::RoomVersionRules};

use super::{
    Changes, Intent, Proposal, Rooms, Said, SendError,
    lane::{Ask, Outcome, judge, propose},
    stripped,
    work::Work,
};

/// What an intent would say.
#[derive(Debug)]
pub enum Preparation {
    /// Nothing: this event stands already.
    Stands(OwnedEventId),
    /// This event.
    Sealed(Box<Prepared>),
}

/// An event of ours that the room does not know yet.
#[derive(Debug)]
pub struct Prepared {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// The room's version.
    pub version: RoomVersionId,
    /// What that means.
    pub rules: Arc<RoomVersionRules>,
    /// What those are shown of the room who are invited to it or knock on it: whole events.
    pub stripped: Vec<Arc<Pdu>>,
}

impl Rooms {
    /// Runs an intent that says one thing, up to where it would be written.
    ///
    /// # Errors
    /// The rule that forbids it, or why the server could not.
    pub async fn prepare(&self, room: &RoomId, intent: Intent) -> Result<Preparation, SendError> {
        let room = self.room(room).await?.ok_or(SendError::UnknownRoom)?;
        match self.ask(&room, Ask::Prepare(intent)).await?.0 {
            Outcome::Said(events) => {
                events.into_iter().next().map(Preparation::Stands).ok_or(SendError::Panicked)
            }
            Outcome::Prepared(prepared) => Ok(Preparation::Sealed(prepared)),
            _ => Err(SendError::Panicked),
        }
    }

    pub(super) async fn prepare_in(
        &self,
        intent: &Intent,
        work: &mut Work,
    ) -> Result<Outcome, SendError> {
        self.fetch(work, &intent.needs).await?;
        let changes = match propose(intent, work)? {
            Proposal::Unchanged(event) => return Ok(Outcome::Said(vec![event])),
            Proposal::Change(changes) => changes,
        };
        let draft = only_draft(changes)?;
        let pdu = Arc::new(self.seal(draft, work).await?);
        judge(&pdu, work)?;
        let keys = stripped::needed(&work.look, &pdu);
        self.fetch(work, &keys).await?;
        let own = pdu.key();
        let stripped = keys
            .iter()
            .filter(|key| Some(*key) != own.as_ref())
            .filter_map(|key| work.event(key).cloned())
            .collect();
        Ok(Outcome::Prepared(Box::new(Prepared {
            pdu,
            version: work.look.version.clone(),
            rules: Arc::clone(&work.look.rules),
            stripped,
        })))
    }
}

fn only_draft(changes: Changes) -> Result<Draft, Refusal> {
    match changes.say.into_iter().next() {
        Some(Said::Draft(draft)) => Ok(draft),
        _ => Err(Refusal::new(RefusalKind::Unknown, "There is nothing to say.")),
    }
}
