//! `GET /_matrix/client/v3/capabilities`
//!
//! What the server can and what the user may.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3capabilities>

use ruma::api::client::discovery::get_capabilities::v3::{
    Capabilities, ChangePasswordCapability, GetLoginTokenCapability, ProfileFieldsCapability,
    Request, Response, RoomVersionStability, RoomVersionsCapability, ThirdPartyIdChangesCapability,
};

use crate::{
    app::App,
    config::ROOM_VERSIONS,
    http::{ApiError, Matrix},
};

pub(super) async fn capabilities(app: App, _: Matrix<Request>) -> Result<Response, ApiError> {
    let available =
        ROOM_VERSIONS.iter().map(|version| (version.clone(), RoomVersionStability::Stable));
    let default = app.config.default_room_version.clone();

    let mut capabilities = Capabilities::new();
    capabilities.room_versions = RoomVersionsCapability::new(default, available.collect());
    capabilities.change_password = ChangePasswordCapability::new(false);
    // The older m.set_displayname and m.set_avatar_url are true where they are not mentioned.
    capabilities.profile_fields = Some(ProfileFieldsCapability::new(true));
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(false);
    capabilities.get_login_token = GetLoginTokenCapability::new(false);
    Ok(Response::new(capabilities))
}
