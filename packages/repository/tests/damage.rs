//! A database that is damaged is not opened as if nothing were missing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use matryx_repository::{Database, DatabaseSettings, OpenError};
use ruma::server_name;

async fn open(folder: &Path) -> Result<Database, OpenError> {
    let settings = DatabaseSettings {
        url: format!("surrealkv://{}", folder.join("database").display()),
        ..DatabaseSettings::in_passing(folder)
    };
    Database::open(&settings, server_name!("hs1")).await
}

fn run(test: impl Future<Output = ()>) {
    matryx_repository::runtime().unwrap().block_on(test);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The only file of a kind in a folder of the database.
fn file(folder: &Path, kind: &str) -> PathBuf {
    let mut files = fs::read_dir(folder.join("database").join(kind)).unwrap();
    files.next().unwrap().unwrap().path()
}

/// What a server leaves that was killed: its schema is in the log and nowhere else.
async fn killed(to: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).await.unwrap();
    copy(folder.path(), to);
    database.close().await.unwrap();
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x55;
    fs::write(file, bytes).unwrap();
}

/// The sentence with which a folder is refused.
async fn refused(folder: &Path) -> String {
    match open(folder).await {
        Err(OpenError::Damaged(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_that_is_damaged_in_the_middle_is_refused() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        killed(folder.path()).await;
        let log = file(folder.path(), "wal");
        flip(&log, fs::read(&log).unwrap().len() / 3);
        let why = refused(folder.path()).await;
        assert!(why.contains(&log.display().to_string()), "{why}");

        // The sentence says how to go on with what comes before the damage.
        let (_, size) = why.split_once("--size=").unwrap();
        let size = size.split(' ').next().unwrap().parse().unwrap();
        fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(size).unwrap();
        open(folder.path()).await.unwrap().close().await.unwrap();
    });
}

#[test]
fn a_log_whose_end_was_not_written_is_opened() {
    run(async {
        for torn in [1, 100] {
            let folder = tempfile::tempdir().unwrap();
            killed(folder.path()).await;
            let log = file(folder.path(), "wal");
            let size = fs::metadata(&log).unwrap().len();
            fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(size - torn).unwrap();
            open(folder.path()).await.unwrap().close().await.unwrap();
        }
        // The end has got its place on the disk, but not its content.
        let folder = tempfile::tempdir().unwrap();
        killed(folder.path()).await;
        let log = file(folder.path(), "wal");
        let mut bytes = fs::read(&log).unwrap();
        let end = bytes.len() - 1000;
        let zeros = end - 3000 - (end - 3000) % 512;
        bytes[zeros..zeros + 2048].fill(0);
        fs::write(&log, bytes).unwrap();
        open(folder.path()).await.unwrap().close().await.unwrap();
    });
}

#[test]
fn tables_without_their_manifest_are_refused() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).await.unwrap().close().await.unwrap();
        let manifest = file(folder.path(), "manifest");
        fs::remove_file(&manifest).unwrap();
        let why = refused(folder.path()).await;
        assert!(why.contains("manifest"), "{why}");
        assert!(!manifest.exists());
    });
}
