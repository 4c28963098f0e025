//! `GET /_matrix/federation/v1/version`
//!
//! Which software this server is.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version>

use ruma::api::federation::discovery::get_server_version::v1::{Request, Response, Server};

use crate::{
    app::App,
    http::{ApiError, Matrix},
};

pub(super) async fn version(_: App, _: Matrix<Request>) -> Result<Response, ApiError> {
    let mut server = Server::new();
    server.name = Some("Matryx".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = Response::new();
    response.server = Some(server);
    Ok(response)
}
