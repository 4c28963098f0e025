//! `matryx generate-key`: a signing key, in the form that its file has.

use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use crate::{files, random::Random};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Where to write it; the server looks for signing.key below `data_dir`
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Some(path) = &arguments.output else {
        println!("{}", files::signing_key(&Random::machine()));
        return Ok(());
    };
    // A key is never overwritten: other servers would no longer believe what it has signed.
    if path.exists() {
        return Err(format!("{} is already there", path.display()).into());
    }
    files::make(path, &files::signing_key(&Random::machine()))
        .map_err(|error| format!("{} can't be written: {error}", path.display()).into())
}
