//! What a user may see of a room's history, event by event.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::{collections::HashMap, sync::Arc};

use matryx_core::{membership::Membership, room::StateKey};
use matryx_repository::{Before, Fork, Gap, StoreError, StoredEvent};
use ruma::{
    EventId, OwnedServerName, OwnedUserId, ServerName, UserId,
    events::{StateEventType, TimelineEventType, room::history_visibility::HistoryVisibility},
};
use serde::Deserialize;

use super::{Room, Rooms, tips};

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
    past: HashMap<i64, [(HistoryVisibility, Membership); 2]>,
}

#[derive(Debug, Clone)]
enum Whose {
    User(OwnedUserId),
    Server(OwnedServerName),
}

impl Sight {
    /// The sight of someone who has been joined since line `since`, for lines from there on: they see everything.
    #[must_use]
    pub fn joined_since(user: OwnedUserId, since: i64) -> Self {
        Self {
            whose: Whose::User(user),
            visibility: Vec::new(),
            membership: vec![(since, Membership::Joined)],
            past: HashMap::new(),
        }
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
    #[must_use]
    pub fn ever_joined(&self) -> bool {
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
    #[must_use]
    pub fn left_for_good(&self) -> Option<i64> {
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
        at(&self.visibility, n) == Some(&HistoryVisibility::WorldReadable)
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
            let visibility = at(&self.visibility, when).unwrap_or(&HistoryVisibility::Shared);
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
        self.membership
            .iter()
            .any(|(from, membership)| *from >= n && *membership == Membership::Joined)
    }
}

/// What held at line `n`.
fn at<T>(versions: &[(i64, T)], n: i64) -> Option<&T> {
    versions.iter().rev().find(|(from, _)| *from <= n).map(|(_, value)| value)
}

impl Rooms {
    /// Makes a user's view reach these events, as far as they fill gaps: reads what held before each.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reach_back(
        &self,
        sight: &mut Sight,
        events: &[Arc<StoredEvent>],
    ) -> Result<(), StoreError> {
        let filling = || events.iter().filter(|event| event.n.is_some_and(|n| n <= 0));
        let forked = filling().filter(|event| event.before == Before::Fork);
        let forks = self.database().forks(forked.map(|event| &**event.pdu.event_id())).await?;
        let forks: HashMap<&EventId, &Fork> =
            forks.iter().map(|fork| (&*fork.event_id, fork)).collect();
        let Whose::User(user) = &sight.whose else { return Ok(()) };
        let (member, history) = (StateKey::member(user), StateKey::history_visibility());
        let mut past = HashMap::new();
        for event in filling() {
            let (base, delta) = match (event.before, forks.get(&**event.pdu.event_id())) {
                (Before::Log(n), _) => (n, &[][..]),
                (_, Some(fork)) => (fork.base, &fork.delta[..]),
                _ => continue,
            };
            let there = |wanted: &StateKey| {
                delta.iter().find(|(key, _)| key == wanted).map(|(_, entry)| entry.as_ref())
            };
            let membership = match there(&member) {
                Some(entry) => entry.and_then(|entry| entry.membership).unwrap_or(Membership::Left),
                None => sight.membership_from(base),
            };
            let visibility = match there(&history) {
                Some(Some(entry)) => self.events().get(&entry.event_id).await?.map(|e| read(&e)),
                Some(None) => None,
                None => at(&sight.visibility, base).cloned(),
            };
            let before = (visibility.unwrap_or(HistoryVisibility::Shared), membership);
            let mut after = before.clone();
            match event.pdu.key() {
                Some(key) if key == member => {
                    after.1 = event.pdu.membership().unwrap_or(Membership::Left);
                }
                Some(key) if key == history => after.0 = read(event),
                _ => {}
            }
            past.extend(event.n.map(|n| (n, [before, after])));
        }
        sight.past.extend(past);
        Ok(())
    }

    /// A user's view of a room's whole timeline.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sight(&self, room: &Room, user: &UserId) -> Result<Sight, StoreError> {
        let membership = self
            .database()
            .versions(&room.id, &StateKey::member(user))
            .await?
            .into_iter()
            .map(|version| {
                let membership = version.entry.and_then(|entry| entry.membership);
                (version.n, membership.unwrap_or(Membership::Left))
            })
            .collect();
        let visibility = self.visibility(room).await?;
        Ok(Sight {
            whose: Whose::User(user.to_owned()),
            visibility,
            membership,
            past: HashMap::new(),
        })
    }

    /// Another server's view of a room's whole timeline. `inside` says whether it is in the room now: then only rooms that
    /// have ever been less open than `shared` are asked who of its users was what.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn server_sight(
        &self,
        room: &Room,
        server: &ServerName,
        inside: bool,
    ) -> Result<Sight, StoreError> {
        let visibility = self.visibility(room).await?;
        let open = visibility.iter().all(|(_, visibility)| {
            matches!(visibility, HistoryVisibility::Shared | HistoryVisibility::WorldReadable)
        });
        let membership = if inside && open {
            vec![(i64::MIN, Membership::Joined)]
        } else {
            self.server_membership(room, server).await?
        };
        Ok(Sight {
            whose: Whose::Server(server.to_owned()),
            visibility,
            membership,
            past: HashMap::new(),
        })
    }

    /// What a server was in a room from line to line: in it as long as one of its users was, else invited as long as one of
    /// them was.
    async fn server_membership(
        &self,
        room: &Room,
        server: &ServerName,
    ) -> Result<Vec<(i64, Membership)>, StoreError> {
        let versions =
            self.database().versions_of_kind(&room.id, &StateEventType::RoomMember).await?;
        let of_server = |key: &StateKey| {
            <&UserId>::try_from(&*key.key).is_ok_and(|user| user.server_name() == server)
        };
        let mut steps: Vec<_> = versions.into_iter().filter(|(key, _)| of_server(key)).collect();
        steps.sort_by_key(|(_, version)| version.n);
        let mut users = HashMap::new();
        let mut path: Vec<(i64, Membership)> = Vec::new();
        for (key, version) in steps {
            let is = version.entry.and_then(|entry| entry.membership);
            users.insert(key, is.unwrap_or(Membership::Left));
            let has = |wanted| users.values().any(|is| *is == wanted);
            let best = [Membership::Joined, Membership::Invited].into_iter().find(|m| has(*m));
            let best = best.unwrap_or(Membership::Left);
            if path.last().is_none_or(|(_, last)| *last != best) {
                path.push((version.n, best));
            }
        }
        Ok(path)
    }

    /// From which line on which visibility held, oldest first.
    async fn visibility(&self, room: &Room) -> Result<Vec<(i64, HistoryVisibility)>, StoreError> {
        let versions = self.database().versions(&room.id, &StateKey::history_visibility()).await?;
        let mut visibility = Vec::with_capacity(versions.len());
        for version in versions {
            let event = match version.entry {
                Some(entry) => self.events().get(&entry.event_id).await?,
                None => None,
            };
            visibility.push((version.n, event.map_or(HistoryVisibility::Shared, |e| read(&e))));
        }
        Ok(visibility)
    }
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

/// What an `m.room.history_visibility` says. What can't be read is `shared`, as if there were none.
fn read(event: &StoredEvent) -> HistoryVisibility {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: HistoryVisibility,
    }
    match event.pdu.content_as::<Content>() {
        Ok(Content {
            history_visibility:
                known @ (HistoryVisibility::Invited
                | HistoryVisibility::Joined
                | HistoryVisibility::WorldReadable),
        }) => known,
        _ => HistoryVisibility::Shared,
    }
}

#[cfg(test)]
mod tests {
    use matryx_core::{event::Pdu, room::Judgement};
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
        Sight {
            whose: Whose::User(user_id!("@u:x").to_owned()),
            visibility: vec![(5, visibility)],
            membership: vec![
                (10, Membership::Invited),
                (20, Membership::Joined),
                (30, Membership::Left),
            ],
            past: HashMap::new(),
        }
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
        let sight = Sight {
            whose: Whose::User(user_id!("@u:x").to_owned()),
            visibility: vec![(5, HistoryVisibility::Joined), (8, HistoryVisibility::WorldReadable)],
            membership: vec![],
            past: HashMap::new(),
        };
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
