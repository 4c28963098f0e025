//! The command line: a file a command.

mod admin;
mod config;
mod generate_key;
mod migrate;
mod serve;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, Loaded};

/// What a command ends with: nothing, or the one line that goes to the terminal.
type Outcome = Result<(), Failure>;

/// Any error, which the person at the terminal reads.
type Failure = Box<dyn Error + Send + Sync>;

/// A Matrix homeserver.
#[derive(Debug, Parser)]
#[command(name = "matryx", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// The configuration file. Without one the defaults hold: a server named localhost for this machine alone
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also what happens without a command)
    Serve,
    /// Print the configuration as it is understood, secrets hidden
    Config(config::Arguments),
    /// Print a new signing key, write it into a file that does not exist yet, or replace the server's
    GenerateKey(generate_key::Arguments),
    /// Bring the database up to the schema of this version, which serve does too
    Migrate,
    /// Make, change and close accounts; the server must not be running
    Admin(admin::Arguments),
}

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let file = arguments.config.as_deref();
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(file),
        Command::Config(options) => config::run(&options, file),
        Command::GenerateKey(options) => generate_key::run(&options, file),
        Command::Migrate => migrate::run(file),
        Command::Admin(options) => admin::run(options, file),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matryx: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration from a file and this process's environment.
fn load(file: Option<&Path>) -> Result<Loaded, ConfigError> {
    // A variable that is not UTF-8 is none of ours.
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    Config::load(file, environment)
}

/// Runs something on the server's runtime: on one of its threads, because the first has only the usual stack.
fn in_runtime(work: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    let runtime = matryx_repository::runtime()?;
    let outcome = runtime.block_on(runtime.spawn(work))?;
    // What is still running has had its time.
    runtime.shutdown_background();
    outcome
}
