//! `GET /_matrix/client/versions`
//!
//! Which versions of the specification the server speaks.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions>

use ruma::api::client::discovery::get_supported_versions::{Request, Response};

use crate::{
    app::App,
    http::{ApiError, Matrix},
};

/// r0.6.1 is there for clients that know no newer name.
const VERSIONS: [&str; 20] = [
    "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
    "v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

pub(super) async fn versions(_: App, _: Matrix<Request>) -> Result<Response, ApiError> {
    Ok(Response::new(VERSIONS.map(str::to_owned).to_vec()))
}
