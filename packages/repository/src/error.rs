//! What can go wrong with the store. "Not found" is not among it: that is `Ok(None)`.

use std::{collections::HashMap, fmt::Display};

use surrealdb::types::{Error as EngineError, QueryError};

/// The store failed: the caller's request may be right, the database is not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another transaction changed the same rows first. Nothing was written; it can be tried again.
    #[error("the database reports a conflict with another transaction")]
    Conflict,
    /// A record of this id is there already. Nothing was written.
    #[error("the database has this record already")]
    Exists,
    /// The engine could not write, now or earlier. Nothing is written any more: see [`Database::fails`](crate::Database::fails).
    #[error("the database could not be written: {0}")]
    Unwritten(String),
    /// The engine refused or failed.
    #[error("the database failed: {0}")]
    Engine(String),
    /// A row is not what this version writes.
    #[error("the row {row} of table {table} can't be read: {why}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The row's id, or as much of it as is known.
        row: String,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// A row that can't be read: its table, its id or as much of it as is known, and what is wrong with it.
    #[must_use]
    pub fn inconsistent(table: &'static str, row: impl Display, why: impl Display) -> Self {
        Self::Inconsistent { table, row: row.to_string(), why: why.to_string() }
    }
}

/// How the engine says that its log could not be written or synced, for which it has no kind of error.
const UNWRITTEN: [&str; 3] = ["WAL error", "IO error", "commit outcome is unknown"];

impl From<EngineError> for StoreError {
    fn from(error: EngineError) -> Self {
        if error.query_details() == Some(&QueryError::TransactionConflict)
            || error.message().contains("can be retried")
        {
            return Self::Conflict;
        }
        if error.is_already_exists() {
            return Self::Exists;
        }
        let message = error.message();
        if UNWRITTEN.iter().any(|sign| message.contains(sign)) {
            return Self::Unwritten(message.to_owned());
        }
        Self::Engine(message.to_owned())
    }
}

/// The one error that tells why a query of several statements failed.
///
/// In a failed transaction every statement has an error; all but one say only that they were not executed.
pub(crate) fn telling(errors: HashMap<usize, EngineError>) -> Option<StoreError> {
    let mut errors: Vec<_> = errors.into_iter().collect();
    errors.sort_by_key(|(statement, _)| *statement);
    let mut found: Option<StoreError> = None;
    for (_, error) in errors {
        let consequence =
            matches!(error.query_details(), Some(QueryError::NotExecuted | QueryError::Cancelled));
        let error = StoreError::from(error);
        match (&found, &error) {
            (_, StoreError::Conflict | StoreError::Unwritten(_)) => return Some(error),
            (None, _) => found = Some(error),
            (Some(_), _) if !consequence => found = Some(error),
            _ => {}
        }
    }
    found
}
