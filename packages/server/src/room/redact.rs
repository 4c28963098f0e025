//! Redactions: what may be taken back, and what is left of it.
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use std::sync::Arc;

use matryx_core::{
    event::{Draft, Pdu},
    refusal::{Refusal, RefusalKind},
    room::{Judgement, may_apply, may_redact, may_redact_unseen},
};
use matryx_repository::{StoreError, StoredEvent, TransactionKey};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName, OwnedUserId, RoomId,
    events::TimelineEventType,
};

use super::{
    Desk, Intent, Proposal, Rooms, SendError,
    say::{may_send, may_speak},
    work::{Rows, Work},
};

/// Somebody's wish to redact an event.
struct Redaction {
    sender: OwnedUserId,
    target: Target,
    content: CanonicalJsonObject,
    this: OwnedServerName,
}

/// What is to be redacted.
enum Target {
    /// An event of the room.
    Held(Arc<StoredEvent>),
    /// Something that nobody has told us of.
    Unseen(OwnedEventId),
    /// Something that is no part of the room.
    Foreign,
}

impl Rooms {
    /// Redacts an event for one of our users: their own, or with the room's level for it another's. Where other servers
    /// take part it may be one that has not come here yet: it goes out, and takes effect here when that comes.
    ///
    /// # Errors
    /// The rule that forbids it, or why the server could not.
    pub async fn redact(
        &self,
        room: &RoomId,
        sender: OwnedUserId,
        target: &EventId,
        content: CanonicalJsonObject,
        transaction: Option<TransactionKey>,
    ) -> Result<OwnedEventId, SendError> {
        let target = match self.events().get(target).await? {
            Some(event) if event.pdu.room_id() != room => Target::Foreign,
            Some(event) if matches!(event.fate, Judgement::Rejected(_)) => Target::Foreign,
            Some(event) => Target::Held(event),
            None => Target::Unseen(target.to_owned()),
        };
        let this = self.server_name().to_owned();
        let redaction = Redaction { sender, target, content, this };
        let intent = Intent::new(Vec::new(), move |desk| redaction.propose(desk));
        let done = self.send(room, intent.once(transaction)).await?;
        done.events.into_iter().next().ok_or(SendError::Panicked)
    }

    /// If the event is a redaction of something we hold and its sender may, replaces that by what is left of it: in the
    /// store, since the stored text is what is served, and in the state if it stands there. What we do not hold yet is
    /// redacted when it comes.
    pub(super) async fn apply_redaction(
        &self,
        redaction: &Arc<Pdu>,
        work: &mut Work,
        rows: &mut Rows,
    ) -> Result<(), SendError> {
        if *redaction.kind() != TimelineEventType::RoomRedaction {
            return Ok(());
        }
        let Some(target) = redaction.redacts(&work.look.rules) else { return Ok(()) };
        let found = match work.fresh.get(target) {
            Some(fresh) => Some(Arc::clone(fresh)),
            None => self.events().get(target).await?,
        };
        let Some(target) = found else {
            work.early.insert(target.to_owned(), Arc::clone(redaction));
            rows.early.push((target.to_owned(), redaction.event_id().clone()));
            return Ok(());
        };
        let may = target.pdu.room_id() == work.look.room_id
            && target.redacted_by.is_none()
            && work
                .look
                .law
                .powers
                .as_deref()
                .is_some_and(|powers| may_apply(redaction, &target.pdu, powers));
        if !may {
            return Ok(());
        }
        let left =
            Arc::new(target.pdu.redact(&work.look.rules).map_err(|error| {
                StoreError::inconsistent("event", target.pdu.event_id(), error)
            })?);
        work.replace(&left);
        let event = Arc::new(StoredEvent {
            pdu: left,
            redacted_by: Some(redaction.event_id().clone()),
            ..StoredEvent::clone(&target)
        });
        work.fresh.insert(event.pdu.event_id().clone(), Arc::clone(&event));
        rows.events.push(event);
        Ok(())
    }

    /// The redaction of an event that has come before the event itself.
    pub(super) async fn early_redaction(
        &self,
        target: &EventId,
        work: &Work,
    ) -> Result<Option<Arc<Pdu>>, StoreError> {
        if let Some(redaction) = work.early.get(target) {
            return Ok(Some(Arc::clone(redaction)));
        }
        if work.strangers.contains(target) {
            return Ok(None);
        }
        let Some(id) = self.database().early_redaction(target).await? else { return Ok(None) };
        Ok(self.events().get(&id).await?.map(|event| Arc::clone(&event.pdu)))
    }
}

impl Redaction {
    fn propose(&self, desk: &Desk<'_>) -> Result<Proposal, Refusal> {
        let powers = may_speak(desk, &self.sender)?;
        may_send(powers, &self.sender, &TimelineEventType::RoomRedaction, false)?;
        let redacts = match &self.target {
            Target::Held(event) => {
                may_redact(&self.sender, &event.pdu, powers)?;
                keeps_open(&event.pdu)?;
                event.pdu.event_id().clone()
            }
            // Where nobody else is, nothing can come any more.
            Target::Unseen(id) if desk.look.others(&self.this).is_some() => {
                may_redact_unseen(&self.sender, powers)?;
                id.clone()
            }
            Target::Unseen(_) | Target::Foreign => {
                let sentence = "There is no such event in this room.";
                return Err(Refusal::new(RefusalKind::NotFound, sentence));
            }
        };
        Ok(Proposal::say(Draft {
            sender: self.sender.clone(),
            kind: TimelineEventType::RoomRedaction,
            state_key: None,
            content: self.content.clone(),
            redacts: Some(redacts),
        }))
    }
}

/// Without its content a server ACL would shut everybody out, this server too.
fn keeps_open(target: &Pdu) -> Result<(), Refusal> {
    if *target.kind() != TimelineEventType::RoomServerAcl || target.state_key().is_none() {
        return Ok(());
    }
    let sentence = "An m.room.server_acl cannot be redacted: it would let no server take part any more. Set another one instead.";
    Err(Refusal::forbidden(sentence))
}

impl Work {
    /// Puts another text in the place of an event that may stand in the state.
    fn replace(&mut self, event: &Arc<Pdu>) {
        let Some(key) = event.key() else { return };
        if self.look.entry(&key).is_some_and(|entry| entry.event_id == *event.event_id()) {
            self.events.insert(key.clone(), Arc::clone(event));
            self.look.law.take(&key, Some(Arc::clone(event)), &self.look.rules);
        }
    }
}
