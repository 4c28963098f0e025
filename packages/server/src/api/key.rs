//! Keys: ours, and as a notary those of others.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject,
    api::federation::discovery::{
        ServerSigningKeys, get_remote_server_keys as one, get_remote_server_keys_batch as batch,
        get_server_keys as ours,
    },
    serde::Raw,
};

use crate::{
    app::App,
    http::{ApiError, Matrix},
};

/// `GET /_matrix/key/v2/server`
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>
pub(super) async fn own(
    app: App,
    _: Matrix<ours::v2::Request>,
) -> Result<ours::v2::Response, ApiError> {
    let document = app.federation.keys().own_document().map_err(ApiError::internal)?;
    Ok(ours::v2::Response::new(raw(&document)?))
}

/// `GET /_matrix/key/v2/query/{serverName}`
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername>
pub(super) async fn of_another(
    app: App,
    matrix: Matrix<one::v2::Request>,
) -> Result<one::v2::Response, ApiError> {
    let one::v2::Request { server_name, minimum_valid_until_ts: at, .. } = matrix.request;
    let wanted = BTreeMap::from([(server_name, at)]);
    let documents = app.federation.keys().documents(wanted).await;
    Ok(one::v2::Response::new(documents.iter().map(raw).collect::<Result<_, _>>()?))
}

/// `POST /_matrix/key/v2/query`
/// <https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query>
pub(super) async fn of_others(
    app: App,
    matrix: Matrix<batch::v2::Request>,
) -> Result<batch::v2::Response, ApiError> {
    let now = app.clock.now();
    let wanted = matrix.request.server_keys.into_iter().map(|(server, keys)| {
        let times = keys.values().filter_map(|wanted| wanted.minimum_valid_until_ts);
        (server, times.max().unwrap_or(now))
    });
    let documents = app.federation.keys().documents(wanted.collect()).await;
    let documents = documents.iter().map(raw).collect::<Result<_, _>>()?;
    Ok(batch::v2::Response::new(documents))
}

fn raw(document: &CanonicalJsonObject) -> Result<Raw<ServerSigningKeys>, ApiError> {
    Raw::new(document).map(Raw::cast_unchecked).map_err(ApiError::internal)
}
