//! What users say about themselves.

use std::collections::BTreeMap;

use matryx_repository::StoreError;
use ruma::{UserId, profile::UserProfile};
use serde_json::Value as Json;

use super::{
    UserError, Users,
    error::{PROFILE_KEY_LIMIT, PROFILE_LIMIT},
};

/// How long a display name may be, in characters. It is copied into an event of every room of the user.
const DISPLAY_NAME_LIMIT: usize = 256;
/// How long an avatar's URL may be, in bytes.
const AVATAR_URL_LIMIT: usize = 1000;

impl Users {
    /// The profile of a user of this server; nothing if there is no such user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn profile(&self, user: &UserId) -> Result<Option<UserProfile>, StoreError> {
        let fields = self.0.database.profile(user).await?;
        if fields.is_empty() && !self.exists(user).await? {
            return Ok(None);
        }
        Ok(Some(fields.into_iter().collect()))
    }

    /// Sets one field of a profile. An empty or null display name or avatar is none.
    ///
    /// # Errors
    /// When the field can't have this value, the profile would become too large, or the database fails.
    pub async fn set_profile_field(
        &self,
        user: &UserId,
        field: &str,
        value: Json,
    ) -> Result<(), UserError> {
        check_key(field)?;
        if is_text(field) && (value.is_null() || value == "") {
            return Ok(self.0.database.remove_profile_field(user, field).await?);
        }
        check_value(field, &value)?;
        let mut fields = self.0.database.profile(user).await?;
        fields.insert(field.to_owned(), value.clone());
        if size(&fields) > PROFILE_LIMIT {
            return Err(UserError::ProfileTooLarge);
        }
        Ok(self.0.database.set_profile_field(user, field, &value).await?)
    }

    /// Removes one field of a profile, whether it is there or not.
    ///
    /// # Errors
    /// When no field can have this name, or the database fails.
    pub async fn remove_profile_field(&self, user: &UserId, field: &str) -> Result<(), UserError> {
        check_key(field)?;
        Ok(self.0.database.remove_profile_field(user, field).await?)
    }
}

/// The fields that are always text, and that membership events copy.
fn is_text(field: &str) -> bool {
    matches!(field, "displayname" | "avatar_url")
}

fn size(fields: &BTreeMap<String, Json>) -> usize {
    // A map of JSON values has no way not to become JSON.
    serde_json::to_string(fields).map_or(usize::MAX, |text| text.len())
}

/// Names follow the common namespaced identifier grammar (appendices 4.2.1), and `displayname` is among them.
fn check_key(field: &str) -> Result<(), UserError> {
    if field.len() > PROFILE_KEY_LIMIT {
        return Err(UserError::ProfileKeyTooLarge);
    }
    let starts = field.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
    if starts && field.chars().all(allowed) {
        return Ok(());
    }
    Err(UserError::BadProfileValue(format!(
        "{field:?} can't be the name of a profile's field: it begins with a–z and has only a–z, 0–9 and . _ - after it."
    )))
}

fn check_value(field: &str, value: &Json) -> Result<(), UserError> {
    let refuse = |sentence: &str| Err(UserError::BadProfileValue(sentence.to_owned()));
    match (field, value.as_str()) {
        ("displayname" | "avatar_url" | "m.tz", None) => {
            Err(UserError::BadProfileValue(format!("{field} must be a text.")))
        }
        ("displayname", Some(name)) if name.chars().count() > DISPLAY_NAME_LIMIT => {
            refuse("A display name has at most 256 characters.")
        }
        ("avatar_url", Some(url)) if url.len() > AVATAR_URL_LIMIT => {
            refuse("An avatar's URL has at most 1000 bytes.")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_have_names_and_values_of_their_kind() {
        for field in ["displayname", "m.tz", "org.example.a-b_c2"] {
            assert!(check_key(field).is_ok(), "{field}");
        }
        for field in ["", "Name", "1a", "a b", "a/b", "é"] {
            assert!(check_key(field).is_err(), "{field}");
        }
        assert!(matches!(check_key(&"a".repeat(256)), Err(UserError::ProfileKeyTooLarge)));
        assert!(check_value("displayname", &json!("é".repeat(256))).is_ok());
        for (field, value) in [
            ("displayname", json!("é".repeat(257))),
            ("displayname", json!(1)),
            ("avatar_url", json!({})),
            ("avatar_url", json!("x".repeat(1001))),
            ("m.tz", json!(null)),
        ] {
            assert!(check_value(field, &value).is_err(), "{field} {value}");
        }
        assert!(check_value("org.example", &json!(null)).is_ok());
    }
}
