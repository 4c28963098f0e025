//! Filters: which rooms a client wants to hear of, and which of their events.
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use matryx_core::event::Pdu;
use ruma::{
    RoomId, UInt,
    api::client::filter::{LazyLoadOptions, RoomEventFilter, RoomFilter, UrlFilter},
};
use serde::{Deserialize, de::IgnoredAny};

/// Whether a client wants to hear of a room at all.
pub(super) fn wants_room(filter: &RoomFilter, room: &RoomId) -> bool {
    listed(room, filter.rooms.as_deref(), &filter.not_rooms)
}

/// What a client wants of the events of rooms.
#[derive(Debug, Clone, Copy)]
pub struct EventFilter<'a>(pub &'a RoomEventFilter);

impl EventFilter<'_> {
    /// Whether it wants any event of this room.
    #[must_use]
    pub fn room(self, room: &RoomId) -> bool {
        listed(room, self.0.rooms.as_deref(), &self.0.not_rooms)
    }

    /// Whether it wants any event of this type.
    #[must_use]
    pub fn kind(self, kind: &impl ToString) -> bool {
        if self.0.types.is_none() && self.0.not_types.is_empty() {
            return true;
        }
        let kind = kind.to_string();
        let any = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, &kind));
        self.0.types.as_deref().is_none_or(any) && !any(&self.0.not_types)
    }

    /// Whether it wants this event. Its room has been asked for before.
    #[must_use]
    pub fn event(self, pdu: &Pdu) -> bool {
        let sender = pdu.sender();
        self.kind(pdu.kind())
            && self.0.senders.as_deref().is_none_or(|senders| senders.contains(sender))
            && !self.0.not_senders.contains(sender)
            && self
                .0
                .url_filter
                .is_none_or(|wanted| (wanted == UrlFilter::EventsWithUrl) == has_url(pdu))
    }

    /// Whether it lets every event of a room that it wants through.
    #[must_use]
    pub fn is_open(self) -> bool {
        let RoomEventFilter { types, not_types, senders, not_senders, url_filter, .. } = self.0;
        types.is_none()
            && not_types.is_empty()
            && senders.is_none()
            && not_senders.is_empty()
            && url_filter.is_none()
    }

    /// How many events it wants at most: what it says, else `default`; never more than `most`.
    #[must_use]
    pub fn limit(self, default: usize, most: usize) -> usize {
        let said = |limit: UInt| usize::try_from(u64::from(limit)).unwrap_or(usize::MAX);
        self.0.limit.map_or(default, said).min(most)
    }

    /// Whether it wants only the members that it needs to show the events.
    #[must_use]
    pub fn lazy_members(self) -> bool {
        matches!(self.0.lazy_load_options, LazyLoadOptions::Enabled { .. })
    }
}

fn listed<T: PartialEq<RoomId>>(room: &RoomId, wanted: Option<&[T]>, unwanted: &[T]) -> bool {
    wanted.is_none_or(|wanted| wanted.iter().any(|one| one == room))
        && !unwanted.iter().any(|one| one == room)
}

/// Whether the content has a `url`.
fn has_url(pdu: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<IgnoredAny>,
    }
    pdu.content_as::<Content>().is_ok_and(|content| content.url.is_some())
}

/// Whether a text fits a pattern in which `*` stands for any characters, also none.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        // The first place is the best one: it leaves the most for what follows.
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use serde_json::{Value, json};

    use super::*;

    fn filter(json: Value) -> RoomEventFilter {
        serde_json::from_value(json).unwrap()
    }

    fn event(kind: &str, sender: &str, content: &Value) -> Pdu {
        let json = json!({
            "type": kind, "sender": sender, "content": content, "origin_server_ts": 1, "depth": 1,
            "prev_events": [], "auth_events": [], "room_id": "!r:x",
        });
        let (id, room) = ("$e".try_into().unwrap(), "!r:x".try_into().unwrap());
        Pdu::restore(id, room, &json.to_string(), false).unwrap()
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in [
            ("m.room.message", "m.room.message"),
            ("m.room.*", "m.room.message"),
            ("*", ""),
            ("*.message", "m.room.message"),
            ("m.*.m*e", "m.room.message"),
            ("m**e", "me"),
            ("*a*b*", "xxaxxbxx"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("m.room", "m.room.message"),
            ("m.room.*", "m.roo"),
            ("*.name", "m.room.message"),
            ("ab*ba", "aba"),
            ("*a*b*", "ba"),
            ("", "m"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_unwanted_beats_what_is_wanted() {
        let filter = filter(json!({
            "types": ["m.room.*"], "not_types": ["m.room.member"],
            "senders": ["@a:x", "@b:x"], "not_senders": ["@b:x"],
        }));
        let filter = EventFilter(&filter);
        assert!(filter.event(&event("m.room.message", "@a:x", &json!({}))));
        assert!(!filter.event(&event("m.room.member", "@a:x", &json!({}))));
        assert!(!filter.event(&event("m.other", "@a:x", &json!({}))));
        assert!(!filter.event(&event("m.room.message", "@b:x", &json!({}))));
        assert!(!filter.event(&event("m.room.message", "@c:x", &json!({}))));
        assert!(!filter.is_open());
    }

    #[test]
    fn an_empty_list_wants_nothing_and_no_list_everything() {
        let message = event("m.room.message", "@a:x", &json!({}));
        let (nothing, nobody) = (filter(json!({"types": []})), filter(json!({"senders": []})));
        assert!(!EventFilter(&nothing).event(&message));
        assert!(!EventFilter(&nobody).event(&message));
        let open = RoomEventFilter::default();
        assert!(EventFilter(&open).event(&message));
        assert!(EventFilter(&open).is_open());
    }

    #[test]
    fn urls_are_looked_for_in_the_content() {
        let with = event("m.room.message", "@a:x", &json!({"url": "mxc://x/y"}));
        let without = event("m.room.message", "@a:x", &json!({"body": "url"}));
        let (wanted, unwanted) =
            (filter(json!({"contains_url": true})), filter(json!({"contains_url": false})));
        assert!(EventFilter(&wanted).event(&with));
        assert!(!EventFilter(&wanted).event(&without));
        assert!(!EventFilter(&unwanted).event(&with));
        assert!(EventFilter(&unwanted).event(&without));
    }

    #[test]
    fn rooms_are_chosen_by_the_whole_filter_and_by_each_section() {
        let whole: RoomFilter =
            serde_json::from_value(json!({"rooms": ["!a:x", "!b:x"], "not_rooms": ["!b:x"]}))
                .unwrap();
        assert!(wants_room(&whole, room_id!("!a:x")));
        assert!(!wants_room(&whole, room_id!("!b:x")));
        assert!(!wants_room(&whole, room_id!("!c:x")));
        let section = filter(json!({"not_rooms": ["!a:x"]}));
        assert!(!EventFilter(&section).room(room_id!("!a:x")));
        assert!(EventFilter(&section).room(room_id!("!b:x")));
    }

    #[test]
    fn a_limit_is_what_it_says_within_bounds() {
        assert_eq!(EventFilter(&filter(json!({}))).limit(10, 100), 10);
        assert_eq!(EventFilter(&filter(json!({"limit": 0}))).limit(10, 100), 0);
        assert_eq!(EventFilter(&filter(json!({"limit": 5}))).limit(10, 100), 5);
        assert_eq!(EventFilter(&filter(json!({"limit": 5000}))).limit(10, 100), 100);
    }
}
