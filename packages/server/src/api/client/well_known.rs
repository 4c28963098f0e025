//! `GET /.well-known/matrix/client`
//!
//! Where the client API is.
//! <https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixclient>

use ruma::api::client::discovery::discover_homeserver::{HomeserverInfo, Request, Response};

use crate::{
    app::App,
    http::{ApiError, Matrix},
};

pub(super) async fn client(app: App, _: Matrix<Request>) -> Result<Response, ApiError> {
    Ok(Response::new(HomeserverInfo::new(app.config.base_url())))
}
