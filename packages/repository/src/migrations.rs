//! The schema's history: numbered files, embedded in the binary, applied once each, in order.

use sha2::{Digest, Sha256};
use surrealdb::types::{RecordId, SurrealValue, object};

use crate::{Database, OpenError, StoreError, database, value};

/// One file of `migrations/`.
struct Migration {
    number: i64,
    name: &'static str,
    text: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            number: $number,
            name: $name,
            text: include_str!(concat!("../../../migrations/", $name)),
        }),*]
    };
}

/// All of them. What has been released is never edited, only followed.
const MIGRATIONS: &[Migration] = migrations![
    1 "0001_rooms.surql",
    2 "0002_accounts.surql",
    3 "0003_federation.surql",
    4 "0004_imports.surql",
];

#[derive(SurrealValue)]
struct Applied {
    id: RecordId,
    sha256: String,
}

/// Applies what is missing, each file in a transaction of its own.
pub(crate) async fn run(database: &Database) -> Result<(), OpenError> {
    let failed = |error: StoreError| OpenError::Engine(error.to_string());
    database
        .ask("DEFINE TABLE IF NOT EXISTS migration SCHEMALESS TYPE NORMAL", object! {})
        .await
        .map_err(failed)?;
    let mut answer =
        database.ask("SELECT id, sha256 FROM migration", object! {}).await.map_err(failed)?;
    let applied: Vec<Applied> = answer.take(0).map_err(|e| failed(e.into()))?;
    for row in &applied {
        let number = value::number_part(&row.id, 0).map_err(failed)?;
        check(number, &row.sha256)?;
    }
    for migration in MIGRATIONS.iter().skip(applied.len()) {
        apply(database, migration).await.map_err(failed)?;
    }
    Ok(())
}

/// A migration of the store must be one of ours, unchanged.
fn check(number: i64, sha256: &str) -> Result<(), OpenError> {
    match MIGRATIONS.iter().find(|known| known.number == number) {
        None => Err(database::OpenError::Schema(format!(
            "the data directory has schema {number}, this binary knows up to {}; it was written by a newer Matryx, run that one",
            MIGRATIONS.len()
        ))),
        Some(known) if checksum(known.text) != sha256 => Err(database::OpenError::Schema(format!(
            "the data directory's schema {} ({}) has another content than this binary's",
            known.number, known.name
        ))),
        Some(_) => Ok(()),
    }
}

async fn apply(database: &Database, migration: &Migration) -> Result<(), StoreError> {
    let sql = format!(
        "BEGIN; {}; CREATE $migration SET name = $name, sha256 = $sha256; COMMIT",
        migration.text
    );
    let variables = object! {
        migration: value::record("migration", vec![migration.number.into_value()]),
        name: migration.name,
        sha256: checksum(migration.text),
    };
    tracing::info!(migration.name, "database.migrate");
    database.ask(&sql, variables).await.map(drop)
}

/// Hexadecimal SHA-256.
fn checksum(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::DatabaseSettings;

    /// Opens a store, does this to it, and says why it can't be opened again.
    fn reopened(sql: &'static str) -> Option<String> {
        let test = async move {
            let folder = tempfile::tempdir().unwrap();
            let settings = DatabaseSettings::in_passing(folder.path());
            let database = Database::open(&settings, server_name!("x")).await.unwrap();
            database.ask(sql, object! {}).await.unwrap();
            database.close().await.unwrap();
            match Database::open(&settings, server_name!("x")).await {
                Ok(database) => {
                    database.close().await.unwrap();
                    None
                }
                Err(error) => Some(error.to_string()),
            }
        };
        crate::runtime().unwrap().block_on(async { tokio::spawn(test).await.unwrap() })
    }

    #[test]
    fn a_store_is_opened_again() {
        assert_eq!(reopened("RETURN 1"), None);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let why = reopened("CREATE migration:[99] SET name = 'later', sha256 = ''").unwrap();
        assert!(why.contains("schema 99") && why.contains("newer Matryx"), "{why}");
    }

    #[test]
    fn a_schema_with_another_content_is_refused() {
        let why = reopened("UPDATE migration:[1] SET sha256 = 'other'").unwrap();
        assert!(why.contains("0001_rooms.surql") && why.contains("another content"), "{why}");
    }
}
