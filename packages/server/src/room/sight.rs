//! A view of a room's timeline: what of it somebody may see, event by event.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::collections::HashMap;

use matryx_core::{
    event::Pdu,
    membership::Membership,
    room::{StateEntry, StateKey},
};
use matryx_repository::{Gap, StoredEvent};
use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    events::{StateEventType, TimelineEventType, room::history_visibility::HistoryVisibility},
};

use super::{
    presence::{Present, Step},
    tips,
};

/// A user's view of a room's timeline: what the room showed to whom, and what the user was, from line to line. Or a server's,
/// which was at any line the best that one of its users was.
#[derive(Debug, Clone)]
pub struct Sight {
    whose: Whose,
    /// From which line on which visibility held, oldest first.
    visibility: Vec<(i64, HistoryVisibility)>,
    /// From which line on the user was what, oldest first.
    membership: Vec<(i64, Membership)>,
    /// What held before and after events that fill gaps, by their numbers.
    past: HashMap<i64, [Side; 2]>,
}

/// What the room showed and what they were, on one side of an event.
pub(super) type Side = (HistoryVisibility, Membership);

#[derive(Debug, Clone)]
enum Whose {
    User(OwnedUserId),
    Server(OwnedServerName),
}

impl Sight {
    /// A user's sight.
    pub(super) fn of_user(
        user: OwnedUserId,
        visibility: Vec<(i64, HistoryVisibility)>,
        membership: Vec<(i64, Membership)>,
    ) -> Self {
        Self { whose: Whose::User(user), visibility, membership, past: HashMap::new() }
    }

    /// A server's sight.
    pub(super) fn of_server(
        server: OwnedServerName,
        visibility: Vec<(i64, HistoryVisibility)>,
        membership: Vec<(i64, Membership)>,
    ) -> Self {
        Self { whose: Whose::Server(server), visibility, membership, past: HashMap::new() }
    }

    /// The sight of someone who has been joined since line `since`, for lines from there on: they see everything.
    #[must_use]
    pub fn joined_since(user: OwnedUserId, since: i64) -> Self {
        Self::of_user(user, Vec::new(), vec![(since, Membership::Joined)])
    }

    /// The user's membership once line `n` has been said, as `unsigned.membership` tells it.
    #[must_use]
    pub fn membership_at(&self, n: i64) -> Membership {
        if let Some([_, (_, membership)]) = self.past.get(&n) {
            return *membership;
        }
        self.membership_from(n)
    }

    fn membership_from(&self, n: i64) -> Membership {
        at(&self.membership, n).copied().unwrap_or(Membership::Left)
    }

    /// Whether the user was joined at any line.
    pub(super) fn ever_joined(&self) -> bool {
        self.membership.iter().any(|(_, membership)| *membership == Membership::Joined)
    }

    /// Whether the user was joined at line `from` and has not ceased to be until line `to`.
    #[must_use]
    pub fn joined_throughout(&self, from: i64, to: i64) -> bool {
        self.membership_at(from) == Membership::Joined
            && self
                .membership
                .iter()
                .filter(|(n, _)| (from + 1..=to).contains(n))
                .all(|(_, membership)| *membership == Membership::Joined)
    }

    /// The line with which they ceased to be joined for the last time; `None` if they never were.
    pub(super) fn left_for_good(&self) -> Option<i64> {
        let last = self.membership.iter().rposition(|(_, is)| *is == Membership::Joined)?;
        Some(self.membership.get(last + 1).map_or(i64::MAX, |(n, _)| *n))
    }

    /// The lines of the user's own membership up to line `to`, oldest first, and what each made of them.
    pub fn memberships(&self, to: i64) -> impl Iterator<Item = (i64, Membership)> {
        self.membership.iter().copied().take_while(move |(n, _)| *n <= to)
    }

    /// Whether the room showed its history to everybody once line `n` had been said.
    #[must_use]
    pub fn world_readable_at(&self, n: i64) -> bool {
        self.visibility_at(n) == Some(&HistoryVisibility::WorldReadable)
    }

    /// Whether the user may see the event at line `n`.
    ///
    /// An event that changes the visibility or the user's membership is judged by what was before and by what was
    /// after it; either will do. Membership events of one's own are always shown. What only ties the room's tips together
    /// says nothing to anybody.
    #[must_use]
    pub fn sees(&self, n: i64, event: &StoredEvent) -> bool {
        let pdu = &event.pdu;
        if tips::is_knot(pdu.kind()) {
            return false;
        }
        if *pdu.kind() == TimelineEventType::RoomMember
            && pdu.state_key().is_some_and(|user| self.whose.is(user))
        {
            return true;
        }
        if n <= 0 {
            // Of what fills a gap, who has not asked what held there sees only what a member sees.
            let (line, _) = Gap::place(n);
            return self.past.get(&n).map_or_else(
                || self.membership_from(n) == Membership::Joined,
                |sides| sides.iter().any(|(shown, was)| self.is_shown(shown, *was, line)),
            );
        }
        [n - 1, n].into_iter().any(|when| {
            let visibility = self.visibility_at(when).unwrap_or(&HistoryVisibility::Shared);
            self.is_shown(visibility, self.membership_from(when), n)
        })
    }

    /// Whether a visibility shows to whoever is this, or joins from line `n` on.
    fn is_shown(&self, visibility: &HistoryVisibility, membership: Membership, n: i64) -> bool {
        match (visibility, membership) {
            (HistoryVisibility::WorldReadable, _) | (_, Membership::Joined) => true,
            (HistoryVisibility::Invited, membership) => membership == Membership::Invited,
            (HistoryVisibility::Joined, _) => false,
            _ => self.joins_after(n),
        }
    }

    /// Whether the user was joined at any time from line `n` on.
    fn joins_after(&self, n: i64) -> bool {
        let later = |(from, is): &(i64, Membership)| *from >= n && *is == Membership::Joined;
        self.membership_from(n) == Membership::Joined || self.membership.iter().any(later)
    }

    /// The server whose sight it is, if it is one's.
    pub(super) fn server(&self) -> Option<&ServerName> {
        match &self.whose {
            Whose::User(_) => None,
            Whose::Server(server) => Some(server),
        }
    }

    /// What the room showed once line `n` had been said; `None` before it said anything of it.
    pub(super) fn visibility_at(&self, n: i64) -> Option<&HistoryVisibility> {
        at(&self.visibility, n)
    }

    /// Adds what held before and after events that fill gaps.
    pub(super) fn extend(&mut self, past: HashMap<i64, [Side; 2]>) {
        self.past.extend(past);
    }

    /// Whether they were joined before or after what fills a gap under this number, as far as [`Rooms::reach_back`](super::Rooms::reach_back) was asked.
    pub(super) fn was_there(&self, n: i64) -> bool {
        let sides = self.past.get(&n).into_iter().flatten();
        sides.into_iter().any(|(_, membership)| *membership == Membership::Joined)
    }

    /// What they were before and after an event, given the state before it as a difference to a line.
    pub(super) fn around(
        &self,
        pdu: &Pdu,
        base: i64,
        delta: &[(StateKey, Option<StateEntry>)],
        steps: &[Step],
    ) -> [Membership; 2] {
        let key = pdu.key();
        let said = pdu.membership().unwrap_or(Membership::Left);
        let is = |entry: &Option<StateEntry>| {
            entry.as_ref().and_then(|entry| entry.membership).unwrap_or(Membership::Left)
        };
        match &self.whose {
            Whose::User(user) => {
                let own = StateKey::member(user);
                let there = delta.iter().find(|(key, _)| *key == own);
                let was = there.map_or_else(|| self.membership_from(base), |(_, entry)| is(entry));
                [was, if key == Some(own) { said } else { was }]
            }
            Whose::Server(_) => {
                let mut present = Present::at(steps, base);
                let theirs = |key: &'_ StateKey| {
                    key.kind == StateEventType::RoomMember && self.whose.is(&key.key)
                };
                for (key, entry) in delta.iter().filter(|(key, _)| theirs(key)) {
                    if let Ok(user) = <&UserId>::try_from(&*key.key) {
                        present.set(user, is(entry));
                    }
                }
                let was = present.best();
                if let Some(key) = key.as_ref().filter(|key| theirs(key))
                    && let Ok(user) = <&UserId>::try_from(&*key.key)
                {
                    present.set(user, said);
                }
                [was, present.best()]
            }
        }
    }
}

/// What held at line `n`.
fn at<T>(versions: &[(i64, T)], n: i64) -> Option<&T> {
    versions.iter().rev().find(|(from, _)| *from <= n).map(|(_, value)| value)
}

impl Whose {
    /// Whether a user is them, or one of theirs.
    fn is(&self, user: &str) -> bool {
        match self {
            Self::User(own) => own == user,
            Self::Server(own) => {
                <&UserId>::try_from(user).is_ok_and(|user| user.server_name() == own)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use matryx_core::room::Judgement;
    use matryx_repository::Before;
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    fn event(kind: &str, state_key: Option<&str>) -> StoredEvent {
        let mut json = json!({
            "type": kind, "sender": "@a:x", "content": {}, "origin_server_ts": 1, "depth": 1,
            "prev_events": [], "auth_events": [], "room_id": "!r:x",
        });
        if let Some(key) = state_key {
            json["state_key"] = json!(key);
        }
        let id = "$e".try_into().unwrap();
        let pdu = Pdu::restore(id, "!r:x".try_into().unwrap(), &json.to_string(), false).unwrap();
        StoredEvent {
            pdu: Arc::new(pdu),
            n: Some(1),
            fate: Judgement::Accepted,
            before: Before::Log(0),
            replaces: None,
            redacted_by: None,
            sent: None,
        }
    }

    /// A user who is invited at line 10, joins at 20 and leaves at 30, in a room with one visibility from line 5 on.
    fn sight(visibility: HistoryVisibility) -> Sight {
        let membership =
            vec![(10, Membership::Invited), (20, Membership::Joined), (30, Membership::Left)];
        Sight::of_user(user_id!("@u:x").to_owned(), vec![(5, visibility)], membership)
    }

    fn seen(sight: &Sight) -> Vec<i64> {
        let message = event("m.room.message", None);
        [7, 15, 25, 35].into_iter().filter(|n| sight.sees(*n, &message)).collect()
    }

    #[test]
    fn each_visibility_shows_its_stretch() {
        assert_eq!(seen(&sight(HistoryVisibility::WorldReadable)), [7, 15, 25, 35]);
        assert_eq!(seen(&sight(HistoryVisibility::Shared)), [7, 15, 25]);
        assert_eq!(seen(&sight(HistoryVisibility::Invited)), [15, 25]);
        assert_eq!(seen(&sight(HistoryVisibility::Joined)), [25]);
    }

    #[test]
    fn a_room_without_a_visibility_is_shared() {
        let mut sight = sight(HistoryVisibility::Joined);
        sight.visibility.clear();
        assert_eq!(seen(&sight), [7, 15, 25]);
    }

    #[test]
    fn the_events_that_change_it_are_seen_from_either_side() {
        let visibility =
            vec![(5, HistoryVisibility::Joined), (8, HistoryVisibility::WorldReadable)];
        let sight = Sight::of_user(user_id!("@u:x").to_owned(), visibility, Vec::new());
        let change = event("m.room.history_visibility", Some(""));
        assert!(sight.sees(8, &change));
        assert!(!sight.sees(7, &change));
    }

    #[test]
    fn ones_own_leaving_is_always_seen() {
        let sight = sight(HistoryVisibility::Joined);
        assert!(sight.sees(30, &event("m.room.member", Some("@u:x"))));
        assert!(sight.sees(40, &event("m.room.member", Some("@u:x"))));
        assert!(!sight.sees(40, &event("m.room.member", Some("@other:x"))));
    }

    #[test]
    fn a_membership_counts_from_its_own_event_on() {
        let sight = sight(HistoryVisibility::Shared);
        assert_eq!(sight.membership_at(9), Membership::Left);
        assert_eq!(sight.membership_at(10), Membership::Invited);
        assert_eq!(sight.membership_at(20), Membership::Joined);
        assert_eq!(sight.membership_at(31), Membership::Left);
        assert!(sight.ever_joined());
    }

    #[test]
    fn a_stay_ends_with_the_first_thing_that_is_no_join() {
        let sight = sight(HistoryVisibility::Shared);
        assert!(sight.joined_throughout(20, 29));
        assert!(!sight.joined_throughout(19, 29));
        assert!(!sight.joined_throughout(20, 30));
        assert_eq!(sight.memberships(20).last(), Some((20, Membership::Joined)));
    }

    #[test]
    fn a_server_sees_what_one_of_its_users_sees() {
        let mut sight = sight(HistoryVisibility::Joined);
        assert_eq!(sight.left_for_good(), Some(30));
        sight.whose = Whose::Server("x".try_into().unwrap());
        assert_eq!(seen(&sight), [25]);
        assert!(sight.sees(40, &event("m.room.member", Some("@other:x"))));
        assert!(!sight.sees(40, &event("m.room.member", Some("@other:y"))));
        sight.membership.pop();
        assert_eq!(sight.left_for_good(), Some(i64::MAX));
        sight.membership.clear();
        assert_eq!(sight.left_for_good(), None);
    }
}
