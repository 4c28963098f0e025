//! The specification's decision table, without a network.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use ruma::OwnedServerName;

use super::{Discovery, Outside, Service, Target};
use crate::random::Random;

/// A world that is written down, and remembers what it was asked.
#[derive(Debug, Default)]
struct World {
    hosts: BTreeMap<&'static str, Vec<&'static str>>,
    services: BTreeMap<&'static str, Vec<Service>>,
    delegations: BTreeMap<&'static str, &'static str>,
    asked: Mutex<Vec<String>>,
}

impl World {
    fn host(mut self, host: &'static str, addresses: &[&'static str]) -> Self {
        self.hosts.insert(host, addresses.to_vec());
        self
    }

    fn service(mut self, name: &'static str, host: &str, port: u16, priority: u16) -> Self {
        let service = Service { priority, weight: 0, host: host.to_owned(), port };
        self.services.entry(name).or_default().push(service);
        self
    }

    fn delegation(mut self, host: &'static str, server: &'static str) -> Self {
        self.delegations.insert(host, server);
        self
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

impl Outside for World {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        self.note(format!("A {host}"));
        let found = self.hosts.get(host).into_iter().flatten();
        let found = found.map(|address| address.parse().unwrap()).collect();
        Box::pin(async { Ok(found) })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        self.note(format!("SRV {name}"));
        let found = match name {
            "_matrix-fed._tcp.broken.example." => Err("SERVFAIL".to_owned()),
            name => Ok(self.services.get(name).cloned().unwrap_or_default()),
        };
        Box::pin(async { found })
    }

    fn delegated<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Option<OwnedServerName>> {
        self.note(format!("well-known {host}"));
        let found = self.delegations.get(host).map(|name| (*name).try_into().unwrap());
        Box::pin(async { found })
    }
}

fn find(world: World, allow_private: bool, server: &str) -> (Result<Target, String>, Vec<String>) {
    let world = Arc::new(world);
    let discovery = Discovery::new(Arc::<World>::clone(&world), allow_private, Random::seeded(1));
    let server = <&ruma::ServerName>::try_from(server).unwrap();
    let found = futures::executor::block_on(discovery.find(server));
    let asked = world.asked.lock().unwrap().clone();
    (found, asked)
}

/// Certificate, Host header, addresses.
#[track_caller]
fn found(world: World, server: &str) -> (String, String, Vec<String>) {
    let (target, _) = find(world, false, server);
    let target = target.unwrap();
    let addresses = target.addresses.iter().map(ToString::to_string).collect();
    (target.certificate, target.host, addresses)
}

fn is(certificate: &str, host: &str, addresses: &[&str]) -> (String, String, Vec<String>) {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    (certificate.to_owned(), host.to_owned(), addresses)
}

#[test]
fn addresses_are_where_they_say() {
    let world = World::default;
    assert_eq!(found(world(), "1.1.1.1"), is("1.1.1.1", "1.1.1.1", &["1.1.1.1:8448"]));
    assert_eq!(found(world(), "1.1.1.1:80"), is("1.1.1.1", "1.1.1.1:80", &["1.1.1.1:80"]));
    let six = is("[2606:4700::1]", "[2606:4700::1]", &["[2606:4700::1]:8448"]);
    assert_eq!(found(world(), "[2606:4700::1]"), six);
    let six = is("[2606:4700::1]", "[2606:4700::1]:80", &["[2606:4700::1]:80"]);
    assert_eq!(found(world(), "[2606:4700::1]:80"), six);
    let (_, asked) = find(world(), false, "1.1.1.1:80");
    assert!(asked.is_empty(), "{asked:?}");
}

#[test]
fn a_port_means_that_nothing_else_is_looked_up() {
    let world = || {
        World::default()
            .host("example.org", &["1.1.1.1", "2606:4700::1"])
            .delegation("example.org", "elsewhere.example")
            .service("_matrix-fed._tcp.example.org.", "elsewhere.example.", 1, 0)
    };
    let expected = is("example.org", "example.org:8448", &["1.1.1.1:8448", "[2606:4700::1]:8448"]);
    assert_eq!(found(world(), "example.org:8448"), expected);
    let (_, asked) = find(world(), false, "example.org:8448");
    assert_eq!(asked, ["A example.org"]);
}

#[test]
fn a_host_may_delegate() {
    let world = |to| {
        World::default()
            .delegation("example.org", to)
            .delegation("matrix.example", "too.far.example")
            .host("matrix.example", &["1.1.1.1"])
    };
    // 3.1: an address, with and without a port
    assert_eq!(found(world("1.0.0.1"), "example.org"), is("1.0.0.1", "1.0.0.1", &["1.0.0.1:8448"]));
    assert_eq!(
        found(world("1.0.0.1:5"), "example.org"),
        is("1.0.0.1", "1.0.0.1:5", &["1.0.0.1:5"])
    );
    // 3.2: a name with a port
    assert_eq!(
        found(world("matrix.example:443"), "example.org"),
        is("matrix.example", "matrix.example:443", &["1.1.1.1:443"])
    );
    // 3.3 and 3.4: a name with services, the newer first
    let served = || {
        world("matrix.example")
            .service("_matrix._tcp.matrix.example.", "old.example.", 1, 0)
            .host("old.example", &["1.1.1.2"])
    };
    let expected = is("matrix.example", "matrix.example", &["1.1.1.2:1"]);
    assert_eq!(found(served(), "example.org"), expected);
    let newer = served()
        .service("_matrix-fed._tcp.matrix.example.", "new.example.", 2, 0)
        .host("new.example", &["1.1.1.3"]);
    let expected = is("matrix.example", "matrix.example", &["1.1.1.3:2"]);
    assert_eq!(found(newer, "example.org"), expected);
    // 3.5: a name and nothing else, which delegates no further
    let expected = is("matrix.example", "matrix.example", &["1.1.1.1:8448"]);
    assert_eq!(found(world("matrix.example"), "example.org"), expected);
    let (_, asked) = find(world("matrix.example"), false, "example.org");
    assert_eq!(
        asked,
        [
            "well-known example.org",
            "SRV _matrix-fed._tcp.matrix.example.",
            "SRV _matrix._tcp.matrix.example.",
            "A matrix.example",
        ]
    );
}

#[test]
fn without_delegation_the_name_itself_is_looked_up() {
    let world = || World::default().host("example.org", &["1.1.1.1"]);
    // 4 and 5
    let served = || {
        world()
            .service("_matrix._tcp.example.org.", "old.example.", 1, 0)
            .host("old.example", &["1.1.1.2"])
    };
    let expected = is("example.org", "example.org", &["1.1.1.2:1"]);
    assert_eq!(found(served(), "example.org"), expected);
    let newer = served().service("_matrix-fed._tcp.example.org.", "old.example.", 2, 0);
    let expected = is("example.org", "example.org", &["1.1.1.2:2"]);
    assert_eq!(found(newer, "example.org"), expected);
    // 6
    let expected = is("example.org", "example.org", &["1.1.1.1:8448"]);
    assert_eq!(found(world(), "example.org"), expected);
}

#[test]
fn services_are_tried_in_order_and_may_be_missing_in_part() {
    let name = "_matrix-fed._tcp.example.org.";
    let world = World::default()
        .service(name, "second.example.", 2, 20)
        .service(name, "gone.example.", 3, 15)
        .service(name, "first.example.", 1, 10)
        .host("first.example", &["1.1.1.1"])
        .host("second.example", &["1.1.1.2", "2606:4700::2"]);
    let expected = ["1.1.1.1:1", "1.1.1.2:2", "[2606:4700::2]:2"];
    assert_eq!(found(world, "example.org"), is("example.org", "example.org", &expected));

    let world = World::default().service(name, ".", 0, 0).host("example.org", &["1.1.1.1"]);
    let expected = is("example.org", "example.org", &["1.1.1.1:8448"]);
    assert_eq!(found(world, "example.org"), expected);

    let world = World::default().host("broken.example", &["1.1.1.1"]);
    let expected = is("broken.example", "broken.example", &["1.1.1.1:8448"]);
    assert_eq!(found(world, "broken.example"), expected);
}

#[test]
fn private_addresses_are_refused_unless_they_are_allowed() {
    let world = || {
        World::default()
            .host("inside.example", &["10.0.0.1"])
            .host("both.example", &["127.0.0.1", "1.1.1.1"])
            .delegation("example.org", "192.168.0.1")
            .service("_matrix-fed._tcp.served.example.", "inside.example.", 1, 0)
    };
    for server in ["127.0.0.1", "[::1]:80", "inside.example", "example.org", "served.example"] {
        let why = find(world(), false, server).0.unwrap_err();
        assert!(why.contains("private address"), "{server}: {why}");
        assert!(find(world(), true, server).0.is_ok(), "{server}");
    }
    let (certificate, _, addresses) = found(world(), "both.example:1");
    assert_eq!((&*certificate, addresses), ("both.example", vec!["1.1.1.1:1".to_owned()]));
}

#[test]
fn a_host_that_is_not_there_is_named() {
    let why = find(World::default(), false, "nowhere.example").0.unwrap_err();
    assert_eq!(why, "there is no host nowhere.example");
}
