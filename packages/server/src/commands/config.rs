//! `matryx config`: what the server would run with, or what is wrong with it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Outcome;
use crate::config;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The file to check, in place of the one of --config
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,

    /// Print an example file instead, with every key, its explanation and its default
    #[arg(long, conflicts_with = "check")]
    example: bool,
}

pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Outcome {
    if arguments.example {
        print!("{}", config::example());
        return Ok(());
    }
    let loaded = super::load(arguments.check.as_deref().or(file))?;
    for warning in &loaded.warnings {
        eprintln!("matryx: {warning}");
    }
    print!("{}", toml::to_string(&loaded.config)?);
    Ok(())
}
