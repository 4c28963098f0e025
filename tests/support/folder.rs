//! Folders for the data of servers under test.

use std::{fs, path::Path, sync::Once};

use tempfile::TempDir;

/// An empty folder below the target folder.
///
/// Servers that a file's tests share live until the process ends, and nothing drops them: what earlier runs left behind
/// is swept out here.
pub fn empty() -> TempDir {
    static SWEEP: Once = Once::new();
    let below = Path::new(env!("CARGO_TARGET_TMPDIR"));
    SWEEP.call_once(|| sweep(below));
    let prefix = format!("server-{}-", std::process::id());
    TempDir::with_prefix_in(prefix, below).expect("a folder below the target folder")
}

/// Removes the folders of processes that have ended.
fn sweep(below: &Path) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process =
            name.to_str().and_then(|name| name.strip_prefix("server-")?.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another run may be sweeping, too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
