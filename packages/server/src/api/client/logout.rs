//! Logging out (client-server API 5.7.2), <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logout>

use ruma::api::client::session::{logout::v3 as logout, logout_all::v3 as logout_all};

use crate::{
    app::App,
    http::{ApiError, Matrix},
};

/// `POST /_matrix/client/v3/logout`
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logout>
pub(super) async fn logout(
    app: App,
    Matrix { identity, .. }: Matrix<logout::Request>,
) -> Result<logout::Response, ApiError> {
    let Some(device) = &identity.device_id else {
        return Err(ApiError::forbidden(
            "This token belongs to no device that could be logged out.",
        ));
    };
    app.users.log_out(&identity.user_id, device).await?;
    Ok(logout::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logoutall>
pub(super) async fn logout_all(
    app: App,
    Matrix { identity, .. }: Matrix<logout_all::Request>,
) -> Result<logout_all::Response, ApiError> {
    app.users.log_out_all(&identity.user_id).await?;
    Ok(logout_all::Response::new())
}
