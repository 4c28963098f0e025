//! Python environments with what the tests need of `PyPI`: made at the first run, below the target folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Runs a command to its end, which must be a good one.
pub fn run(command: &mut Command) -> Output {
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

/// The Python of the environment `name`, which has `requirement` and nothing else.
///
/// One that another requirement was written into, or that was not finished, is made anew. Where packages come from is
/// what pip is configured for.
pub fn python(name: &str, requirement: &str) -> PathBuf {
    let below = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let venv = below.join(name);
    let python = venv.join("bin/python");
    // Several test processes may want it at the same time.
    let lock = File::create(below.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("a lock");
    let complete = venv.join("complete");
    if fs::read_to_string(&complete).is_ok_and(|found| found == requirement) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement];
    run(Command::new(&python).args(pip));
    fs::write(complete, requirement).expect("a note in the venv");
    python
}
