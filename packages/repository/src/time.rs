//! Times as rows keep them: milliseconds, as a signed number, because a larger unsigned one would become a float.

use ruma::{MilliSecondsSinceUnixEpoch, UInt};

/// The number to write. `UInt` ends at 2^53, so nothing is lost.
pub(crate) fn to_row(time: MilliSecondsSinceUnixEpoch) -> i64 {
    i64::from(time.get())
}

/// The time that was written. A number that no time of ours could have is the nearest one that could.
pub(crate) fn from_row(number: i64) -> MilliSecondsSinceUnixEpoch {
    let number = u64::try_from(number).unwrap_or(0);
    MilliSecondsSinceUnixEpoch(UInt::new_saturating(number))
}
