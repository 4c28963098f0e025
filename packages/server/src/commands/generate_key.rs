//! `matryx generate-key`: a signing key, in the form that its file has, or in place of the one that is there.

use std::path::{Path, PathBuf};

use clap::Args;
use matryx_core::event::SigningKey;

use super::Outcome;
use crate::{clock::Clock, config::Config, files, lifecycle, random::Random};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Where to write it; the server looks for signing.key below `data_dir`
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the server's key: the old one is published as one that was valid until now. The server must not be running
    #[arg(long, conflicts_with = "output")]
    rotate: bool,
}

pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Outcome {
    if arguments.rotate {
        let config = super::load(file)?.config;
        return super::in_runtime(rotate(config));
    }
    let Some(path) = &arguments.output else {
        println!("{}", files::signing_key(&Random::machine()));
        return Ok(());
    };
    // A key is never overwritten: other servers would no longer believe what it has signed.
    if path.exists() {
        return Err(format!("{} is already there", path.display()).into());
    }
    write(path, &files::signing_key(&Random::machine()))
}

async fn rotate(config: Config) -> Outcome {
    // Nothing may be signed in the meantime, which the lock of the database sees to.
    let (database, keys) = lifecycle::open(&config).await?;
    let new = SigningKey::parse(&files::signing_key(&Random::machine()))?;
    let id = new.key_id().to_owned();
    let (signing, old) = keys.rotate(&new, Clock::machine().now());
    // The old key first: one that stands in both files is valid.
    write(&config.data_dir.join(files::OLD_KEYS), &old)?;
    write(&config.data_dir.join(files::SIGNING_KEY), &signing)?;
    database.close().await?;
    println!("{id} signs from the next start on, in place of {}", keys.signing().key_id());
    Ok(())
}

fn write(path: &Path, text: &str) -> Outcome {
    files::make(path, text)
        .map_err(|error| format!("{} can't be written: {error}", path.display()).into())
}
