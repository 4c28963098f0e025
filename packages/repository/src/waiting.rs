//! `waiting:[room, server, hash]`: what another server has sent and what can't be let in yet.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName};
use sha2::{Digest, Sha256};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError, time,
    value::{parsed, record, text_part, unfit},
};

/// How many rows are written or read at once.
const CHUNK: usize = 100;

/// What the hashes of notes begin with.
const NOTE: &str = "note-";

/// An event that waits. Its id depends on the room's version, which may not be known yet: it is called by its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The room that it says it belongs to.
    pub room: OwnedRoomId,
    /// Who has sent it.
    pub origin: OwnedServerName,
    /// The hash of its text, in hexadecimal digits; behind a prefix, if it is a note.
    pub hash: String,
    /// When it came.
    pub since: MilliSecondsSinceUnixEpoch,
}

#[derive(SurrealValue)]
struct Row {
    id: RecordId,
    since: i64,
}

#[derive(SurrealValue)]
struct TextRow {
    id: RecordId,
    json: String,
}

impl Waiting {
    /// A text that a server has sent.
    #[must_use]
    pub fn of(
        room: OwnedRoomId,
        origin: OwnedServerName,
        text: &str,
        since: MilliSecondsSinceUnixEpoch,
    ) -> Self {
        Self { room, origin, hash: format!("{:x}", Sha256::digest(text)), since }
    }

    /// A note of our own about what a server has said.
    #[must_use]
    pub fn note(
        room: OwnedRoomId,
        about: OwnedServerName,
        text: &str,
        since: MilliSecondsSinceUnixEpoch,
    ) -> Self {
        let row = Self::of(room, about, text, since);
        Self { hash: format!("{NOTE}{}", row.hash), ..row }
    }

    /// Whether it is a note of our own.
    #[must_use]
    pub fn is_note(&self) -> bool {
        self.hash.starts_with(NOTE)
    }

    fn record(&self) -> RecordId {
        let (room, origin) = (self.room.as_str(), self.origin.as_str());
        let parts = vec![room.into_value(), origin.into_value(), self.hash.as_str().into_value()];
        record("waiting", parts)
    }
}

impl Database {
    /// Everything that waits, without the texts, in the order in which it came.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting(&self) -> Result<Vec<Waiting>, StoreError> {
        let mut answer = self.ask("SELECT id, since FROM waiting", object! {}).await?;
        let rows = answer.take::<Vec<Row>>(0)?;
        let mut waiting = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        waiting.sort_by_key(|waiting| waiting.since);
        Ok(waiting)
    }

    /// Keeps what waits, with its text: durable when it returns. What is kept already stays as it is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_waiting(&self, waiting: &[(Waiting, &str)]) -> Result<(), StoreError> {
        let row = |(waiting, text): &(Waiting, &str)| -> Object {
            object! { id: waiting.record(), since: time::to_row(waiting.since), json: *text }
        };
        for chunk in waiting.chunks(CHUNK) {
            let rows: Vec<Object> = chunk.iter().map(row).collect();
            let sql = "FOR $row IN $rows { UPSERT $row.id REPLACE $row RETURN NONE }";
            self.change(sql, object! { rows: rows }).await?;
        }
        Ok(())
    }

    /// The texts of what waits, by their hashes; what does not wait any more is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting_texts(
        &self,
        waiting: &[Waiting],
    ) -> Result<Vec<(String, String)>, StoreError> {
        let mut texts = Vec::with_capacity(waiting.len());
        for chunk in waiting.chunks(CHUNK) {
            let rows: Vec<RecordId> = chunk.iter().map(Waiting::record).collect();
            let sql = "SELECT id, json FROM $rows";
            let mut answer = self.ask(sql, object! { rows: rows }).await?;
            for row in answer.take::<Vec<TextRow>>(0)? {
                texts.push((text_part(&row.id, 2)?.to_owned(), row.json));
            }
        }
        Ok(texts)
    }

    /// Forgets what does not wait any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_waiting(&self, waiting: &[Waiting]) -> Result<(), StoreError> {
        for chunk in waiting.chunks(CHUNK) {
            let rows: Vec<RecordId> = chunk.iter().map(Waiting::record).collect();
            self.change("DELETE $rows RETURN NONE", object! { rows: rows }).await?;
        }
        Ok(())
    }
}

fn read(row: &Row) -> Result<Waiting, StoreError> {
    let bad = unfit(&row.id);
    Ok(Waiting {
        room: parsed(text_part(&row.id, 0)?, &bad)?,
        origin: parsed(text_part(&row.id, 1)?, &bad)?,
        hash: text_part(&row.id, 2)?.to_owned(),
        since: time::from_row(row.since),
    })
}
