//! `[log]`

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::section::section;

section! {
    /// What is logged, and how.
    Log {
        /// error, warn, info, debug or trace; also for parts: `"info,matryx_server::http=debug"`.
        level: String = "info".to_owned();
        /// "text" for people, "json" for programs.
        format: Format = Format::Text;
    }
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

impl Log {
    /// The level as a filter.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn filter(&self) -> Result<EnvFilter, String> {
        // A bare word that is no level would be taken for a module, and silence all the others.
        let bare = |part: &&str| !part.contains(['=', ':', '[']);
        if let Some(word) = self
            .level
            .split(',')
            .map(str::trim)
            .filter(bare)
            .find(|word| word.is_empty() || word.parse::<LevelFilter>().is_err())
        {
            return Err(format!("\"{word}\" is no level"));
        }
        // SurrealDB tells a lot about itself, SurrealKV warns when a thread that is not ours lets go of the store, and ruma
        // tells of every event that it is allowed, and which rule said so.
        let level = format!(
            "surrealdb=warn,surrealdb_core=warn,surrealkv=error,ruma_state_res=warn,{}",
            self.level
        );
        EnvFilter::builder().parse(level).map_err(|error| error.to_string())
    }

    pub(super) fn validate(&self) -> Vec<String> {
        let Err(why) = self.filter() else { return Vec::new() };
        vec![format!(
            "log.level is \"{}\" ({why}): it must be error, warn, info, debug, trace, or a list such as \"info,matryx_server::http=debug\"",
            self.level
        )]
    }
}
