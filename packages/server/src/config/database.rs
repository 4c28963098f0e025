//! `[database]`

use super::{Size, section::section};

section! {
    /// The embedded database.
    Database {
        /// Where it is. Without it: the folder "database" below `data_dir`.
        url: Option<String> = None, e.g. "\"surrealkv:///var/lib/matryx/database\"";
        /// The most that is kept in memory before it goes into a file of its own. Takes KiB, MiB and GiB.
        memtable: Size = Size::mebibytes(64);
        /// The most of the files that is kept in memory.
        block_cache: Size = Size::mebibytes(64);
    }
}

impl Database {
    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(url) = &self.url
            && url.strip_prefix("surrealkv://").is_none_or(str::is_empty)
        {
            problems.push(format!(
                "database.url is \"{url}\": it must be of the form surrealkv://PATH"
            ));
        }
        for (key, size) in [("memtable", self.memtable), ("block_cache", self.block_cache)] {
            if size < Size::mebibytes(1) {
                problems.push(format!("database.{key} is {size}: it must be at least 1 MiB"));
            }
        }
        problems
    }
}
