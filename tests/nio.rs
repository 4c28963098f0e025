//! A conversation over matrix-nio, the client library, as it comes from `PyPI`.

use std::{path::Path, process::Command};

use crate::support::{ServerProcess, venv};

const CLIENT: &str = "matrix-nio==0.26.*";

#[test]
fn nio_holds_a_conversation() {
    let python = venv::python("nio", CLIENT);
    let mut server = ServerProcess::first_start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/nio/conversation.py");
    let token = server.registration_token();
    venv::run(Command::new(python).arg(script).args([server.base(), token.as_str()]));
    server.stop();
}
