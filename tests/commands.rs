//! The commands beside `serve`.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::json;

use crate::support::{ServerProcess, TestUser, command, empty_folder, runtime, v3};

/// Runs a command to its end, with a text on its standard input.
fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = command(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary");
    // It may have refused already, and not have listened.
    let _ = child.stdin.take().expect("an input").write_all(input.as_bytes());
    child.wait_with_output().expect("an end")
}

fn succeeds(folder: &Path, arguments: &[&str], input: &str) -> String {
    let output = run(folder, arguments, input);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn fails(folder: &Path, arguments: &[&str], input: &str) -> String {
    let output = run(folder, arguments, input);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(!said.trim().is_empty() && !said.contains("panicked"), "{arguments:?}: {said}");
    said
}

#[test]
fn accounts_are_made_and_changed_while_the_server_is_down() {
    let folder = empty_folder();
    let path = folder.path();
    succeeds(path, &["admin", "create-user", "alice"], "the first password\n");
    succeeds(path, &["admin", "create-user", "bob", "--admin"], "the password of bob\n");
    fails(path, &["admin", "create-user", "alice"], "another password\n");
    fails(path, &["admin", "create-user", "not a name"], "a good password\n");
    succeeds(path, &["admin", "reset-password", "alice"], "the second password\n");
    succeeds(path, &["admin", "make-admin", "@alice:localhost"], "");
    fails(path, &["admin", "make-admin", "nobody"], "");
    let server = ServerProcess::start_in(folder);
    runtime().block_on(async {
        TestUser::log_in(&server.http(), "alice", "the second password").await;
        TestUser::log_in(&server.http(), "bob", "the password of bob").await;
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": "the first password",
        });
        server.http().post(&v3(&["login"]), &body).await.forbidden();
    });
    let folder = server.stop();
    succeeds(folder.path(), &["admin", "deactivate-user", "bob"], "");
    for change in ["reset-password", "make-admin"] {
        let said = fails(folder.path(), &["admin", change, "bob"], "another password\n");
        assert!(said.contains("deactivated"), "{said}");
    }
    let server = ServerProcess::start_in(folder);
    runtime().block_on(async {
        let body = json!({
            "type": "m.login.password", "user": "bob", "password": "the password of bob",
        });
        server.http().post(&v3(&["login"]), &body).await.refused_with_status(403);
    });
    server.stop();
}

#[test]
fn beside_a_running_server_they_say_that_it_must_stop() {
    let server = ServerProcess::first_start();
    let said = fails(server.folder(), &["admin", "create-user", "alice"], "a good password\n");
    assert!(said.contains("in use"), "{said}");
    server.stop();
}

#[test]
fn a_configuration_is_checked_and_shown() {
    let folder = empty_folder();
    let path = folder.path();
    let shown = succeeds(path, &["config"], "");
    assert!(shown.contains("server_name = \"localhost\""), "{shown}");
    std::fs::write(path.join("good.toml"), "server_name = \"example.org\"\n").expect("a file");
    succeeds(path, &["config", "--check", "good.toml"], "");
    std::fs::write(path.join("bad.toml"), "default_room_version = \"99\"\n").expect("a file");
    let said = fails(path, &["config", "--check", "bad.toml"], "");
    assert!(said.contains("default_room_version") && said.contains("99"), "{said}");
    let said = fails(path, &["config", "--check", "missing.toml"], "");
    assert!(said.contains("missing.toml"), "{said}");
}

#[test]
fn what_is_no_command_is_explained() {
    let folder = empty_folder();
    let output = run(folder.path(), &["sevre"], "");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("serve"));
    let help = succeeds(folder.path(), &["--help"], "");
    for name in ["serve", "migrate", "config", "generate-key", "admin"] {
        assert!(help.contains(name), "{help}");
    }
}
