//! The tokens that clients are given: where they stand in the server's stream, and where in a room's timeline.
//!
//! Opaque to everybody outside of this file, and versioned by their first characters: nobody does arithmetic on them.

use std::{fmt, str::FromStr};

use matryx_core::refusal::{Refusal, RefusalKind};
use matryx_repository::StoreError;
use serde::{Serialize, Serializer};

use crate::room::{Room, Rooms, SendError};

/// Where a client stands, as `since` and `next_batch` of /sync say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamToken {
    /// The position in the server's stream up to which it has been told everything.
    pub pos: u64,
    /// What it has been told last and must not go on believing.
    pub debt: Option<Debt>,
}

/// Where the state events are that a client has been shown and that did not stand. `state` comes before the timeline and
/// can't set right what is in it: the next answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debt {
    /// All of them came after this position.
    pub from: u64,
    /// They are among this many newest lines of their rooms, as of the token's position.
    pub back: u16,
}

/// A place between two lines of a room: behind line `n`. `prev_batch`, and what /messages gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineToken(pub i64);

const STREAM: &str = "s1_";
const LINE: &str = "l1_";

impl StreamToken {
    /// Nothing is owed to who stands here.
    #[must_use]
    pub fn at(pos: u64) -> Self {
        Self { pos, debt: None }
    }
}

impl Debt {
    /// Both of them.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), back: self.back.max(other.back) }
    }
}

impl fmt::Display for StreamToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{STREAM}{}", self.pos)?;
        let Some(Debt { from, back }) = self.debt else { return Ok(()) };
        write!(formatter, "_{from}_{back}")
    }
}

impl Serialize for StreamToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
        let parts = || {
            let text = token.strip_prefix(STREAM)?;
            let Some((pos, debt)) = text.split_once('_') else {
                return Some(Self::at(text.parse().ok()?));
            };
            let (from, back) = debt.split_once('_')?;
            let debt = Debt { from: from.parse().ok()?, back: back.parse().ok()? };
            let pos = pos.parse().ok()?;
            (debt.from < pos).then_some(Self { pos, debt: Some(debt) })
        };
        parts().ok_or_else(|| unknown(token))
    }
}

impl FromStr for LineToken {
    type Err = Refusal;

    fn from_str(token: &str) -> Result<Self, Refusal> {
        let n = token.strip_prefix(LINE).and_then(|n| n.parse().ok());
        n.map(Self).ok_or_else(|| unknown(token))
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
    let StreamToken { pos, .. } = token.parse()?;
    if pos > rooms.stream().published() {
        return future();
    }
    Ok(line_up_to(rooms, room, pos).await?)
}

/// The last line of a room that was there at a position; 0 if there was none.
///
/// # Errors
/// When the database fails; it is read only for a position that has passed out of the room's memory.
pub(super) async fn line_up_to(rooms: &Rooms, room: &Room, pos: u64) -> Result<i64, StoreError> {
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
            let token = StreamToken::at(pos);
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        let token = StreamToken { pos: 9, debt: Some(Debt { from: 0, back: u16::MAX }) };
        assert_eq!(token.to_string().parse(), Ok(token));
        for n in [i64::MIN, -1, 0, 7] {
            assert_eq!(LineToken(n).to_string().parse(), Ok(LineToken(n)));
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let line = LineToken(3).to_string();
        let amiss = ["", "s1_", "s1_x", "s2_5", "5", "s1_-1", "l1_1.5", &line];
        let debts = ["s1_5_", "s1_5_4", "s1_5_4_", "s1_5_5_1", "s1_5_4_70000", "s1_5_4_1_1"];
        for token in amiss.into_iter().chain(debts) {
            let refusal = token.parse::<StreamToken>().unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::InvalidParam);
        }
    }
}
