//! One's own account (client-server API 5.7), <https://spec.matrix.org/v1.19/client-server-api/#account-management>

use ruma::api::client::account::whoami::v3 as whoami;

use crate::{
    app::App,
    http::{ApiError, Matrix},
};

/// `GET /_matrix/client/v3/account/whoami`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3accountwhoami>
pub(super) async fn whoami(
    _: App,
    Matrix { identity, .. }: Matrix<whoami::Request>,
) -> Result<whoami::Response, ApiError> {
    let mut response = whoami::Response::new(identity.user_id, false);
    response.device_id = identity.device_id;
    Ok(response)
}
