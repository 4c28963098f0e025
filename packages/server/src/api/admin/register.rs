//! Making accounts by a shared secret, as Synapse does it: scripts need no account for it, and no open registration.
//! <https://element-hq.github.io/synapse/latest/admin_api/register_api.html>

use hmac::{Hmac, Mac};
use ruma::{
    OwnedDeviceId,
    api::{
        IncomingRequest, Metadata,
        auth_scheme::NoAuthentication,
        error::{DeserializationError, Error as RumaError, ErrorKind},
        path_builder::SinglePath,
    },
};
use serde::{Deserialize, Serialize};
use sha1::Sha1;

use crate::{
    api::registration::Registration,
    app::App,
    config::Secret,
    http::{ApiError, Matrix, Plain},
    user::{NewAccount, NewDevice},
};

const PATH: SinglePath = SinglePath::new("/_synapse/admin/v1/register");

/// Asks for a nonce.
pub(super) struct NonceRequest;

#[derive(Serialize)]
pub(super) struct NonceResponse {
    nonce: String,
}

impl Metadata for NonceRequest {
    const METHOD: http::Method = http::Method::GET;
    const RATE_LIMITED: bool = true;
    type Authentication = NoAuthentication;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = PATH;
}

impl IncomingRequest for NonceRequest {
    type EndpointError = RumaError;
    type OutgoingResponse = Plain<NonceResponse>;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        _: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(Self)
    }
}

/// An account that a script wants.
#[derive(Deserialize)]
pub(super) struct Request {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    /// Part of what is signed, where it is given. There are no types of users here, so it means nothing.
    user_type: Option<String>,
    displayname: Option<String>,
    /// HMAC-SHA1 in hexadecimal digits.
    mac: String,
    #[serde(default)]
    inhibit_login: bool,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

impl Metadata for Request {
    const METHOD: http::Method = http::Method::POST;
    const RATE_LIMITED: bool = true;
    type Authentication = NoAuthentication;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = PATH;
}

impl IncomingRequest for Request {
    type EndpointError = RumaError;
    type OutgoingResponse = Plain<Registration>;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        _: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(serde_json::from_slice(request.body())?)
    }
}

/// `GET /_synapse/admin/v1/register`: a nonce for one account, good for a minute.
pub(super) async fn nonce(
    app: App,
    _: Matrix<NonceRequest>,
) -> Result<Plain<NonceResponse>, ApiError> {
    secret(&app)?;
    Ok(Plain(NonceResponse { nonce: app.users.nonce() }))
}

/// `POST /_synapse/admin/v1/register`
pub(super) async fn register(
    app: App,
    Matrix { request, .. }: Matrix<Request>,
) -> Result<Plain<Registration>, ApiError> {
    let secret = secret(&app)?;
    // In this order: a nonce is used up by whoever shows it.
    if !app.users.take_nonce(&request.nonce) {
        let message = "This nonce was not given out, was used already, or is older than a minute.";
        return Err(bad_request(message));
    }
    if !is_signed(&request, secret) {
        return Err(ApiError::forbidden(
            "The mac does not fit: it is HMAC-SHA1 over nonce, username, password, admin or \
             notadmin and the user_type, if any, with NUL between them, by the shared secret.",
        ));
    }
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refresh: request.refresh_token,
    };
    let account = NewAccount {
        name: Some(request.username),
        password: Some(request.password),
        admin: request.admin,
    };
    let registered =
        app.users.register(account, (!request.inhibit_login).then_some(device)).await?;
    if let Some(name) = request.displayname {
        app.users.set_profile_field(&registered.user_id, "displayname", name.into()).await?;
    }
    Ok(Plain(registered.into()))
}

fn secret(app: &App) -> Result<&Secret, ApiError> {
    let secret = app.config.registration.shared_secret.as_ref();
    secret.filter(|secret| !secret.reveal().is_empty()).ok_or_else(|| {
        bad_request("This endpoint is closed: the server has no registration.shared_secret.")
    })
}

fn bad_request(message: &str) -> ApiError {
    ApiError::new(http::StatusCode::BAD_REQUEST, ErrorKind::Unknown, message)
}

/// Whether whoever asks has the shared secret. Takes the same time for every wrong mac.
fn is_signed(request: &Request, secret: &Secret) -> bool {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.reveal().as_bytes()) else {
        return false;
    };
    let admin = if request.admin { "admin" } else { "notadmin" };
    let mut parts = vec![&*request.nonce, &*request.username, &*request.password, admin];
    parts.extend(request.user_type.as_deref());
    mac.update(parts.join("\0").as_bytes());
    unhex(&request.mac).is_some_and(|shown| mac.verify_slice(&shown).is_ok())
}

/// Bytes from hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    (0..text.len()).step_by(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(mac: &str) -> Request {
        serde_json::from_value(serde_json::json!({
            "nonce": "n", "username": "alice", "password": "wonderland", "admin": true, "mac": mac,
        }))
        .unwrap()
    }

    #[test]
    fn a_mac_is_as_synapse_makes_it() {
        let secret = Secret::new("secret".to_owned());
        // printf 'n\0alice\0wonderland\0admin' | openssl sha1 -hmac secret
        let mac = "f511830e4f2780e5df41706c8c1d1d0f1fe3dbea";
        assert!(is_signed(&request(mac), &secret));
        assert!(is_signed(&request(&mac.to_uppercase()), &secret));
        assert!(!is_signed(&request(mac), &Secret::new("other".to_owned())));
        assert!(!is_signed(&Request { admin: false, ..request(mac) }, &secret));
        for wrong in ["", "0", "+1", "é", &mac[2..], &format!("{mac}00")] {
            assert!(!is_signed(&request(wrong), &secret), "{wrong}");
        }
        // printf 'n\0alice\0wonderland\0admin\0bot' | openssl sha1 -hmac secret
        let typed = Request {
            user_type: Some("bot".to_owned()),
            ..request("06f013e5e077cc52012f00402747058aed058f48")
        };
        assert!(is_signed(&typed, &secret));
    }
}
