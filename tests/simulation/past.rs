//! What a server shows of the past: nobody has ever done what the law forbids.
//!
//! It reads what is kept and follows it line by line. What it holds against the law is ruma's, without ours in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use matryx_core::{
    event::{Pdu, event_id_of},
    membership::Membership,
    room::{Judgement, StateKey, StateMap, auth_keys},
};
use matryx_repository::{Line, StoredEvent};
use matryx_server::{
    app::App,
    room::{Look, Room},
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName, RoomId, UserId,
    events::StateEventType,
    room_version_rules::RoomVersionRules,
    state_res::{check_state_dependent_auth_rules, check_state_independent_auth_rules},
};
use serde_json::Value;

/// What is wrong with a room's lines on a server.
pub async fn wrong(app: &App, room: &RoomId) -> Option<String> {
    let held: Arc<Room> = app.rooms.room(room).await.ok()??;
    let look = held.look();
    let lines = app.rooms.database().lines(room, 1, look.n).await.ok()?;
    let mut state = StateMap::new();
    for line in lines {
        let id = line.event.pdu.event_id();
        if line.event.fate != Judgement::Accepted {
            return Some(format!("{id} is shown and was {:?}", line.event.fate));
        }
        if let Err(why) = alone(app, &line.event, &look).await {
            return Some(format!("{id} is shown and breaks the law: {why}"));
        }
        if line.n == 1 || line.gap {
            // What lies before it is not all here.
            state = app.rooms.database().state_at(room, line.n, None).await.ok()?;
            continue;
        }
        if let Err(why) = allowed(app, &line, &look, &state).await {
            return Some(format!("{id} is shown where the law forbids it: {why}"));
        }
        for change in line.changes {
            match change.new {
                Some(entry) => state.insert(change.key, entry),
                None => state.remove(&change.key),
            };
        }
    }
    let ids = |state: &StateMap| -> BTreeMap<StateKey, OwnedEventId> {
        state.iter().map(|(key, entry)| (key.clone(), entry.event_id.clone())).collect()
    };
    (ids(&state) != ids(&look.state)).then(|| "its lines lead to another state".to_owned())
}

/// Whether an event is allowed by those that it names itself.
async fn alone(app: &App, event: &StoredEvent, look: &Look) -> Result<(), String> {
    let pdu = &event.pdu;
    let mut named: Vec<OwnedEventId> = pdu.auth_events().to_vec();
    named.extend(look.law.create.as_ref().map(|create| create.event_id().clone()));
    let events = events(app, &named).await?;
    let rules = &look.rules.authorization;
    check_state_independent_auth_rules(rules, pdu, |id| events.get(id).cloned())
}

/// Whether an event was allowed by the room's state as it was then.
async fn allowed(app: &App, line: &Line, look: &Look, state: &StateMap) -> Result<(), String> {
    let pdu = &line.event.pdu;
    if let Some((user, Membership::Joined)) = pdu.state_key().zip(pdu.membership()) {
        let user = <&UserId>::try_from(user).map_err(|_| "nobody has joined")?;
        let entry = state.get(&StateKey::member(user));
        if entry.is_some_and(|entry| entry.membership == Some(Membership::Banned)) {
            return Err(format!("{user} is banned"));
        }
    }
    let mut keys =
        auth_keys(pdu.kind(), pdu.sender(), pdu.state_key(), pdu.content(), &look.rules)?;
    keys.push(StateKey::create());
    let standing: BTreeMap<StateKey, OwnedEventId> = keys
        .into_iter()
        .filter_map(|key| state.get(&key).map(|entry| (key.clone(), entry.event_id.clone())))
        .collect();
    let ids: Vec<OwnedEventId> = standing.values().cloned().collect();
    let events = events(app, &ids).await?;
    let fetch = |kind: &StateEventType, key: &str| {
        events.get(standing.get(&StateKey::new(kind.clone(), key))?).cloned()
    };
    check_state_dependent_auth_rules(&look.rules.authorization, pdu, fetch)
}

async fn events(
    app: &App,
    ids: &[OwnedEventId],
) -> Result<BTreeMap<OwnedEventId, Arc<Pdu>>, String> {
    let found = app.rooms.events().get_all(ids.iter().map(|id| &**id)).await;
    let found = found.map_err(|error| error.to_string())?;
    Ok(found.into_iter().map(|(id, event)| (id, Arc::clone(&event.pdu))).collect())
}

/// What servers have told one another, in the order in which they first did.
pub struct Told(BTreeMap<OwnedEventId, (usize, Vec<String>)>);

impl Told {
    /// From the transactions of one server to another.
    pub fn of(transactions: &[Value], rules: &RoomVersionRules) -> Self {
        let mut told = BTreeMap::new();
        let pdus = transactions.iter().filter_map(|body| body["pdus"].as_array()).flatten();
        for (at, pdu) in pdus.enumerate() {
            let mut object: CanonicalJsonObject =
                serde_json::from_value(pdu.clone()).expect("canonical JSON");
            object.remove("unsigned");
            let prev = pdu["prev_events"].as_array().into_iter().flatten();
            let prev = prev.filter_map(|id| id.as_str().map(str::to_owned)).collect();
            told.entry(event_id_of(&object, rules).expect("an event")).or_insert((at, prev));
        }
        Self(told)
    }

    pub fn has(&self, event: &EventId) -> bool {
        self.0.contains_key(event)
    }

    /// An event that was told before another that it follows.
    pub fn out_of_order(&self) -> Option<&EventId> {
        let place = |id: &str| self.0.get(<&EventId>::try_from(id).ok()?).map(|(at, _)| *at);
        let late = |at: usize, prev: &str| place(prev).is_some_and(|before| before > at);
        let early = |(at, prev): &(usize, Vec<String>)| prev.iter().any(|prev| late(*at, prev));
        self.0.iter().find(|(_, told)| early(told)).map(|(id, _)| &**id)
    }
}

/// The events that a server had to bring to others, and to whom: those of its own users and those that it has let in for
/// others, to whoever was in the room before or after them.
pub async fn owed(
    app: &App,
    room: &RoomId,
    vouched: &BTreeSet<String>,
) -> Vec<(OwnedEventId, BTreeSet<OwnedServerName>)> {
    let mut owed = Vec::new();
    let Ok(Some(held)) = app.rooms.room(room).await else { return owed };
    let n = held.look().n;
    let lines = app.rooms.database().lines(room, 1, n).await.expect("the lines");
    let mut state = StateMap::new();
    for line in lines {
        let pdu = &line.event.pdu;
        let id = pdu.event_id();
        let mut to = servers(&state);
        if line.n == 1 || line.gap {
            state = app.rooms.database().state_at(room, line.n, None).await.expect("a state");
        }
        for change in &line.changes {
            match &change.new {
                Some(entry) => state.insert(change.key.clone(), entry.clone()),
                None => state.remove(&change.key),
            };
        }
        to.extend(servers(&state));
        to.remove(&app.server_name);
        to.remove(pdu.sender().server_name());
        let own = pdu.sender().server_name() == app.server_name && line.n > 1 && !line.gap;
        let knot = pdu.kind().to_string() == "org.matrix.dummy_event";
        if (own || vouched.contains(id.as_str())) && !knot {
            owed.push((id.clone(), to));
        }
    }
    owed
}

/// The servers with joined users.
fn servers(state: &StateMap) -> BTreeSet<OwnedServerName> {
    let joined = state.iter().filter(|(_, entry)| entry.membership == Some(Membership::Joined));
    let users = joined.filter_map(|(key, _)| <&UserId>::try_from(&*key.key).ok());
    users.map(|user| user.server_name().to_owned()).collect()
}
