//! `matryx serve`: the server, until it is told to stop.

use std::{io::IsTerminal, path::Path};

use tokio::signal::unix::{SignalKind, signal};

use super::Outcome;
use crate::{
    clock::Clock,
    config::{Config, Format, Log},
    lifecycle::{RunningServer, Server},
};

pub(super) fn run(file: Option<&Path>) -> Outcome {
    let loaded = super::load(file)?;
    start_log(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    super::in_runtime(serve(loaded.config))
}

async fn serve(config: Config) -> Outcome {
    // Listened for before anything is opened: a signal during the start is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut told = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };

    let own_token = config.registration.token.is_some();
    let server = tokio::select! {
        server = Server::start(config, Clock::machine()) => server?,
        _ = told() => return Ok(()),
    };
    introduce(&server, own_token);

    let database = server.app().database.clone();
    let outcome = tokio::select! {
        signal = told() => {
            tracing::info!(signal, "stopping; a second signal leaves at once");
            Ok(())
        }
        why = database.fails() => {
            tracing::error!(why, "the database could not be written; stopping");
            Err(format!(
                "the database could not be written: {why}. What was acknowledged is safe; see to the disk, and start again"
            ))
        }
    };
    drop(database);
    tokio::select! {
        () = server.stop() => tracing::info!("stopped"),
        signal = told() => {
            tracing::warn!(signal, "leaving at once");
            std::process::exit(1);
        }
    }
    Ok(outcome?)
}

/// What someone who has just started the server wants to know. `own_token`: the configuration says something about it.
fn introduce(server: &RunningServer, own_token: bool) {
    let app = server.app();
    let config = &app.config;
    let data = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    tracing::info!("listening for clients on {}", server.base());
    if let Some(base) = server.federation_base() {
        tracing::info!("listening for other servers on {base}");
    }
    tracing::info!("this server is {}; its data is in {}", app.server_name, data.display());
    if config.registration.open {
        tracing::warn!("registration is open: anyone who reaches the server can make an account");
        return;
    }
    let token = config.registration.token.as_ref();
    if let Some(token) = token.filter(|_| server.made_registration_token()) {
        tracing::info!("the registration token is {}", token.reveal());
    }
    let by_token = match token {
        None => String::new(),
        Some(_) if own_token => {
            "register with the token of the configuration from any client, or ".to_owned()
        }
        Some(_) => format!(
            "register with the token in {} from any client, or ",
            data.join("registration_token").display()
        ),
    };
    tracing::info!(
        "to make the first user: {by_token}stop the server and run: matryx admin create-user NAME --admin"
    );
}

fn start_log(log: &Log) -> Outcome {
    let filter = log.filter()?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match log.format {
        Format::Text => lines.init(),
        Format::Json => lines.json().init(),
    }
    // A panic is a line of the log, with the request that it happened in, and not loose text beside it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("?");
        tracing::error!(place, message, "panic");
    }));
    Ok(())
}
