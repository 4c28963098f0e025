//! Who may redact what.
//!
//! <https://spec.matrix.org/v1.19/rooms/v12/#handling-redactions>

use ruma::UserId;

use super::{Power, Powers};
use crate::{
    event::Pdu,
    refusal::{Refusal, RefusalKind},
};

/// Does this redaction take effect on that event?
///
/// Since room version 3 every redaction that may be sent is accepted, and only applied when its sender has the level
/// to redact or is of the server that the redacted event came from. `powers` are those of the redaction's own state.
#[must_use]
pub fn may_apply(redaction: &Pdu, target: &Pdu, powers: &Powers) -> bool {
    redaction.room_id() == target.room_id()
        && (redaction.sender().server_name() == target.sender().server_name()
            || powers.of(redaction.sender()) >= Power::Level(powers.redact()))
}

/// May a user of ours ask for this redaction? Stricter than [`may_apply`]: a server vouches for its users, so it does
/// not let one of them redact what another said.
///
/// # Errors
///
/// A refusal with the level needed and the level held.
pub fn may_redact(sender: &UserId, target: &Pdu, powers: &Powers) -> Result<(), Refusal> {
    let (held, needed) = (powers.of(sender), powers.redact());
    if target.sender() == sender || held >= Power::Level(needed) {
        return Ok(());
    }
    Err(Refusal::forbidden(format!(
        "To redact what others sent, this room asks for power level {needed}; you have {held}."
    )))
}

/// May a user of ours ask for the redaction of an event that has not come here? Nobody can say yet whose it is: it takes
/// the level to redact what others sent.
///
/// # Errors
///
/// To those without it there is no such event.
pub fn may_redact_unseen(sender: &UserId, powers: &Powers) -> Result<(), Refusal> {
    let (held, needed) = (powers.of(sender), powers.redact());
    if held >= Power::Level(needed) {
        return Ok(());
    }
    let sentence = format!(
        "There is no such event in this room. To redact one that has not come here yet, this room asks for power level {needed}; you have {held}."
    );
    Err(Refusal::new(RefusalKind::NotFound, sentence))
}
