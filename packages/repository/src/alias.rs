//! `alias:⟨room alias⟩` and `room_alias:[room, alias]`: the local room aliases, found from both ends.

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError,
    value::{beginning_with, named, parsed, record, text_part, unfit},
};

/// A local alias and where it points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The alias.
    pub alias: OwnedRoomAliasId,
    /// Its room.
    pub room: OwnedRoomId,
    /// Who made it: they may remove it.
    pub creator: OwnedUserId,
}

#[derive(SurrealValue)]
struct AliasRow {
    room: String,
    creator: String,
}

/// Its row from either end.
pub(crate) fn rows_of(alias: &Alias) -> [(RecordId, Object); 2] {
    let back = vec![alias.room.as_str().into_value(), alias.alias.as_str().into_value()];
    [
        (
            named("alias", &alias.alias),
            object! { room: alias.room.as_str(), creator: alias.creator.as_str() },
        ),
        (record("room_alias", back), Object::new()),
    ]
}

impl Database {
    /// Where an alias points.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<Option<Alias>, StoreError> {
        let mut answer = self
            .ask("SELECT room, creator FROM ONLY $id", object! { id: named("alias", alias) })
            .await?;
        let Some(row) = answer.take::<Option<AliasRow>>(0)? else { return Ok(None) };
        let bad = |why| StoreError::inconsistent("alias", alias, why);
        Ok(Some(Alias {
            alias: alias.to_owned(),
            room: parsed(&row.room, &bad)?,
            creator: parsed(&row.creator, &bad)?,
        }))
    }

    /// The local aliases of a room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn aliases_of(&self, room: &RoomId) -> Result<Vec<OwnedRoomAliasId>, StoreError> {
        #[derive(SurrealValue)]
        struct Row {
            id: RecordId,
        }
        let range = beginning_with("room_alias", vec![room.as_str().into_value()]);
        let mut answer = self.ask("SELECT id FROM $range", object! { range: range }).await?;
        answer
            .take::<Vec<Row>>(0)?
            .iter()
            .map(|row| parsed(text_part(&row.id, 1)?, &unfit(&row.id)))
            .collect()
    }

    /// Writes an alias. `false` if it was taken.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_alias(&self, alias: &Alias) -> Result<bool, StoreError> {
        if self.alias(&alias.alias).await?.is_some() {
            return Ok(false);
        }
        let [(forth_id, forth), (back_id, back)] = rows_of(alias);
        let rows = object! { forth_id: forth_id, forth: forth, back_id: back_id, back: back };
        let sql = "BEGIN; CREATE $forth_id CONTENT $forth; CREATE $back_id CONTENT $back; COMMIT";
        match self.ask(sql, rows).await {
            Ok(_) => Ok(true),
            // Another request was faster: the record id is what makes an alias unique.
            Err(error) => match self.alias(&alias.alias).await? {
                Some(_) => Ok(false),
                None => Err(error),
            },
        }
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_alias(&self, alias: &Alias) -> Result<(), StoreError> {
        let [(forth, _), (back, _)] = rows_of(alias);
        let ids = object! { forth: forth, back: back };
        self.ask("BEGIN; DELETE $forth; DELETE $back; COMMIT", ids).await.map(drop)
    }
}
