//! Who may do what in a room, read once from its create event and its power levels.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use ruma::{
    Int, OwnedUserId, UserId,
    events::TimelineEventType,
    room_version_rules::{AuthorizationRules, RoomVersionRules},
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField as Field},
};

use crate::event::Pdu;

/// A user's power in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Power {
    /// A level.
    Level(i64),
    /// More than any level: the creators of a room since version 12. They do not outrank one another.
    Infinite,
}

/// The three levels that decide about memberships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// To invite.
    pub invite: i64,
    /// To kick.
    pub kick: i64,
    /// To ban.
    pub ban: i64,
}

/// Who may do what in a room.
#[derive(Clone, Debug)]
pub struct Powers {
    /// Those with infinite power. Empty before version 12.
    creators: HashSet<OwnedUserId>,
    users: BTreeMap<OwnedUserId, i64>,
    users_default: i64,
    events: BTreeMap<TimelineEventType, i64>,
    events_default: i64,
    state_default: i64,
    levels: Levels,
    redact: i64,
}

/// What a creator has before version 12 in a room without power levels.
const CREATOR_LEVEL: i64 = 100;

impl Powers {
    /// Reads them by the rules of the room's version: strings for numbers where it takes them, creators above all
    /// where it has them.
    ///
    /// # Errors
    ///
    /// When one of the events does not have the form that the law asks for. The law would not have let it in.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>
    pub fn read(
        create: &Pdu,
        levels: Option<&Pdu>,
        rules: &RoomVersionRules,
    ) -> Result<Self, String> {
        let rules = &rules.authorization;
        let creators = RoomCreateEvent::new(create).creators(rules)?;
        let mut powers = match levels {
            Some(levels) => Self::from_event(&RoomPowerLevelsEvent::new(levels), rules)?,
            None => Self::without_event(),
        };
        if rules.explicitly_privilege_room_creators {
            powers.creators = creators;
        } else if levels.is_none() {
            powers.users = creators.into_iter().map(|user| (user, CREATOR_LEVEL)).collect();
        }
        Ok(powers)
    }

    fn from_event(
        event: &RoomPowerLevelsEvent<&Pdu>,
        rules: &AuthorizationRules,
    ) -> Result<Self, String> {
        let level = |field| event.get_as_int_or_default(field, rules).map(i64::from);
        let plain = |(user, level): (&OwnedUserId, &Int)| (user.clone(), i64::from(*level));
        Ok(Self {
            creators: HashSet::new(),
            users: event.users(rules)?.into_iter().flatten().map(plain).collect(),
            users_default: level(Field::UsersDefault)?,
            events: event
                .events(rules)?
                .into_iter()
                .flatten()
                .map(|(kind, level)| (kind, i64::from(level)))
                .collect(),
            events_default: level(Field::EventsDefault)?,
            state_default: level(Field::StateDefault)?,
            levels: Levels {
                invite: level(Field::Invite)?,
                kick: level(Field::Kick)?,
                ban: level(Field::Ban)?,
            },
            redact: level(Field::Redact)?,
        })
    }

    /// The levels of a room without an event that sets them.
    fn without_event() -> Self {
        let level = |field: Field| i64::from(field.default_value());
        Self {
            creators: HashSet::new(),
            users: BTreeMap::new(),
            users_default: level(Field::UsersDefault),
            events: BTreeMap::new(),
            events_default: level(Field::EventsDefault),
            state_default: level(Field::StateDefault),
            levels: Levels {
                invite: level(Field::Invite),
                kick: level(Field::Kick),
                ban: level(Field::Ban),
            },
            redact: level(Field::Redact),
        }
    }

    /// A user's power.
    #[must_use]
    pub fn of(&self, user: &UserId) -> Power {
        if self.creators.contains(user) {
            return Power::Infinite;
        }
        Power::Level(self.users.get(user).copied().unwrap_or(self.users_default))
    }

    /// The level that inviting needs.
    #[must_use]
    pub fn invite(&self) -> i64 {
        self.levels.invite
    }

    /// The level that kicking needs.
    #[must_use]
    pub fn kick(&self) -> i64 {
        self.levels.kick
    }

    /// The level that banning needs. Unbanning needs it too, and the level for kicking.
    #[must_use]
    pub fn ban(&self) -> i64 {
        self.levels.ban
    }

    /// The three levels that decide about memberships.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// The level that redacting what others said needs.
    #[must_use]
    pub fn redact(&self) -> i64 {
        self.redact
    }

    /// The level that sending an event of this type needs. Membership events do not ask for it, but for
    /// [`Powers::levels`].
    #[must_use]
    pub fn to_send(&self, kind: &TimelineEventType, is_state: bool) -> i64 {
        let default = if is_state { self.state_default } else { self.events_default };
        self.events.get(kind).copied().unwrap_or(default)
    }
}

impl fmt::Display for Power {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(level) => write!(formatter, "{level}"),
            Self::Infinite => write!(formatter, "unlimited power, as a creator of the room"),
        }
    }
}
