//! The sections of rooms that the user is invited to or knocks on.

use matryx_repository::{Mine, StoreError};
use serde_json::value::RawValue;

use super::answer::Stripped;

/// The stripped state of a room, as it was when the user was invited or knocked.
pub(super) fn stripped(mine: &Mine) -> Result<Stripped, StoreError> {
    let events = mine.stripped.clone().unwrap_or_else(|| "[]".to_owned());
    let events = RawValue::from_string(events).map_err(|error| {
        StoreError::inconsistent("mine", format_args!("[{}, {}]", mine.user, mine.room), error)
    })?;
    Ok(Stripped { events })
}
