//! Filters of clients.

use std::sync::Arc;

use matryx_repository::StoreError;
use ruma::{UserId, api::client::filter::FilterDefinition};

use super::Users;

impl Users {
    /// Keeps a filter, given as JSON text, and returns its id. The same text has always the same id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_filter(&self, user: &UserId, json: &str) -> Result<String, StoreError> {
        self.0.database.keep_filter(user, json).await
    }

    /// A filter of a user, from memory if it was used lately.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn filter(
        &self,
        user: &UserId,
        id: &str,
    ) -> Result<Option<Arc<FilterDefinition>>, StoreError> {
        let key = (user.to_owned(), id.to_owned());
        if let Some(filter) = self.0.filters.get(&key) {
            return Ok(Some(filter));
        }
        let Some(json) = self.0.database.filter(user, id).await? else { return Ok(None) };
        let filter = serde_json::from_str(&json).map_err(|error| {
            StoreError::inconsistent("filter", format_args!("{user} {id}"), error)
        })?;
        let filter = Arc::new(filter);
        self.0.filters.insert(key, Arc::clone(&filter));
        Ok(Some(filter))
    }
}
