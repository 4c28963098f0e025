//! What the engine would pass over: a folder without its manifest is a new one to it, and of a damaged write-ahead log it keeps
//! what comes before the damage, drops the rest, and goes on. Both would lose what has been acknowledged.
//!
//! The log is made of blocks of 32 KiB, a block of fragments: checksum, length, kind, content. A fragment that can't be read at
//! the log's end is what a lost power supply leaves; one with readable events behind it is damage.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use crate::OpenError;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
/// What a disk writes as a whole: where the power goes, what was not written reads as zeros.
const SECTOR: usize = 512;

/// A fragment's kind: the rest of the block is empty.
const EMPTY: u8 = 0;
/// A fragment's kind: with this one a new write begins.
const BEGINNINGS: [u8; 2] = [1, 2];
/// A fragment's kind: of the same write there is more.
const UNFINISHED: [u8; 2] = [2, 3];
/// A fragment's kind: how the rest is compressed, which has no checksum.
const COMPRESSION: u8 = 9;

/// Looks over a database's folder before the engine does.
///
/// # Errors
/// When something is lost that was there, or can't be read.
pub(crate) fn look_over(path: &Path) -> Result<(), OpenError> {
    if holds(path, "sstables", "sst")?.next().is_some()
        && holds(path, "manifest", "manifest")?.next().is_none()
    {
        return Err(OpenError::Damaged(format!(
            "the database in {} has lost its manifest, without which nothing in it is found: put the data directory \
             back from a backup",
            path.display()
        )));
    }
    for log in holds(path, "wal", "wal")? {
        let damage = damage(&log).map_err(|source| unreadable(&log, source))?;
        if let Some(place) = damage {
            let log = log.display();
            return Err(OpenError::Damaged(format!(
                "the database's log {log} is damaged at byte {place}, and what was written after that is not: put the \
                 data directory back from a backup. To go on with what was written before, and without all that came \
                 after: truncate --size={place} {log}"
            )));
        }
    }
    Ok(())
}

fn unreadable(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Directory { path: path.to_owned(), source }
}

/// The files of one kind in a folder of the database.
fn holds(
    path: &Path,
    folder: &str,
    kind: &'static str,
) -> Result<impl Iterator<Item = PathBuf>, OpenError> {
    let folder = path.join(folder);
    let found = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| unreadable(&folder, source))?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(unreadable(&folder, source)),
    };
    Ok(found.into_iter().filter(move |file| file.extension().is_some_and(|is| is == kind)))
}

/// Where a log is damaged, if anything behind that place can be read.
fn damage(log: &Path) -> std::io::Result<Option<u64>> {
    let mut log = File::open(log)?;
    let mut block = Vec::with_capacity(BLOCK);
    let mut damage = None;
    let mut start = 0;
    loop {
        block.clear();
        log.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        let mut at = 0;
        while at + HEADER <= block.len() {
            match fragment(&block[at..]) {
                Fragment::Readable { kind, length } => {
                    if damage.is_some() && BEGINNINGS.contains(&kind) {
                        return Ok(damage);
                    }
                    at += HEADER + length;
                }
                Fragment::Padding => break,
                Fragment::Unreadable { length } => {
                    if damage.is_none() {
                        if unwritten(&block, at) {
                            return Ok(None);
                        }
                        damage = Some(start + at as u64);
                    }
                    match length {
                        Some(length) => at += HEADER + length,
                        None => break,
                    }
                }
            }
        }
        start += block.len() as u64;
    }
}

/// Whether a log ends with something that is not a whole write.
pub(crate) fn is_torn(log: &Path) -> std::io::Result<bool> {
    let mut log = File::open(log)?;
    let mut block = Vec::with_capacity(BLOCK);
    let mut torn = false;
    loop {
        block.clear();
        log.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(torn);
        }
        let mut at = 0;
        while at + HEADER <= block.len() {
            match fragment(&block[at..]) {
                Fragment::Readable { kind, length } => {
                    torn = UNFINISHED.contains(&kind);
                    at += HEADER + length;
                }
                Fragment::Padding => {
                    torn = true;
                    at = block.len();
                }
                Fragment::Unreadable { .. } => return Ok(true),
            }
        }
        if at < block.len() && block.len() < BLOCK {
            return Ok(true);
        }
    }
}

enum Fragment {
    Readable {
        kind: u8,
        length: usize,
    },
    Padding,
    /// With its length, if that leads to a place within the block.
    Unreadable {
        length: Option<usize>,
    },
}

/// The fragment that a part of a block begins with.
fn fragment(block: &[u8]) -> Fragment {
    let (head, rest) = block.split_at(HEADER);
    let &[a, b, c, d, high, low, kind] = head else { return Fragment::Padding };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let Some(content) = rest.get(..length) else { return Fragment::Unreadable { length: None } };
    if kind == EMPTY && block.iter().all(|byte| *byte == 0) {
        return Fragment::Padding;
    }
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[kind]);
    sum.update(content);
    if kind == COMPRESSION || sum.finalize() == u32::from_be_bytes([a, b, c, d]) {
        return Fragment::Readable { kind, length };
    }
    Fragment::Unreadable { length: Some(length) }
}

/// Whether a block has a sector from this place on that was never written.
fn unwritten(block: &[u8], from: usize) -> bool {
    let mut sectors = block[from.next_multiple_of(SECTOR).min(block.len())..].chunks_exact(SECTOR);
    sectors.any(|sector| sector.iter().all(|byte| *byte == 0))
}
