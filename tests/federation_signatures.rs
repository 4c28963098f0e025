//! Who sent a request: the X-Matrix header, in every form that it may have.

use std::slice::from_ref;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use matryx_server::federation::keys::RequestError;
use ruma::serde::Base64;

use super::support::{Peer, SharedServer, TestServer, new_key};

static SERVER: SharedServer = SharedServer::befriended();

const PATH: &str = "/_matrix/federation/v1/query/profile?user_id=%40alice%3Alocalhost&field=x%2Fy";

/// What the server makes of a request with these headers.
async fn judged(
    server: &TestServer,
    path: &str,
    body: &str,
    headers: &[String],
) -> Result<String, RequestError> {
    let method = if body.is_empty() { Method::GET } else { Method::PUT };
    let mut request =
        Request::builder().method(method).uri(path).body(body.to_owned().into()).unwrap();
    for value in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(header::AUTHORIZATION, value);
    }
    let origin = server.app().federation.keys().verify_request(&request).await;
    origin.map(|origin| origin.to_string())
}

/// The four values of a right header.
fn values(server: &TestServer, peer: &Peer, path: &str, body: &str) -> [String; 4] {
    let method = if body.is_empty() { Method::GET } else { Method::PUT };
    let signed = peer.sign(&server.app().server_name, &method, path, body);
    [
        signed.origin.to_string(),
        signed.destination.unwrap().to_string(),
        signed.key.to_string(),
        signed.sig.encode(),
    ]
}

#[track_caller]
fn unauthorized(judged: Result<String, RequestError>, parts: &[&str]) {
    let Err(RequestError::Unauthorized(sentence)) = judged else { panic!("{judged:?}") };
    for part in parts {
        assert!(sentence.contains(part), "{part} in: {sentence}");
    }
}

#[test]
fn every_legal_form_is_understood() {
    SERVER.run(async |server| {
        let peer = Peer::start().await;
        let [origin, us, key, sig] = values(server, &peer, PATH, "");
        for header in [
            format!(r#"X-Matrix origin="{origin}",destination="{us}",key="{key}",sig="{sig}""#),
            format!(r#"x-matrix origin="{origin}", destination={us} , key="{key}" ,sig="{sig}""#),
            format!(r#"X-Matrix  sig="{sig}",  key="{key}",destination="{us}",origin="{origin}""#),
            format!(
                r#"X-Matrix Origin="{origin}",DESTINATION="{us}",key="{key}",sig="{sig}",new="x""#
            ),
            // Old servers name no destination.
            format!(r#"X-Matrix origin="{origin}",key="{key}",sig="{sig}""#),
            format!(r#"X-Matrix origin="{origin}",destination="{us}",key="{key}",sig="{sig}=""#),
            // Nor do they put everything into quotes that has a colon.
            format!(r#"X-Matrix origin={origin},key={key},sig="{sig}""#),
            format!("X-Matrix origin={origin} ,\tdestination={us},key={key},sig={sig}="),
            format!(r#"X-Matrix key={key},new="a,\"b=c:d",origin={origin},sig="{sig}""#),
        ] {
            let judged = judged(server, PATH, "", from_ref(&header)).await;
            assert_eq!(judged.as_deref(), Ok(&*origin), "{header}");
        }
    });
}

#[test]
fn several_headers_count_together() {
    SERVER.run(async |server| {
        let (peer, other) = (Peer::start().await, Peer::start().await);
        let good = peer.sign(&server.app().server_name, &Method::GET, PATH, "").to_string();
        let unknown = good.replace(peer.key().version(), "unknown");
        let headers = ["Bearer token".to_owned(), unknown.clone(), good.clone()];
        assert_eq!(judged(server, PATH, "", &headers).await.unwrap(), peer.name().as_str());
        unauthorized(judged(server, PATH, "", &[unknown]).await, &["unknown"]);
        let others = other.sign(&server.app().server_name, &Method::GET, PATH, "").to_string();
        unauthorized(judged(server, PATH, "", &[good, others]).await, &["Several servers"]);
    });
}

#[test]
fn what_was_not_signed_like_this_is_refused() {
    SERVER.run(async |server| {
        let peer = Peer::start().await;
        let us = &server.app().server_name;
        let good = peer.sign(us, &Method::GET, PATH, "").to_string();
        let (name, key) = (peer.name().as_str(), peer.key().key_id().as_str());
        let tampered = judged(server, &PATH.replace("alice", "bob"), "", from_ref(&good)).await;
        unauthorized(tampered, &[name, key]);
        let decoded = judged(server, &PATH.replace("%2F", "/"), "", from_ref(&good)).await;
        unauthorized(decoded, &[name, key]);
        unauthorized(judged(server, PATH, "{}", from_ref(&good)).await, &[name, key]);
        unauthorized(judged(server, PATH, "", &[]).await, &["signed"]);
        unauthorized(judged(server, PATH, "", &["X-Matrix origin=a".into()]).await, &["key"]);
        unauthorized(judged(server, PATH, "", &["X-Matrix".into()]).await, &[]);

        // For somebody else.
        let elsewhere = peer.sign(peer.name(), &Method::GET, PATH, "").to_string();
        unauthorized(judged(server, PATH, "", &[elsewhere]).await, &[name, us.as_str()]);
        // With another key of the same name.
        let forged = format!(
            r#"X-Matrix origin="{name}",destination="{us}",key="{key}",sig="{}""#,
            Base64::<ruma::serde::base64::Standard, _>::new(
                ruma::signatures::KeyPair::sign(&new_key(), b"x").as_bytes()
            )
        );
        unauthorized(judged(server, PATH, "", &[forged]).await, &[name, key]);
        // By a server that nobody reaches.
        let nobody = good.replace(name, "127.1.1.1:1");
        unauthorized(judged(server, PATH, "", &[nobody]).await, &["127.1.1.1:1", key]);
        // More signatures than anybody has keys.
        let many = vec![good.clone(); 5];
        unauthorized(judged(server, PATH, "", &many).await, &["more than 4"]);
        assert!(judged(server, PATH, "", &many[1..]).await.is_ok());
        // Nobody reads what somebody has sent of whom no key is known, be it JSON or not.
        let stranger = good.replace(name, "127.1.1.1:1");
        unauthorized(judged(server, PATH, "nonsense", &[stranger]).await, &["127.1.1.1:1", key]);
        // No JSON.
        assert_eq!(judged(server, PATH, "nonsense", &[good]).await, Err(RequestError::NotJson));
    });
}

#[test]
fn a_number_that_is_not_canonical_harms_only_itself() {
    SERVER.run(async |server| {
        let peer = Peer::start().await;
        let us = server.app().server_name.clone();
        // As others write it who take such numbers in.
        let content = r#"{"a":1.5,"b":[1,"ä"]}"#;
        let signed = format!(
            r#"{{"content":{content},"destination":"{us}","method":"PUT","origin":"{}","uri":"{PATH}"}}"#,
            peer.name()
        );
        let sig = ruma::signatures::KeyPair::sign(peer.key(), signed.as_bytes());
        let header = format!(
            r#"X-Matrix origin="{}",destination="{us}",key="{}",sig="{}""#,
            peer.name(),
            peer.key().key_id(),
            Base64::<ruma::serde::base64::Standard, _>::new(sig.as_bytes())
        );
        let body = r#"{ "b": [1, "\u00e4"], "a": 1.5 }"#;
        let origin = judged(server, PATH, body, &[header]).await.unwrap();
        assert_eq!(origin, peer.name().as_str());
    });
}

#[test]
fn a_large_body_is_checked_as_a_small_one_is_and_has_its_bounds() {
    SERVER.run(async |server| {
        let peer = Peer::start().await;
        let us = server.app().server_name.clone();
        let judge = async |body: &str| {
            let signed = peer.sign(&us, &Method::PUT, PATH, body).to_string();
            judged(server, PATH, body, &[signed]).await
        };
        let large = format!(r#"{{"b":"{}","a":[]}}"#, "x".repeat(1 << 20));
        assert_eq!(judge(&large).await.unwrap(), peer.name().as_str());
        let signed = peer.sign(&us, &Method::PUT, PATH, &large).to_string();
        let tampered = large.replace("xb", "xx").replace("[]", "[1]");
        unauthorized(judged(server, PATH, &tampered, &[signed]).await, &["not what"]);
        let many = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(3 << 20));
        let signed = peer.sign(&us, &Method::PUT, PATH, "{}").to_string();
        let judged = judged(server, PATH, &many, &[signed]).await;
        assert_eq!(judged, Err(RequestError::TooMuch));
    });
}

#[test]
fn the_door_says_what_is_wrong() {
    SERVER.run(async |server| {
        let peer = Peer::start().await;
        let us = &server.app().server_name;
        let path = "/_matrix/federation/v1/event/$nothing";
        let get = async |headers: &[String]| {
            peer.send(server, Method::GET, path, headers, Bytes::new()).await
        };
        get(&[]).await.refused(401, "M_UNAUTHORIZED");
        get(&["Bearer token".to_owned()]).await.refused(401, "M_UNAUTHORIZED");
        let elsewhere = peer.sign(us, &Method::GET, "/elsewhere", "").to_string();
        let sentence = get(&[elsewhere]).await.refused(401, "M_UNAUTHORIZED");
        sentence.says(peer.name().as_str()).says(peer.key().key_id().as_str());
        let good = peer.sign(us, &Method::GET, path, "").to_string();
        get(&[good]).await.refused(404, "M_NOT_FOUND");

        let path = "/_matrix/federation/v2/send_join/!room:localhost/$event";
        let signed = peer.sign(us, &Method::PUT, path, "{}").to_string();
        let put = async |body: &str| {
            let body = Bytes::from(body.to_owned());
            peer.send(server, Method::PUT, path, from_ref(&signed), body).await
        };
        put("nonsense").await.refused(400, "M_NOT_JSON");
        put(r#"{"a":1}"#).await.refused(401, "M_UNAUTHORIZED");
    });
}
