//! Synapse, unmodified, as it comes from `PyPI`.

use std::{net::SocketAddr, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::json;

use super::{
    ca::ca,
    homeserver::{Place, configure},
    venv,
};

const SYNAPSE: &str = "matrix-synapse==1.163.2";

/// Writes the configuration of a Synapse and says how to start it.
pub fn prepare(place: &Place<'_>) -> Command {
    let python = venv::python("synapse", SYNAPSE);
    let seed = STANDARD_NO_PAD.encode(rand::random::<[u8; 32]>());
    configure(place, "signing.key", &format!("ed25519 a_test {seed}\n"));
    // YAML, as all of JSON is.
    configure(place, "homeserver.yaml", &format!("{:#}", configuration(place)));
    let mut command = Command::new(python);
    command
        .args(["-m", "synapse.app.homeserver", "-c", "homeserver.yaml"])
        .current_dir(place.folder);
    command
}

fn configuration(place: &Place<'_>) -> serde_json::Value {
    let listener = |address: SocketAddr, tls: bool, resource: &str| {
        json!({
            "port": address.port(),
            "type": "http",
            "tls": tls,
            "bind_addresses": [address.ip()],
            "resources": [{ "names": [resource] }],
        })
    };
    let mut configuration = json!({
        "server_name": place.name,
        "public_baseurl": format!("http://{}/", place.client),
        "listeners": [
            listener(place.client, false, "client"),
            listener(place.federation, true, "federation"),
        ],
        "tls_certificate_path": "tls.crt",
        "tls_private_key_path": "tls.key",
        "database": { "name": "sqlite3", "args": { "database": "homeserver.db" } },
        "media_store_path": "media",
        "signing_key_path": "signing.key",
        "macaroon_secret_key": "of no importance",
        "form_secret": "of no importance",
        "report_stats": false,
        // Other servers are on loopback addresses, sign their own certificates, and are not asked about each other.
        "federation_custom_ca_list": [ca().file()],
        "federation_ip_range_blacklist": [],
        "ip_range_blacklist": [],
        "trusted_key_servers": [],
        // Those that were down are tried again at once, and those that stay silent are given up soon.
        "federation": {
            "client_timeout": "10s",
            "max_short_retries": 1,
            "max_short_retry_delay": 100,
            "max_long_retries": 1,
            "max_long_retry_delay": 100,
            "destination_min_retry_interval": 10,
            "destination_retry_multiplier": 1,
            "destination_max_retry_interval": 50,
        },
        "enable_registration": true,
        "enable_registration_without_verification": true,
        "bcrypt_rounds": 4,
        // What no scene is about.
        "presence": { "enabled": false },
        "stats": { "enabled": false },
        "user_directory": { "enabled": false },
        // Every look at /sync is a new one.
        "caches": { "sync_response_cache_duration": 0 },
    });
    let limits = configuration.as_object_mut().expect("an object");
    let plenty = json!({ "per_second": 10_000, "burst_count": 10_000 });
    for limit in ["rc_message", "rc_registration", "rc_joins_per_room", "rc_room_creation"] {
        limits.insert(limit.to_owned(), plenty.clone());
    }
    for limit in ["rc_key_requests", "rc_profile", "rc_user_directory"] {
        limits.insert(limit.to_owned(), plenty.clone());
    }
    let login = json!({ "address": plenty, "account": plenty, "failed_attempts": plenty });
    limits.insert("rc_login".to_owned(), login);
    limits.insert("rc_joins".to_owned(), json!({ "local": plenty, "remote": plenty }));
    let invites = json!({ "per_room": plenty, "per_user": plenty, "per_issuer": plenty });
    limits.insert("rc_invites".to_owned(), invites);
    let requests = json!({ "sleep_limit": 10_000, "reject_limit": 10_000, "concurrent": 100 });
    limits.insert("rc_federation".to_owned(), requests);
    limits.insert("federation_rr_transactions_per_room_per_second".to_owned(), json!(10_000));
    configuration
}
