//! Servers that do not answer: `destination:⟨server name⟩`.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use surrealdb::types::{RecordId, SurrealValue, object};

use crate::{
    Database, StoreError, time,
    value::{name_of, named, parsed, unfit},
};

/// What is known of a server that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// How often in a row it was tried.
    pub failures: u32,
    /// When it was first not there.
    pub since: MilliSecondsSinceUnixEpoch,
    /// Until when it is left alone.
    pub until: MilliSecondsSinceUnixEpoch,
}

#[derive(SurrealValue)]
struct Row {
    id: RecordId,
    failures: i64,
    since: i64,
    until: i64,
}

impl Database {
    /// The servers that do not answer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn absences(&self) -> Result<Vec<(OwnedServerName, Absence)>, StoreError> {
        let sql = "SELECT id, failures, since, until FROM destination WHERE type::is_int(failures)";
        let mut answer = self.ask(sql, object! {}).await?;
        answer.take::<Vec<Row>>(0)?.iter().map(read).collect()
    }

    /// Keeps that a server does not answer, or answers again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_absence(
        &self,
        server: &ServerName,
        absence: Option<&Absence>,
    ) -> Result<(), StoreError> {
        let row = named("destination", server);
        let Some(absence) = absence else {
            let sql = "DELETE $row RETURN NONE";
            return self.change(sql, object! { row: row }).await.map(drop);
        };
        let sql =
            "UPSERT $row SET failures = $failures, since = $since, until = $until RETURN NONE";
        let variables = object! {
            row: row,
            failures: i64::from(absence.failures),
            since: time::to_row(absence.since),
            until: time::to_row(absence.until),
        };
        self.change(sql, variables).await.map(drop)
    }
}

fn read(row: &Row) -> Result<(OwnedServerName, Absence), StoreError> {
    let server = parsed(name_of(&row.id)?, &unfit(&row.id))?;
    let absence = Absence {
        failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
        since: time::from_row(row.since),
        until: time::from_row(row.until),
    };
    Ok((server, absence))
}
