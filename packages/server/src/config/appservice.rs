//! `[appservice]`

use std::path::PathBuf;

use super::section::section;

section! {
    /// Application services: bridges and bots.
    Appservice {
        /// Their registration files, YAML.
        registration_files: Vec<PathBuf> = Vec::new();
    }
}
