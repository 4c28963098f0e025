//! The binary: starting, refusing to start, and stopping.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
};

use crate::support::{
    ServerProcess, Sync, SyncAnswer, TestUser, command, empty_folder, runtime, v3,
};

/// Starts the binary, which must refuse: exit code 1 and a sentence.
fn refuses_to_start(folder: &Path, environment: &[(&str, &str)]) -> String {
    let output = command(folder).envs(environment.iter().copied()).output().expect("the binary");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_first_start_needs_nothing_and_explains_itself() {
    let mut server = ServerProcess::first_start();
    server.hears("registration token is ");
    server.hears("to make the first user");
    server.hears("its data is in ");
    assert!(server.folder().join("data").is_dir());
    let token = server.registration_token();
    let mut server = server.restart();
    server.hears("to make the first user");
    let kept = fs::read_to_string(server.folder().join("data/registration_token")).unwrap();
    assert_eq!(kept.trim(), token);
    server.stop();
}

#[test]
fn both_signals_end_it_in_order() {
    for signal in ["TERM", "INT"] {
        let mut server = ServerProcess::first_start();
        server.signal(signal);
        let status = server.ends();
        assert!(status.success(), "{signal}: {status}");
    }
}

/// However much else the machine is doing: the number of open files is limited, and each client needs one.
#[test]
fn it_keeps_no_file_of_another_process_open() {
    let server = ServerProcess::first_start();
    let open = fs::read_dir(format!("/proc/{}/fd", server.id())).expect("the process's files");
    // What is closed meanwhile leads nowhere.
    let open = open.filter_map(|file| fs::read_link(file.expect("a file").path()).ok());
    let strange: Vec<_> = open.filter(|file| file.starts_with("/proc")).collect();
    assert_eq!(strange, [] as [&Path; 0]);
    server.stop();
}

#[test]
fn waiting_syncs_are_answered_when_it_stops() {
    runtime().block_on(async {
        let server = ServerProcess::open();
        let alice = TestUser::register(&server.http(), "alice").await;
        let bob = TestUser::register(&server.http(), "bob").await;
        let room = alice.public_room().await;
        bob.join(&room).await.granted();
        let since = alice.sync(Sync::initial()).await.next_batch;
        let waiting = async |user: &TestUser| {
            let query = [("since", &*since), ("timeout", "600000")];
            user.http.try_query(&v3(&["sync"]), &query).await
        };
        let mut folder = server.stop();
        // Who comes too late, because the machine is slow, finds nobody: then once more.
        for _ in 0..5 {
            let server = ServerProcess::start_in(folder);
            let (alice, bob) = (alice.at(&server.http()), bob.at(&server.http()));
            let stop = async {
                // The requests are most likely under way when these, sent after them, are answered.
                for _ in 0..20 {
                    alice.joined_rooms().await;
                    bob.joined_rooms().await;
                }
                tokio::task::spawn_blocking(|| server.stop()).await.expect("an end")
            };
            let (alices, bobs, down) = futures::join!(waiting(&alice), waiting(&bob), stop);
            if let (Some(alices), Some(bobs)) = (alices, bobs) {
                for answer in [alices, bobs] {
                    SyncAnswer::new(answer.granted()).silent(&room);
                }
                return;
            }
            folder = down;
        }
        panic!("who waits is cut off");
    });
}

#[test]
fn a_data_directory_is_used_by_one_server() {
    let server = ServerProcess::first_start();
    let said = refuses_to_start(server.folder(), &[]);
    assert!(said.contains("in use"), "{said}");
    // And it goes on.
    server.stop();
}

#[test]
fn a_port_is_used_by_one_server() {
    let server = ServerProcess::first_start();
    let port = server.base().rsplit(':').next().unwrap();
    let folder = empty_folder();
    let said = refuses_to_start(folder.path(), &[("MATRYX_LISTENER__CLIENT__PORT", port)]);
    assert!(said.contains(port) && said.contains("listener.client"), "{said}");
    server.stop();
}

#[test]
fn another_servers_data_is_refused() {
    let folder = ServerProcess::first_start().stop();
    let said = refuses_to_start(folder.path(), &[("MATRYX_SERVER_NAME", "example.org")]);
    assert!(said.contains("localhost") && said.contains("example.org"), "{said}");
}

#[test]
fn a_bad_configuration_is_explained() {
    let folder = empty_folder();
    let said = refuses_to_start(folder.path(), &[("MATRYX_SEVER_NAME", "example.org")]);
    assert!(said.contains("server_name"), "{said}");
    fs::write(folder.path().join("matryx.toml"), "[listener.client]\nprot = 1\n").unwrap();
    let said = refuses_to_start(folder.path(), &[]);
    assert!(
        said.contains("listener.client.prot") && said.contains("listener.client.port"),
        "{said}"
    );
    fs::write(folder.path().join("matryx.toml"), "server_name = 5\n").unwrap();
    let said = refuses_to_start(folder.path(), &[]);
    assert!(said.contains("server_name"), "{said}");
    assert!(!folder.path().join("data").exists(), "nothing was touched");
}

#[test]
fn a_folder_that_cannot_be_used_is_explained() {
    let folder = empty_folder();
    fs::write(folder.path().join("data"), "a file").unwrap();
    let said = refuses_to_start(folder.path(), &[]);
    assert!(said.contains("data"), "{said}");
}

#[test]
fn a_damaged_file_is_explained_in_one_line() {
    for name in ["signing.key", "registration_token"] {
        let folder = ServerProcess::first_start().stop();
        fs::write(folder.path().join("data").join(name), "").unwrap();
        let said = refuses_to_start(folder.path(), &[]);
        assert!(said.contains(name) && said.contains("empty"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_signing_key_that_is_gone_is_never_replaced_in_silence() {
    let folder = ServerProcess::first_start().stop();
    let path = folder.path().join("data/signing.key");
    let key = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let said = refuses_to_start(folder.path(), &[]);
    assert!(said.contains("signing.key is missing") && said.contains("generate-key"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!path.exists());
    // Put back, or made on purpose: both go on.
    fs::write(&path, &key).unwrap();
    let folder = ServerProcess::start_in(folder).stop();
    fs::remove_file(&path).unwrap();
    let made = command(folder.path())
        .args(["generate-key", "--output", "data/signing.key"])
        .status()
        .expect("the binary");
    assert!(made.success());
    assert_ne!(fs::read_to_string(&path).unwrap(), key);
    ServerProcess::start_in(folder).stop();
}

#[test]
fn the_way_to_the_first_user_is_the_one_that_is_configured() {
    for (token, way) in [
        ("sesame", "register with the token of the configuration from any client, or stop"),
        ("", "to make the first user: stop the server and run"),
    ] {
        let folder = empty_folder();
        let text = format!("[registration]\ntoken = \"{token}\"\n");
        fs::write(folder.path().join("matryx.toml"), text).unwrap();
        let mut server = ServerProcess::start_in(folder);
        server.hears(way);
        assert!(!server.folder().join("data/registration_token").exists());
        server.stop();
    }
}

#[cfg(unix)]
#[test]
fn the_data_directory_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;

    let server = ServerProcess::first_start();
    let data = fs::metadata(server.folder().join("data")).unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o700);
    server.stop();
}

#[test]
fn other_servers_are_listened_for_where_the_configuration_says_or_not_at_all() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = empty_folder();
    let said = refuses_to_start(folder.path(), &[("MATRYX_LISTENER__FEDERATION__PORT", &port)]);
    assert!(said.contains("listener.federation") && said.contains(&port), "{said}");

    // Another server has the usual address, which nobody has asked for.
    let _taken = std::net::TcpListener::bind("127.0.0.1:8448");
    let mut command = command(folder.path());
    let mut child = command.env_remove("MATRYX_LISTENER__FEDERATION__PORT").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let warned = lines.find(|line| line.contains("nothing listens for other servers"));
    assert!(warned.is_some_and(|line| line.contains("127.0.0.1:8448")));
    assert!(lines.any(|line| line.contains("listening for clients")));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn files_that_federation_needs_are_named_when_they_cannot_be_used() {
    let folder = empty_folder();
    fs::write(folder.path().join("nonsense.pem"), "nonsense").unwrap();
    let tls = [
        ("MATRYX_LISTENER__FEDERATION__TLS", "true"),
        ("MATRYX_LISTENER__FEDERATION__TLS_CERT", "nonsense.pem"),
        ("MATRYX_LISTENER__FEDERATION__TLS_KEY", "missing.pem"),
    ];
    let said = refuses_to_start(folder.path(), &tls);
    assert!(said.contains("nonsense.pem") && said.contains("tls_cert"), "{said}");
    let authority = [("MATRYX_FEDERATION__TRUSTED_CA_FILE", "missing.pem")];
    let said = refuses_to_start(folder.path(), &authority);
    assert!(said.contains("missing.pem") && said.contains("trusted_ca_file"), "{said}");
    let resolve = [("MATRYX_FEDERATION__RESOLVE", "{ \"hs2\" = \"nowhere\" }")];
    let said = refuses_to_start(folder.path(), &resolve);
    assert!(said.contains("hs2") && said.contains("nowhere"), "{said}");
}
