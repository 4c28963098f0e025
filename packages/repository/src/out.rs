//! `out:[pos, n]`: what goes to other servers, `servers:⟨hash⟩`: the sets of servers that many such rows share, and
//! `cursor:⟨name⟩`: how far a server has acknowledged.
//!
//! One row an event, however many servers it goes to. A row is deleted when nobody is owed it any more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, ServerName};
use sha2::{Digest, Sha256};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError,
    room::signed,
    value::{name_of, named, number_part, parsed, record, unfit},
};

/// How many cursors or rows one statement writes or deletes.
const CHUNK: usize = 500;

/// A set of servers, named by a hash of its members. Shared by all events that go to the same servers.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerSet {
    hash: String,
    names: Vec<OwnedServerName>,
}

/// Where something stands in the order of what goes out: by position, then by the line in its room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutPlace {
    /// The position at which it was committed; 0 for what is being committed.
    pub pos: u64,
    /// Its line.
    pub n: i64,
}

/// An event that goes to other servers.
#[derive(Debug, Clone)]
pub struct Out {
    /// Where it stands.
    pub place: OutPlace,
    /// Its room.
    pub room: OwnedRoomId,
    /// The event.
    pub event_id: OwnedEventId,
    /// The servers in the room; `None` if there are none beside this one.
    pub servers: Option<Arc<ServerSet>>,
    /// Servers which are not in the room and are told as well.
    pub also: Vec<OwnedServerName>,
    /// The server that handed it to us.
    pub from: Option<OwnedServerName>,
    /// Whether all that came before it in the room leads to it: who gets it can find the rest.
    pub sole: bool,
}

#[derive(SurrealValue)]
struct OutRow {
    id: RecordId,
    room: String,
    event: String,
    servers: Option<String>,
    also: Option<Vec<String>>,
    from: Option<String>,
    forked: Option<bool>,
}

#[derive(SurrealValue)]
struct SetRow {
    id: RecordId,
    names: Vec<String>,
}

#[derive(SurrealValue)]
struct CursorRow {
    id: RecordId,
    pos: i64,
    n: i64,
}

impl ServerSet {
    /// The set of these servers; `None` of none. They come in order, each once.
    #[must_use]
    pub fn of(names: Vec<OwnedServerName>) -> Option<Self> {
        if names.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        for name in &names {
            hash.update(name.as_bytes());
            hash.update(b"\n");
        }
        Some(Self { hash: format!("{:x}", hash.finalize()), names })
    }

    /// What names the set: two sets with the same hash are the same.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The servers, in order.
    #[must_use]
    pub fn names(&self) -> &[OwnedServerName] {
        &self.names
    }

    /// Whether a server is among them.
    #[must_use]
    pub fn contains(&self, server: &ServerName) -> bool {
        self.names.binary_search_by(|name| (**name).cmp(server)).is_ok()
    }
}

impl Out {
    /// The servers that it goes to.
    pub fn receivers(&self) -> impl Iterator<Item = &OwnedServerName> {
        let names = self.servers.as_deref().map_or(&[][..], ServerSet::names);
        names.iter().chain(&self.also).filter(|name| Some(*name) != self.from.as_ref())
    }
}

fn record_of(place: OutPlace) -> RecordId {
    record("out", vec![signed(place.pos).into_value(), place.n.into_value()])
}

/// The record and its columns, without what says nothing.
pub(crate) fn row_of(out: &Out, pos: u64) -> (RecordId, Object) {
    let mut row = object! { room: out.room.as_str(), event: out.event_id.as_str() };
    if let Some(servers) = &out.servers {
        row.insert("servers".to_owned(), servers.hash().into_value());
    }
    if !out.also.is_empty() {
        let also: Vec<String> = out.also.iter().map(ToString::to_string).collect();
        row.insert("also".to_owned(), also.into_value());
    }
    if let Some(from) = &out.from {
        row.insert("from".to_owned(), from.as_str().into_value());
    }
    if !out.sole {
        row.insert("forked".to_owned(), true.into_value());
    }
    (record_of(OutPlace { pos, n: out.place.n }), row)
}

/// The record of a set and its columns.
pub(crate) fn set_row(set: &ServerSet) -> (RecordId, Object) {
    let names: Vec<String> = set.names.iter().map(ToString::to_string).collect();
    (named("servers", &set.hash), object! { names: names })
}

impl Database {
    /// Everything that has not been deleted of what goes out, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn outgoing(&self) -> Result<Vec<Out>, StoreError> {
        // The sets second: a row is never there without its set.
        let mut answer = self.ask("SELECT * FROM out; SELECT * FROM servers", object! {}).await?;
        let rows = answer.take::<Vec<OutRow>>(0)?;
        let mut sets: HashMap<String, Arc<ServerSet>> = HashMap::new();
        for row in answer.take::<Vec<SetRow>>(1)? {
            let names = servers(&row.id, &row.names)?;
            sets.insert(name_of(&row.id)?.to_owned(), Arc::new(ServerSet::kept(&row.id, names)?));
        }
        let mut outgoing =
            rows.into_iter().map(|row| row.read(&sets)).collect::<Result<Vec<Out>, _>>()?;
        outgoing.sort_by_key(|out| out.place);
        Ok(outgoing)
    }

    /// Deletes the sets of servers that nothing goes to any more. Call it before anything is committed: who commits
    /// remembers which sets are kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sweep_server_sets(&self, outgoing: &[Out]) -> Result<(), StoreError> {
        let used: HashSet<&str> =
            outgoing.iter().filter_map(|out| out.servers.as_deref()).map(ServerSet::hash).collect();
        let mut answer = self.ask("SELECT VALUE id FROM servers", object! {}).await?;
        let mut unused = answer.take::<Vec<RecordId>>(0)?;
        unused.retain(|id| name_of(id).is_ok_and(|hash| !used.contains(hash)));
        for chunk in unused.chunks(CHUNK) {
            self.change("DELETE $sets RETURN NONE", object! { sets: chunk.to_vec() }).await?;
        }
        Ok(())
    }

    /// How far each server has acknowledged what goes to it, as far as that is known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cursors(&self) -> Result<HashMap<OwnedServerName, OutPlace>, StoreError> {
        let mut answer = self.ask("SELECT * FROM cursor", object! {}).await?;
        let mut cursors = HashMap::new();
        for row in answer.take::<Vec<CursorRow>>(0)? {
            let place = OutPlace { pos: row.pos.unsigned_abs(), n: row.n };
            cursors.insert(parsed(name_of(&row.id)?, &unfit(&row.id))?, place);
        }
        Ok(cursors)
    }

    /// Writes down how far servers have acknowledged, and deletes what nobody is owed any more: durable when it returns.
    ///
    /// # Errors
    /// When the database fails. Both may be done again.
    pub async fn acknowledge(
        &self,
        cursors: &BTreeMap<OwnedServerName, OutPlace>,
        done: &[OutPlace],
    ) -> Result<(), StoreError> {
        let rows: Vec<Object> = cursors
            .iter()
            .map(|(name, place)| {
                let id = named("cursor", name);
                object! { id: id, pos: signed(place.pos), n: place.n }
            })
            .collect();
        // The cursors first: a row that is gone is owed to nobody, a cursor that is not yet written repeats something.
        for chunk in rows.chunks(CHUNK) {
            let sql = "FOR $row IN $rows { UPSERT $row.id REPLACE $row RETURN NONE }";
            self.change(sql, object! { rows: chunk.to_vec() }).await?;
        }
        let done: Vec<RecordId> = done.iter().copied().map(record_of).collect();
        for chunk in done.chunks(CHUNK) {
            self.change("DELETE $rows RETURN NONE", object! { rows: chunk.to_vec() }).await?;
        }
        Ok(())
    }
}

impl OutRow {
    fn read(self, sets: &HashMap<String, Arc<ServerSet>>) -> Result<Out, StoreError> {
        let bad = unfit(&self.id);
        let servers_of = |hash: &String| {
            sets.get(hash).cloned().ok_or_else(|| bad("its set of servers is not kept".to_owned()))
        };
        Ok(Out {
            place: OutPlace {
                pos: number_part(&self.id, 0)?.unsigned_abs(),
                n: number_part(&self.id, 1)?,
            },
            room: parsed(&self.room, &bad)?,
            event_id: parsed(&self.event, &bad)?,
            servers: self.servers.as_ref().map(servers_of).transpose()?,
            also: servers(&self.id, self.also.as_deref().unwrap_or_default())?,
            from: self.from.as_deref().map(|name| parsed(name, &bad)).transpose()?,
            sole: !self.forked.unwrap_or_default(),
        })
    }
}

impl ServerSet {
    fn kept(id: &RecordId, names: Vec<OwnedServerName>) -> Result<Self, StoreError> {
        Self::of(names)
            .filter(|set| name_of(id).is_ok_and(|hash| hash == set.hash))
            .ok_or_else(|| unfit(id)("the hash is another set's".to_owned()))
    }
}

fn servers(id: &RecordId, names: &[String]) -> Result<Vec<OwnedServerName>, StoreError> {
    names.iter().map(|name| parsed(name, &unfit(id))).collect()
}
