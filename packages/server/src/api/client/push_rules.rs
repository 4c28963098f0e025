//! Push rules (client-server API 11.13), <https://spec.matrix.org/v1.19/client-server-api/#push-rules-api>
//!
//! Everyone has the default rules; changing them is not built yet.

use ruma::{
    UserId,
    api::client::push::{
        PushRule, RuleKind, get_pushrule::v3 as rule, get_pushrule_actions::v3 as actions,
        get_pushrule_enabled::v3 as enabled, get_pushrules_all::v3 as all,
        get_pushrules_global_scope::v3 as global,
    },
    push::{AnyPushRuleRef, Ruleset},
};

use crate::{
    app::App,
    http::{ApiError, Matrix},
};

/// `GET /_matrix/client/v3/pushrules/`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrules>
pub(super) async fn all(
    _: App,
    Matrix { identity, .. }: Matrix<all::Request>,
) -> Result<all::Response, ApiError> {
    Ok(all::Response::new(Ruleset::server_default(&identity.user_id)))
}

/// `GET /_matrix/client/v3/pushrules/global/`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobal>
pub(super) async fn global(
    _: App,
    Matrix { identity, .. }: Matrix<global::Request>,
) -> Result<global::Response, ApiError> {
    Ok(global::Response::new(Ruleset::server_default(&identity.user_id)))
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleid>
pub(super) async fn rule(
    _: App,
    Matrix { request, identity, .. }: Matrix<rule::Request>,
) -> Result<rule::Response, ApiError> {
    find(&identity.user_id, request.kind, &request.rule_id, |rule| PushRule::from(rule))
        .map(rule::Response::new)
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleidactions>
pub(super) async fn actions(
    _: App,
    Matrix { request, identity, .. }: Matrix<actions::Request>,
) -> Result<actions::Response, ApiError> {
    let answer = |rule: AnyPushRuleRef<'_>| rule.actions().to_vec();
    find(&identity.user_id, request.kind, &request.rule_id, answer).map(actions::Response::new)
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleidenabled>
pub(super) async fn enabled(
    _: App,
    Matrix { request, identity, .. }: Matrix<enabled::Request>,
) -> Result<enabled::Response, ApiError> {
    let answer = |rule: AnyPushRuleRef<'_>| rule.enabled();
    find(&identity.user_id, request.kind, &request.rule_id, answer).map(enabled::Response::new)
}

/// What `answer` says of a user's rule.
fn find<T>(
    user: &UserId,
    kind: RuleKind,
    id: &str,
    answer: impl FnOnce(AnyPushRuleRef<'_>) -> T,
) -> Result<T, ApiError> {
    let name = kind.as_str().to_owned();
    let rules = Ruleset::server_default(user);
    let rule = rules.get(kind, id);
    let missing = || ApiError::not_found(format!("There is no {name} push rule {id}."));
    rule.map(answer).ok_or_else(missing)
}
