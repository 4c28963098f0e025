//! Our own binary among other servers.

use std::process::Command;

use serde_json::json;

use super::{
    ca::ca,
    homeserver::{Place, configure},
    process::command,
};

/// Writes the configuration of a Matryx and says how to start it.
pub fn prepare(place: &Place<'_>) -> Command {
    let configuration = json!({
        "server_name": place.name,
        "database": { "url": format!("surrealkv://{}?sync=never", place.folder.join("database").display()) },
        "listener": {
            "client": { "bind": place.client.ip() },
            "federation": {
                "bind": place.federation.ip(),
                "tls": true,
                "tls_cert": "tls.crt",
                "tls_key": "tls.key",
            },
        },
        "federation": { "trusted_ca_file": ca().file() },
        "registration": { "open": true },
        "testing": {
            "allow_private_ip_destinations": true,
            "cheap_password_hashing": true,
            "disable_rate_limits": true,
            "short_federation_backoff": true,
        },
    });
    let text = toml::to_string(&configuration).expect("a configuration that TOML can say");
    configure(place, "matryx.toml", &text);
    let mut command = command(place.folder);
    command.env("MATRYX_LISTENER__CLIENT__PORT", place.client.port().to_string());
    command.env("MATRYX_LISTENER__FEDERATION__PORT", place.federation.port().to_string());
    command
}
