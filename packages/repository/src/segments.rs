//! What the engine forgets between two files of its write-ahead log.
//!
//! The log is a row of numbered files, one for what is in memory at a time. A write that memory has no more room for has been
//! written to the old file when the next one is begun, and goes to memory beside what is in that one. When the old memory
//! is a table on disk, the engine removes the old file; until the new memory is one, too, nothing on disk has that write,
//! and a crash would lose it.
//!
//! So each file of the log has a second name, in a folder of its own, until the file after it has gone. A start that finds a
//! log, which an orderly end leaves none of, puts the file back that was before it, and has all of it read again. What is
//! in a table already is written there once more, as it was.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{database::own_directory, intact::is_torn};

/// The files of an open database's log, and their second names.
#[derive(Debug)]
pub(crate) struct Segments {
    log: PathBuf,
    kept: PathBuf,
    /// The newest file that has a second name.
    newest: AtomicU64,
}

impl Segments {
    /// Before the engine opens a folder: puts back what it has removed too early.
    ///
    /// Whatever stops it on its way, the next start goes on from there: the files stay in their order.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub(crate) fn put_back(folder: &Path) -> io::Result<()> {
        let segments = Self::of(folder);
        let there = numbers(&segments.log)?;
        if let Some(first) = there.first() {
            if let Some(before) = first.checked_sub(1)
                && numbers(&segments.kept)?.contains(&before)
            {
                fs::hard_link(name(&segments.kept, before), name(&segments.log, before))?;
            }
            segments.renumber()?;
        }
        segments.forget(|_| true)
    }

    /// Gives all files new numbers, behind every number that the engine may remember as done with.
    ///
    /// Of a file that ends in the middle of a write the engine makes another one; where it is the last one, it has opened
    /// it by then to write on, and would write where nobody ever reads. So there is one more after such a file.
    fn renumber(&self) -> io::Result<()> {
        let there = numbers(&self.log)?;
        let Some(last) = there.last() else { return Ok(()) };
        // The last one first: wherever this stops, their order is the same.
        for (index, number) in there.iter().enumerate().rev() {
            fs::rename(name(&self.log, *number), name(&self.log, last + 1 + index as u64))?;
        }
        let newest = last + there.len() as u64;
        if is_torn(&name(&self.log, newest))? {
            File::create_new(name(&self.log, newest + 1))?;
        }
        File::open(&self.log)?.sync_all()
    }

    /// Follows the log of a folder that the engine has just opened.
    pub(crate) fn follow(folder: &Path) -> Self {
        let segments = Self::of(folder);
        segments.catch_up();
        segments
    }

    fn of(folder: &Path) -> Self {
        Self { log: folder.join("wal"), kept: folder.join("kept"), newest: AtomicU64::new(0) }
    }

    /// To be called between a write and its acknowledgement.
    pub(crate) fn written(&self) {
        let newest = self.newest.load(Ordering::Relaxed);
        let there = |number| fs::exists(name(&self.log, number));
        // Where the newest has gone, the next has been there, and may have gone as well.
        if there(newest + 1).unwrap_or(true) || !there(newest).unwrap_or(false) {
            self.catch_up();
        }
    }

    fn catch_up(&self) {
        if let Err(error) = self.keep() {
            tracing::warn!(
                %error,
                "a file of the database's log can't be kept in {}: a crash may lose the last write before it",
                self.kept.display()
            );
        }
    }

    /// Gives a second name to all that are there, and takes it from those that are not needed any more.
    fn keep(&self) -> io::Result<()> {
        let there = numbers(&self.log)?;
        let (Some(first), Some(last)) = (there.first(), there.last()) else { return Ok(()) };
        // Also where one of them can't be kept: once is enough to be told of it.
        self.newest.store(*last, Ordering::Relaxed);
        own_directory(&self.kept)?;
        for number in &there {
            match fs::hard_link(name(&self.log, *number), name(&self.kept, *number)) {
                // It had one before; or the engine has just removed it, and it has had one before.
                Err(error)
                    if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
                linked => linked?,
            }
        }
        File::open(&self.kept)?.sync_all()?;
        self.forget(|number| number + 1 < *first)
    }

    /// After the engine has closed the folder: if that has left no log, nothing is needed any more.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub(crate) fn closed(&self) -> io::Result<()> {
        if numbers(&self.log)?.is_empty() { self.forget(|_| true) } else { Ok(()) }
    }

    fn forget(&self, unneeded: impl Fn(u64) -> bool) -> io::Result<()> {
        for number in numbers(&self.kept)?.into_iter().filter(|number| unneeded(*number)) {
            match fs::remove_file(name(&self.kept, number)) {
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}

fn name(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.wal"))
}

/// The numbers of the files in a folder, in the order in which they were written.
fn numbers(folder: &Path) -> io::Result<BTreeSet<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let entry = entry?.file_name();
        let number = entry.to_str().and_then(|entry| entry.strip_suffix(".wal"));
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A folder with these files in the log, and these with a second name; each says its number.
    fn folder(log: &[u64], kept: &[u64]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (place, numbers) in [("wal", log), ("kept", kept)] {
            fs::create_dir(folder.path().join(place)).unwrap();
            for number in numbers {
                let file = name(&folder.path().join(place), *number);
                fs::write(file, number.to_string()).unwrap();
            }
        }
        folder
    }

    /// What the log's files say, and what has a second name.
    fn found(folder: &TempDir) -> (Vec<(u64, String)>, Vec<u64>) {
        let [log, kept] = ["wal", "kept"].map(|place| folder.path().join(place));
        let says = |number| (number, fs::read_to_string(name(&log, number)).unwrap());
        let log = numbers(&log).unwrap().into_iter().map(says).collect();
        (log, numbers(&kept).unwrap().into_iter().collect())
    }

    fn says(files: &[(u64, &str)]) -> Vec<(u64, String)> {
        files.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
    }

    #[test]
    fn what_was_before_the_log_is_put_back_with_numbers_that_are_new() {
        // None of these is a whole write, so that there is always one more.
        for (log, kept, after) in [
            (&[5, 6][..], &[4, 5, 6][..], &[(7, "4"), (8, "5"), (9, "6"), (10, "")][..]),
            // Nobody knows what was in between.
            (&[5, 6], &[3], &[(7, "5"), (8, "6"), (9, "")]),
            (&[0], &[0], &[(1, "0"), (2, "")]),
            // A start that was stopped on its way.
            (&[4, 5, 9], &[4, 5], &[(10, "4"), (11, "5"), (12, "9"), (13, "")]),
            // It was closed.
            (&[], &[3, 4], &[]),
        ] {
            let folder = folder(log, kept);
            Segments::put_back(folder.path()).unwrap();
            assert_eq!(found(&folder), (says(after), Vec::new()), "{log:?} {kept:?}");
        }
        Segments::put_back(tempfile::tempdir().unwrap().path()).unwrap();
    }

    #[test]
    fn each_file_is_kept_until_the_next_has_gone() {
        let folder = folder(&[3], &[1]);
        let log = folder.path().join("wal");
        let segments = Segments::follow(folder.path());
        assert_eq!(found(&folder).1, [3]);
        let step = |begins: u64, goes: Option<u64>| {
            fs::write(name(&log, begins), "").unwrap();
            segments.written();
            if let Some(goes) = goes {
                fs::remove_file(name(&log, goes)).unwrap();
            }
            found(&folder).1
        };
        assert_eq!(step(4, Some(3)), [3, 4]);
        assert_eq!(step(5, None), [3, 4, 5]);
        assert_eq!(step(6, Some(4)), [3, 4, 5, 6]);
        assert_eq!(step(7, None), [4, 5, 6, 7]);
        segments.closed().unwrap();
        assert_eq!(found(&folder).1, [4, 5, 6, 7]);
        // Nobody had a look while the next one came and went.
        for number in 5..=7 {
            fs::remove_file(name(&log, number)).unwrap();
        }
        assert_eq!(step(9, None), [9]);
        fs::remove_file(name(&log, 9)).unwrap();
        segments.closed().unwrap();
        assert_eq!(found(&folder), (Vec::new(), Vec::new()));
    }
}
