//! What stands in a member event.

use matryx_core::{
    membership::Membership,
    refusal::{Refusal, RefusalKind},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, UserId};

/// Who vouches for a join by a condition of the join rule.
pub(super) const AUTHORISER: &str = "join_authorised_via_users_server";

/// What a client cannot say: the server decides it, or it would have to be proved.
const NOT_THE_CLIENTS: [&str; 3] = ["membership", AUTHORISER, "third_party_invite"];

/// The content that a client gives, without what is not its to say.
pub(super) fn cleaned(mut content: CanonicalJsonObject) -> Result<CanonicalJsonObject, Refusal> {
    for key in NOT_THE_CLIENTS {
        content.remove(key);
    }
    for key in ["displayname", "avatar_url", "reason"] {
        let fits = |value: &CanonicalJsonValue| {
            matches!(value, CanonicalJsonValue::String(_) | CanonicalJsonValue::Null)
        };
        if !content.get(key).is_none_or(fits) {
            let sentence = format!("`{key}` must be a string.");
            return Err(Refusal::new(RefusalKind::BadJson, sentence));
        }
    }
    Ok(content)
}

/// Whether such a member event shows its target's profile. What others do to somebody, and leaving, does not.
pub(super) fn shows_profile(membership: Membership) -> bool {
    matches!(membership, Membership::Joined | Membership::Invited | Membership::Knocking)
}

/// The whole content: the client's, the membership, and of the profile what the client does not say otherwise.
pub(super) fn of_member(
    membership: Membership,
    mut content: CanonicalJsonObject,
    profile: &CanonicalJsonObject,
) -> CanonicalJsonObject {
    if shows_profile(membership) {
        for (field, value) in profile {
            content.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }
    content.insert("membership".to_owned(), text(membership.as_str()));
    content
}

/// The content of a join that somebody vouches for.
pub(super) fn authorised(mut content: CanonicalJsonObject, by: &UserId) -> CanonicalJsonObject {
    content.insert(AUTHORISER.to_owned(), text(by.as_str()));
    content
}

/// The content of a join.
pub(crate) fn joined(profile: &CanonicalJsonObject) -> CanonicalJsonObject {
    of_member(Membership::Joined, CanonicalJsonObject::new(), profile)
}

/// The content of an invite that comes with a new room.
pub(crate) fn invitation(profile: &CanonicalJsonObject, is_direct: bool) -> CanonicalJsonObject {
    let mut content = CanonicalJsonObject::new();
    if is_direct {
        content.insert("is_direct".to_owned(), CanonicalJsonValue::Bool(true));
    }
    of_member(Membership::Invited, content, profile)
}

fn text(value: &str) -> CanonicalJsonValue {
    CanonicalJsonValue::String(value.to_owned())
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    fn object(value: serde_json::Value) -> CanonicalJsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_client_says_neither_the_membership_nor_who_vouches() {
        let given = object(json!({
            "membership": "ban", "join_authorised_via_users_server": "@a:x",
            "third_party_invite": {}, "reason": "r", "org.example": [1],
        }));
        let kept = object(json!({"reason": "r", "org.example": [1]}));
        assert_eq!(cleaned(given).unwrap(), kept);
        for key in ["displayname", "avatar_url", "reason"] {
            let error = cleaned(object(json!({key: 1}))).unwrap_err();
            assert_eq!(error.kind, RefusalKind::BadJson);
            assert!(error.sentence.contains(key));
            assert!(cleaned(object(json!({key: null}))).is_ok());
        }
    }

    #[test]
    fn the_profile_fills_in_what_the_client_leaves_out() {
        let profile = object(json!({"displayname": "Alice", "avatar_url": "mxc://x/a"}));
        let own = object(json!({"displayname": null, "k": 1}));
        assert_eq!(
            of_member(Membership::Joined, own.clone(), &profile),
            object(json!({
                "membership": "join", "displayname": null, "avatar_url": "mxc://x/a", "k": 1,
            })),
        );
        assert_eq!(
            of_member(Membership::Banned, own, &profile),
            object(json!({"membership": "ban", "displayname": null, "k": 1})),
        );
        assert_eq!(
            authorised(joined(&CanonicalJsonObject::new()), user_id!("@b:x")),
            object(json!({"membership": "join", "join_authorised_via_users_server": "@b:x"})),
        );
        assert_eq!(
            invitation(&profile, true),
            object(json!({
                "membership": "invite", "is_direct": true,
                "displayname": "Alice", "avatar_url": "mxc://x/a",
            })),
        );
    }
}
