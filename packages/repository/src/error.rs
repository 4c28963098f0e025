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
        table: String,
        /// The row's id, or as much of it as is known.
        row: String,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// A row that can't be read: its table, its id or as much of it as is known, and what is wrong with it.
    #[must_use]
    pub fn inconsistent(table: impl Into<String>, row: impl Display, why: impl Display) -> Self {
        Self::Inconsistent { table: table.into(), row: row.to_string(), why: why.to_string() }
    }
}

/// How the engine says that its log could not be written or synced, for which it has no kind of error. `tests/crash.rs` fills a
/// disk, and fails if it comes to say it otherwise.
const UNWRITTEN: [&str; 3] = ["WAL error", "IO error", "commit outcome is unknown"];

impl From<EngineError> for StoreError {
    fn from(error: EngineError) -> Self {
        if error.query_details() == Some(&QueryError::TransactionConflict) {
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

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use surrealdb::types::object;
    use tokio::task::JoinSet;

    use super::*;
    use crate::{Database, DatabaseSettings};

    /// Runs this against itself until somebody loses.
    async fn race(database: &Database, sql: &'static str) {
        for _ in 0..1000 {
            let mut racers = JoinSet::new();
            for _ in 0..8 {
                let database = database.clone();
                racers.spawn(async move { database.ask(sql, object! {}).await.map(drop) });
            }
            let mut lost = false;
            for done in racers.join_all().await {
                match done {
                    Ok(()) => {}
                    Err(StoreError::Conflict) => lost = true,
                    Err(other) => panic!("{other:?}"),
                }
            }
            if lost {
                return;
            }
        }
        panic!("nobody lost");
    }

    #[test]
    fn a_race_that_is_lost_is_a_conflict() {
        let test = async {
            let folder = tempfile::tempdir().unwrap();
            let settings = DatabaseSettings::in_passing(folder.path());
            let database = Database::open(&settings, server_name!("x")).await.unwrap();
            race(&database, "UPDATE store:server SET at = rand()").await;
            race(&database, "{ UPDATE store:server SET at = rand(); RETURN 1 }").await;
            race(&database, "BEGIN; UPDATE store:server SET at = rand(); RETURN 1; COMMIT").await;
            database.close().await.unwrap();
        };
        crate::runtime().unwrap().block_on(async { tokio::spawn(test).await.unwrap() });
    }
}
