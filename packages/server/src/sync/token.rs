//! The tokens that clients are given: where they stand in the server's stream, and where in a room's timeline.
//!
//! Opaque to everybody outside of this file, and versioned by their first characters: nobody does arithmetic on them.

use std::{fmt, str::FromStr};

use matryx_core::refusal::{Refusal, RefusalKind};
use matryx_repository::StoreError;

use crate::room::{Room, Rooms, SendError};

/// A position in the server's stream, as `since` and `next_batch` of /sync say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamToken(pub u64);

/// A place between two lines of a room: behind line `n`. `prev_batch`, and what /messages gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineToken(pub i64);

const STREAM: &str = "s1_";
const LINE: &str = "l1_";

impl fmt::Display for StreamToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{STREAM}{}", self.0)
    }
}

impl fmt::Display for LineToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{LINE}{}", self.0)
    }
}

impl FromStr for StreamToken {
    type Err = Refusal;

    fn from_str(token: &str) -> Result<Self, Refusal> {
        read(token, STREAM).map(Self).ok_or_else(|| unknown(token))
    }
}

impl FromStr for LineToken {
    type Err = Refusal;

    fn from_str(token: &str) -> Result<Self, Refusal> {
        read(token, LINE).map(Self).ok_or_else(|| unknown(token))
    }
}

/// The line behind which a token of either kind stands in a room.
///
/// # Errors
/// 400 for what is no token, or one from the future: from before a backup was restored; or the database fails.
pub async fn line_at(rooms: &Rooms, room: &Room, token: &str) -> Result<i64, SendError> {
    let future = || {
        let sentence = format!("The token \"{token}\" is of something that has not happened yet.");
        Err(Refusal::new(RefusalKind::InvalidParam, sentence).into())
    };
    if let Ok(LineToken(n)) = token.parse() {
        return if n <= room.look().n { Ok(n) } else { future() };
    }
    let StreamToken(pos) = token.parse()?;
    if pos > rooms.stream().published() {
        return future();
    }
    Ok(line_up_to(rooms, room, pos).await?)
}

/// The last line of a room that was there at a position; 0 if there was none.
///
/// # Errors
/// When the database fails; it is read only for a position that has passed out of the room's memory.
pub async fn line_up_to(rooms: &Rooms, room: &Room, pos: u64) -> Result<i64, StoreError> {
    if let Some(look) = room.look_at(pos) {
        return Ok(look.n);
    }
    // Lines are dense and their positions rise: the last one up to `pos` is found by halving.
    let (mut below, mut above) = (0, room.look().n + 1);
    while below + 1 < above {
        let middle = below + (above - below) / 2;
        match rooms.database().line_position(&room.id, middle).await? {
            Some(found) if found <= pos => below = middle,
            _ => above = middle,
        }
    }
    Ok(below)
}

fn read<T: FromStr>(token: &str, kind: &str) -> Option<T> {
    token.strip_prefix(kind)?.parse().ok()
}

fn unknown(token: &str) -> Refusal {
    let sentence = format!("\"{token}\" is no token that this server has given.");
    Refusal::new(RefusalKind::InvalidParam, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        for pos in [0, 1, u64::MAX] {
            assert_eq!(StreamToken(pos).to_string().parse(), Ok(StreamToken(pos)));
        }
        for n in [i64::MIN, -1, 0, 7] {
            assert_eq!(LineToken(n).to_string().parse(), Ok(LineToken(n)));
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for token in
            ["", "s1_", "s1_x", "s2_5", "5", "s1_-1", "l1_1.5", LineToken(3).to_string().as_str()]
        {
            let refusal = token.parse::<StreamToken>().unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::InvalidParam);
        }
    }
}
