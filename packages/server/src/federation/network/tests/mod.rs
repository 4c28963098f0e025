//! The whole way to another server: names asked of a name server, well-known files fetched by TLS, requests that arrive with
//! the right `Host` header at a server that was called by the right name.

mod town;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use hickory_resolver::proto::rr::{Name, RData, rdata};
use http::header;
use ruma::{MilliSecondsSinceUnixEpoch, UInt};

use self::town::{
    Asked, House, Zone, at, authority, loopback_v6, name_server, own_address, service,
};
use super::*;

/// A way to the servers of a town, at its own time. Well-known files are fetched from `https`, which for others is port 443.
async fn way(zone: Zone, https: u16, private: bool) -> (Network, Clock) {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority().pem()).unwrap();
    let mut config = Config::default();
    config.federation.trusted_ca_file = Some(ca);
    config.testing.allow_private_ip_destinations = private;
    let now = UInt::new_saturating(1_700_000_000_000);
    let clock = Clock::by_hand(MilliSecondsSinceUnixEpoch(now));
    let dns = name_server(zone).await;
    let network = Network::by(&config, clock.clone(), Random::seeded(1), dns, https).unwrap();
    (network, clock)
}

async fn ask(network: &Network, server: &str) -> Result<http::StatusCode, TransportError> {
    let request = Request::get("/_matrix/federation/v1/version").body(Bytes::new()).unwrap();
    let server = ServerName::parse(server).unwrap();
    network.send(&server, request).await.map(|answer| answer.status())
}

/// A server is asked once, under these names.
async fn asks(network: &Network, server: &str, house: &House, host: &str, sni: Option<&str>) {
    assert_eq!(ask(network, server).await.unwrap(), 200, "{server}");
    let path = "/_matrix/federation/v1/version".to_owned();
    let expected = Asked { sni: sni.map(str::to_owned), host: host.to_owned(), path };
    assert_eq!(house.asked(), [expected], "{server}");
}

fn delegation(to: &str) -> String {
    format!(r#"{{ "m.server": "{to}" }}"#)
}

#[tokio::test]
async fn addresses_and_ports_are_taken_as_they_stand() {
    let ip = own_address();
    let (usual, other) = (House::open((ip, 8448)).await, House::open((ip, 0)).await);
    let port = other.address.port();
    let alias = RData::CNAME(rdata::CNAME(Name::from_ascii("real.example.").unwrap()));
    let zone = Zone::from([("real.example.", vec![at(ip)]), ("named.example.", vec![alias])]);
    let (network, _) = way(zone, 1, true).await;
    asks(&network, &ip.to_string(), &usual, &ip.to_string(), None).await;
    let literal = format!("{ip}:{port}");
    asks(&network, &literal, &other, &literal, None).await;
    // A port is given: nobody asks for a well-known file, or for services.
    let named = format!("named.example:{port}");
    asks(&network, &named, &other, &named, Some("named.example")).await;
    let why = ask(&network, "nowhere.example:8448").await.unwrap_err().to_string();
    assert_eq!(why, "there is no host nowhere.example");
}

#[tokio::test]
async fn addresses_of_the_sixth_version_are_too() {
    // A machine without IPv6 has nothing to try.
    let Some(loopback) = loopback_v6() else { return };
    let house = House::open(loopback).await;
    let port = house.address.port();
    let zone = Zone::from([("six.example.", vec![at(house.address.ip())])]);
    let (network, _) = way(zone, 1, true).await;
    let literal = format!("[::1]:{port}");
    asks(&network, &literal, &house, &literal, None).await;
    let named = format!("six.example:{port}");
    asks(&network, &named, &house, &named, Some("six.example")).await;
}

#[tokio::test]
async fn services_are_asked_for_by_the_newer_name_first() {
    let ip = own_address();
    let houses =
        [House::open((ip, 0)).await, House::open((ip, 0)).await, House::open((ip, 8448)).await];
    let [newer, older, usual] = &houses;
    let port = |house: &House| house.address.port();
    let zone = Zone::from([
        ("host.example.", vec![at(ip)]),
        // Nobody is behind the first.
        (
            "_matrix-fed._tcp.both.example.",
            vec![service(1, 9, "gone.example."), service(2, port(newer), "host.example.")],
        ),
        ("_matrix._tcp.both.example.", vec![service(0, port(older), "host.example.")]),
        ("_matrix._tcp.old.example.", vec![service(0, port(older), "host.example.")]),
        ("plain.example.", vec![at(ip)]),
    ]);
    let (network, _) = way(zone, 1, true).await;
    asks(&network, "both.example", newer, "both.example", Some("both.example")).await;
    asks(&network, "old.example", older, "old.example", Some("old.example")).await;
    asks(&network, "plain.example", usual, "plain.example", Some("plain.example")).await;
}

#[tokio::test]
async fn a_delegated_server_is_called_by_its_own_name() {
    let ip = own_address();
    let well_known = House::open((ip, 0)).await;
    let (server, usual) = (House::open((ip, 0)).await, House::open((ip, 8448)).await);
    let port = server.address.port();
    let names = ["a.example.", "b.example.", "c.example.", "d.example.", "to.example."];
    let mut zone: Zone = names.into_iter().map(|name| (name, vec![at(ip)])).collect();
    let behind = vec![service(0, port, "to.example.")];
    zone.insert("_matrix-fed._tcp.served.example.", behind);
    // Not that of the name that delegates.
    zone.insert("_matrix-fed._tcp.a.example.", vec![service(0, 9, "to.example.")]);
    let (network, _) = way(zone, well_known.address.port(), true).await;
    let (with_port, literal) = (format!("to.example:{port}"), format!("{ip}:{port}"));
    for (name, to, house, sni) in [
        ("a.example", &*with_port, &server, Some("to.example")),
        ("b.example", &*literal, &server, None),
        ("c.example", "served.example", &server, Some("served.example")),
        ("d.example", "to.example", &usual, Some("to.example")),
    ] {
        well_known.tell(200, &[], &delegation(to));
        asks(&network, name, house, to, sni).await;
        let path = "/.well-known/matrix/server".to_owned();
        let asked = Asked { sni: Some(name.to_owned()), host: name.to_owned(), path };
        assert_eq!(well_known.asked(), [asked], "{name}");
    }
}

#[tokio::test]
async fn well_known_files_are_followed_and_only_good_ones_count() {
    let ip = own_address();
    let (first, second) = (House::open((ip, 0)).await, House::open((ip, 0)).await);
    let usual = House::open((ip, 8448)).await;
    let names = [
        "moved.example.",
        "large.example.",
        "bad.example.",
        "none.example.",
        "away.example.",
        "plain.example.",
        "round.example.",
        "to.example.",
        "elsewhere.example.",
    ];
    let zone = names.into_iter().map(|name| (name, vec![at(ip)])).collect();
    let (network, _) = way(zone, first.address.port(), true).await;

    let elsewhere = format!("https://elsewhere.example:{}/there", second.address.port());
    first.tell(302, &[(header::LOCATION, &elsewhere)], "");
    second.tell(200, &[], &delegation("to.example"));
    asks(&network, "moved.example", &usual, "to.example", Some("to.example")).await;
    let [asked] = &*second.asked() else { panic!("it follows once") };
    assert_eq!((&*asked.path, asked.sni.as_deref()), ("/there", Some("elsewhere.example")));

    let out = format!("http://elsewhere.example:{}/there", second.address.port());
    let large = format!("{{{} \"m.server\": \"to.example\" }}", " ".repeat(60_000));
    for (name, status, location, body) in [
        ("large.example", 200, "", &*large),
        ("bad.example", 200, "", "to.example"),
        ("none.example", 404, "", &*delegation("to.example")),
        ("away.example", 503, "", &*delegation("to.example")),
        ("plain.example", 302, &*out, ""),
        ("round.example", 302, "/again", ""),
    ] {
        let headers = [(header::LOCATION, location)];
        first.tell(status, if location.is_empty() { &[] } else { &headers }, body);
        asks(&network, name, &usual, name, Some(name)).await;
        assert!(second.asked().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_well_known_file_holds_as_long_as_it_says() {
    let ip = own_address();
    let house = House::open((ip, 0)).await;
    let zone = Zone::from([("held.example.", vec![at(ip)])]);
    let (network, clock) = way(zone, house.address.port(), true).await;
    let find = async || {
        let server = ServerName::parse("held.example").unwrap();
        let found = network.discovery.find(&server).await.unwrap();
        (found.host, house.asked().len())
    };
    let hour = [(header::CACHE_CONTROL, "max-age=3600")];
    house.tell(200, &hour, &delegation("127.0.0.1:1"));
    assert_eq!(find().await, ("127.0.0.1:1".to_owned(), 1));
    house.tell(200, &[], &delegation("127.0.0.1:2"));
    clock.advance(Duration::from_secs(3599));
    assert_eq!(find().await, ("127.0.0.1:1".to_owned(), 0));
    clock.advance(Duration::from_secs(1));
    // What does not say how long it holds holds for a day.
    assert_eq!(find().await, ("127.0.0.1:2".to_owned(), 1));
    house.tell(500, &[], "");
    clock.advance(Duration::from_hours(24));
    // Who is away for a moment has not moved; and is not asked again at once.
    assert_eq!(find().await, ("127.0.0.1:2".to_owned(), 1));
    assert_eq!(find().await, ("127.0.0.1:2".to_owned(), 0));
    clock.advance(Duration::from_hours(24));
    assert_eq!(find().await, ("held.example".to_owned(), 1));
    house.tell(404, &[], "");
    clock.advance(Duration::from_mins(5));
    assert_eq!(find().await, ("held.example".to_owned(), 1));
    clock.advance(Duration::from_mins(59));
    assert_eq!(find().await, ("held.example".to_owned(), 0));
}

#[tokio::test]
async fn private_addresses_hear_nothing_unless_they_may() {
    let ip = own_address();
    let house = House::open((ip, 0)).await;
    let port = house.address.port();
    let zone = Zone::from([
        ("inside.example.", vec![at(ip)]),
        ("_matrix-fed._tcp.served.example.", vec![service(0, port, "inside.example.")]),
    ]);
    let (network, _) = way(zone, port, false).await;
    let literal = format!("{ip}:{port}");
    for server in [&*literal, "[::1]:8448", "inside.example", "inside.example:1", "served.example"]
    {
        let why = ask(&network, server).await.unwrap_err().to_string();
        assert!(why.contains("is on a private address, which is not connected to"), "{why}");
    }
    assert!(house.asked().is_empty());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_believed() {
    let ip: Ipv4Addr = own_address();
    let house = House::named(SocketAddr::from((ip, 0)), Some("host.example")).await;
    let zone = Zone::from([
        ("host.example.", vec![at(ip)]),
        (
            "_matrix-fed._tcp.served.example.",
            vec![service(0, house.address.port(), "host.example.")],
        ),
    ]);
    let (network, _) = way(zone, 1, true).await;
    // The certificate is for the server, and not for the host that a record names.
    let why = ask(&network, "served.example").await.unwrap_err().to_string();
    assert!(why.starts_with("connecting failed: invalid peer certificate"), "{why}");
    assert!(house.asked().is_empty());
    let named = format!("host.example:{}", house.address.port());
    asks(&network, &named, &house, &named, Some("host.example")).await;
}
