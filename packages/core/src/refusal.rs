//! A no with a sentence.

/// Why something that someone asked for is not done.
///
/// The sentence is for the one who asked: it names the rule, the level needed and the level held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// What kind of a no this is; it decides the status and the error code of an answer.
    pub kind: RefusalKind,
    /// What the one who asked is told.
    pub sentence: String,
}

/// The kinds of refusals. Each has one status and one `errcode` in the answers of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalKind {
    /// The rules do not allow it to this user.
    Forbidden,
    /// It makes no sense in the state that things are in.
    BadState,
    /// The JSON is not what this asks for.
    BadJson,
    /// A parameter has a value that it cannot have.
    InvalidParam,
    /// A parameter is missing.
    MissingParam,
    /// There is no such thing.
    NotFound,
    /// An event or a field of it is larger than the protocol allows.
    TooLarge,
    /// This server, or the other one, does not know the room version.
    UnsupportedRoomVersion,
    /// A restricted join cannot be checked here: we cannot see the rooms that it depends on.
    UnableToAuthoriseJoin,
    /// A restricted join would be allowed, but none of our users in the room can vouch for it.
    UnableToGrantJoin,
    /// The state that a room should be created with contradicts itself.
    InvalidRoomState,
    /// The alias that a room should get is taken.
    RoomInUse,
    /// An alias does not lead where it should.
    BadAlias,
    /// A bad request without a code of its own.
    Unknown,
}

impl Refusal {
    /// A refusal of the given kind.
    pub fn new(kind: RefusalKind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into() }
    }

    /// The rules do not allow it to this user.
    pub fn forbidden(sentence: impl Into<String>) -> Self {
        Self::new(RefusalKind::Forbidden, sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_its_sentence() {
        let refusal = Refusal::forbidden("You are banned from this room.");
        assert_eq!(refusal.kind, RefusalKind::Forbidden);
        assert_eq!(refusal.to_string(), "You are banned from this room.");
    }
}
