//! `GET /.well-known/matrix/server`
//!
//! Where other servers find this one.
//! <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>

use ruma::api::federation::discovery::discover_homeserver::{Request, Response};

use crate::{
    app::App,
    http::{ApiError, Matrix},
};

pub(super) async fn server(app: App, _: Matrix<Request>) -> Result<Response, ApiError> {
    match &app.config.federation.public_name {
        Some(name) => Ok(Response::new(name.clone())),
        None => Err(ApiError::not_found("This server is found under its own name.")),
    }
}
