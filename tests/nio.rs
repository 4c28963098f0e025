//! A conversation over matrix-nio, the client library, as it comes from `PyPI`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::ServerProcess;

const CLIENT: &str = "matrix-nio==0.26.*";

/// Runs a command to its end, which must be a good one.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// A Python that has the client: made at the first run, in the target folder.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nio");
    let python = venv.join("bin/python");
    let complete = venv.join("complete");
    if !complete.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT];
        run(Command::new(&python).args(pip));
        std::fs::write(complete, CLIENT).expect("a note in the venv");
    }
    python
}

#[test]
fn nio_holds_a_conversation() {
    let python = python();
    let mut server = ServerProcess::first_start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/nio/conversation.py");
    let token = server.registration_token();
    run(Command::new(python).arg(script).args([server.base(), token.as_str()]));
    server.stop();
}
