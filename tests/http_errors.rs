//! What every endpoint has in common: unknown paths, wrong methods, CORS, bodies that do not fit.

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Answer, SharedServer, TestServer, v3};

static SERVER: SharedServer = SharedServer::new();

/// A request by method and path, as it stands.
async fn ask(server: &TestServer, method: &str, path: &str) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut url = server.http().url(&[]);
    url.set_path(path);
    let request = server.http().request(method, url);
    server.http().send(request).await
}

#[test]
fn what_is_not_there_is_unrecognized() {
    SERVER.run(async |server| {
        for path in [
            "/",
            "/_matrix",
            "/_matrix/client",
            "/_matrix/client/v3",
            "/_matrix/client/v3/nothing",
            "/_matrix/client/v1/account/password",
            "/_matrix/client/unstable/org.example/thing",
            "/_matrix/federation/v1/nothing",
            "/_matrix/media/v3/upload/of/something",
            "/_matrix/key/v2/nothing",
            "/_matrix/client/v3/rooms/!room:localhost/nothing",
            "/favicon.ico",
            "/%FF",
        ] {
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
                let answer = ask(server, method, path).await;
                assert_eq!(answer.headers["content-type"], "application/json", "{path}");
                answer.refused(404, "M_UNRECOGNIZED");
            }
        }
    });
}

#[test]
fn a_wrong_method_is_told_apart() {
    SERVER.run(async |server| {
        for (method, path) in [
            ("DELETE", "/_matrix/client/versions"),
            ("PATCH", "/_matrix/client/v3/sync"),
            ("PUT", "/_matrix/client/v3/login"),
            ("GET", "/_matrix/client/v3/rooms/!room:localhost/invite"),
            ("DELETE", "/_matrix/client/v3/rooms/!room:localhost/ban"),
            ("POST", "/_matrix/client/v3/rooms/!room:localhost/members"),
        ] {
            ask(server, method, path).await.refused(405, "M_UNRECOGNIZED");
        }
    });
}

#[test]
fn browsers_may_read_everything_errors_too() {
    SERVER.run(async |server| {
        for path in [
            "/_matrix/client/versions",
            "/.well-known/matrix/client",
            "/_matrix/client/v3/login",
            "/_matrix/client/v3/sync",
            "/_matrix/client/v3/account/whoami",
            "/_matrix/client/v3/rooms/!room:localhost/state",
            "/nothing",
        ] {
            let answer = ask(server, "GET", path).await;
            assert_eq!(answer.headers["access-control-allow-origin"], "*", "{path}");
            let preflight = ask(server, "OPTIONS", path).await;
            assert!((200..300).contains(&preflight.status), "{path}: {}", preflight.status);
            let header = |name: &str| preflight.headers[name].to_str().unwrap().to_lowercase();
            assert_eq!(header("access-control-allow-origin"), "*");
            for method in ["get", "post", "put", "delete", "options"] {
                assert!(header("access-control-allow-methods").contains(method));
            }
            for name in ["authorization", "content-type", "x-requested-with"] {
                assert!(header("access-control-allow-headers").contains(name));
            }
        }
    });
}

#[test]
fn bodies_that_do_not_fit_are_told_apart() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let send = async |body: &'static [u8]| {
            let url = alice.http.url(&v3(&["createRoom"]));
            let request = alice.http.request(Method::POST, url).body(body);
            alice.http.send(request).await
        };
        for body in [&b"{"[..], b"name=x", b"{\"name\":}", b"{} {}", b"\xff", b"{\"a\":\"\xff\"}"] {
            send(body).await.refused(400, "M_NOT_JSON");
        }
        for body in [&b"[]"[..], b"5", b"null", b"\"text\"", b"{\"name\":5}"] {
            send(body).await.refused(400, "M_BAD_JSON");
        }
        send(b"{\"name\":5}").await.refused(400, "M_BAD_JSON").says("must have a string.");
        // What is null is as good as not there.
        send(b"{\"room_version\":null,\"visibility\":null,\"invite\":null,\"is_direct\":null}")
            .await
            .granted();
        let room = alice.private_room().await;
        alice
            .act(&room, "invite", json!({ "user_id": null }))
            .await
            .refused(400, "M_MISSING_PARAM");
    });
}

#[test]
fn a_huge_body_is_too_large() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let huge = json!({ "name": "x".repeat(5 << 20) });
        alice.create_room(huge).await.refused(413, "M_TOO_LARGE");
        // The connection and the server are as good as before.
        alice.joined_rooms().await;
    });
}

#[test]
fn a_body_that_will_be_too_large_is_not_waited_for() {
    SERVER.run(async |server| {
        let address = server.http().url(&[]);
        let address = (address.host_str().unwrap(), address.port().unwrap());
        for more in ["", "expect: 100-continue\r\n"] {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /_matrix/client/v3/createRoom HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{more}\r\n",
                10_u64.pow(12),
            );
            connection.write_all(head.as_bytes()).await.unwrap();
            let mut answer = vec![0; "HTTP/1.1 413".len()];
            connection.read_exact(&mut answer).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
        }
    });
}

#[test]
fn json_nested_without_end_is_refused() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let deep = format!("{}{}", "{\"a\":".repeat(50_000), "1}".repeat(50_000));
        let deep = deep.replace("1}1}", "1}}").replace("}1", "}");
        let path = v3(&["rooms", &room, "send", "m.test", "txn"]);
        let request = alice.http.request(Method::PUT, alice.http.url(&path)).body(deep);
        let answer = alice.http.send(request).await;
        assert!([400, 413].contains(&answer.status), "{}: {}", answer.status, answer.text);
        alice.say(&room, "still there").await;
    });
}

#[test]
fn a_token_is_needed_and_must_be_good() {
    SERVER.run(async |server| {
        let paths: [&[&str]; 4] = [
            &["account", "whoami"],
            &["joined_rooms"],
            &["sync"],
            &["rooms", "!room:localhost", "state"],
        ];
        let nobody = server.http().with_token("no such token");
        for path in paths {
            let path = v3(path);
            server.http().get(&path).await.refused(401, "M_MISSING_TOKEN");
            nobody.get(&path).await.refused(401, "M_UNKNOWN_TOKEN");
        }
        let alice = server.user("alice").await;
        alice.post_empty(&["logout"]).await.granted();
        alice.get(&["joined_rooms"]).await.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn the_first_requests_of_a_client_are_answered() {
    SERVER.run(async |server| {
        let versions = server.http().get(&["_matrix", "client", "versions"]).await.granted();
        let versions = versions["versions"].as_array().unwrap();
        assert!(versions.iter().any(|version| version == "v1.11"), "{versions:?}");
        let answer = server.http().get(&[".well-known", "matrix", "client"]).await.granted();
        assert!(answer["m.homeserver"]["base_url"].as_str().unwrap().starts_with("http"));
        let flows = server.http().get(&v3(&["login"])).await.granted();
        assert_eq!(flows["flows"][0]["type"], "m.login.password");
        let alice = server.user("alice").await;
        let rules = alice.get(&["pushrules", ""]).await.granted();
        assert!(rules["global"]["override"].is_array(), "{rules}");
        let whoami = alice.get(&["account", "whoami"]).await.granted();
        assert_eq!(whoami["user_id"], alice.id.as_str());
        assert_eq!(whoami["device_id"], alice.device_id.as_str());
    });
}

#[test]
fn old_prefixes_and_questions_at_the_end_are_served() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        let room = alice.private_room().await;
        let r0 = ["_matrix", "client", "r0"];
        let state = [&r0[..], &["rooms", &room, "state"]].concat();
        alice.http.get(&state).await.granted();
        let members = [&r0[..], &["rooms", &room, "members"]].concat();
        alice.http.query(&members, &[("_cacheBuster", "1")]).await.granted();
        alice.http.get(&[&r0[..], &["sync"]].concat()).await.granted();
    });
}

#[test]
fn what_is_not_built_says_so() {
    SERVER.run(async |server| {
        let alice = server.user("alice").await;
        for path in [&["publicRooms"][..], &["devices"], &["pushers"], &["thirdparty", "protocols"]]
        {
            let answer = alice.get(path).await;
            // Built or not, but never an empty success that stands for nothing.
            if answer.status == StatusCode::NOT_FOUND.as_u16() {
                answer.refused(404, "M_UNRECOGNIZED");
            } else {
                assert_ne!(answer.granted(), json!({}), "{path:?}");
            }
        }
    });
}
