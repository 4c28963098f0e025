//! `matryx migrate`: the database, up to the schema of this version.

use std::path::Path;

use super::Outcome;
use crate::lifecycle;

pub(super) fn run(file: Option<&Path>) -> Outcome {
    let config = super::load(file)?.config;
    super::in_runtime(async move {
        let (database, _) = lifecycle::open(&config).await?;
        database.close().await?;
        println!("the database {} is up to date", config.database_url());
        Ok(())
    })
}
