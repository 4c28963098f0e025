//! What users say about themselves: `profile:[user, field]`, each value as JSON text.

use std::collections::BTreeMap;

use ruma::UserId;
use serde_json::Value as Json;
use surrealdb::types::{RecordId, SurrealValue, object};

use crate::{Database, StoreError, value};

#[derive(SurrealValue)]
struct Row {
    id: RecordId,
    value: String,
}

fn id(user: &UserId, field: &str) -> RecordId {
    value::record("profile", [user.as_str().into_value(), field.into_value()])
}

fn read(user: &UserId, field: &str, text: &str) -> Result<Json, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::inconsistent("profile", format_args!("{user} {field}"), error))
}

impl Database {
    /// All fields of a user's profile, by name. Empty where there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn profile(&self, user: &UserId) -> Result<BTreeMap<String, Json>, StoreError> {
        let fields = value::beginning_with("profile", [user.as_str().into_value()]);
        let mut answer =
            self.ask("SELECT id, value FROM $fields", object! { fields: fields }).await?;
        let rows: Vec<Row> = answer.take(0)?;
        rows.into_iter()
            .map(|row| {
                let field = value::text_part(&row.id, 1)?.to_owned();
                let value = read(user, &field, &row.value)?;
                Ok((field, value))
            })
            .collect()
    }

    /// One field of a user's profile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn profile_field(
        &self,
        user: &UserId,
        field: &str,
    ) -> Result<Option<Json>, StoreError> {
        let variables = object! { field: id(user, field) };
        let mut answer = self.ask("SELECT VALUE value FROM ONLY $field", variables).await?;
        let text: Option<String> = answer.take(0)?;
        text.map(|text| read(user, field, &text)).transpose()
    }

    /// Writes one field.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_profile_field(
        &self,
        user: &UserId,
        field: &str,
        value: &Json,
    ) -> Result<(), StoreError> {
        let variables = object! { field: id(user, field), text: value.to_string() };
        self.change("UPSERT $field SET value = $text RETURN NONE", variables).await.map(drop)
    }

    /// Removes one field. One that is not there is no error.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_profile_field(&self, user: &UserId, field: &str) -> Result<(), StoreError> {
        self.change("DELETE $field", object! { field: id(user, field) }).await.map(drop)
    }
}
