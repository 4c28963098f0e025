//! Accounts: `user:⟨user id⟩`, for local users only.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId};
use surrealdb::types::{Object, RecordId, SurrealValue, object};

use crate::{
    Database, StoreError, device,
    device::{Login, Removed},
    time, value,
};

/// A local account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The password's hash in PHC format; none when the account can't be logged in to by password.
    pub password: Option<String>,
    /// Whether this user may use the admin API.
    pub admin: bool,
    /// Whether the account has been closed for good. Its name is never given out again.
    pub deactivated: bool,
    /// When it was made.
    pub created: MilliSecondsSinceUnixEpoch,
}

#[derive(SurrealValue)]
struct Row {
    password: Option<String>,
    admin: bool,
    deactivated: bool,
    created: i64,
    logins: i64,
}

impl Row {
    fn into_account(self, user_id: &UserId) -> Account {
        let Self { password, admin, deactivated, created, logins: _ } = self;
        let created = time::from_row(created);
        Account { user_id: user_id.to_owned(), password, admin, deactivated, created }
    }
}

impl From<&Account> for Row {
    fn from(account: &Account) -> Self {
        Self {
            password: account.password.clone(),
            admin: account.admin,
            deactivated: account.deactivated,
            created: time::to_row(account.created),
            logins: 0,
        }
    }
}

/// `user:⟨user id⟩`
pub(crate) fn id(user: &UserId) -> RecordId {
    value::named("user", user)
}

impl Database {
    /// Writes a new account, and its first device with it where there is one.
    ///
    /// False if the name is taken: nothing is written then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_account(
        &self,
        account: &Account,
        login: Option<&Login>,
    ) -> Result<bool, StoreError> {
        let mut variables = object! { user: id(&account.user_id), row: Row::from(account) };
        let mut sql = "{ CREATE $user CONTENT $row RETURN NONE;".to_owned();
        if let Some(login) = login {
            sql.push_str(device::CREATE);
            variables.extend(device::variables(login));
        }
        sql.push('}');
        match self.change(&sql, variables).await {
            Ok(_) => Ok(true),
            Err(StoreError::Exists) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The account of a user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account(&self, user: &UserId) -> Result<Option<Account>, StoreError> {
        let mut answer =
            self.ask("SELECT * OMIT id FROM ONLY $user", object! { user: id(user) }).await?;
        let row: Option<Row> = answer.take(0)?;
        Ok(row.map(|row| row.into_account(user)))
    }

    /// Replaces the password's hash; with `log_out`, all of the user's devices go too.
    ///
    /// `None` if there is no such account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_password(
        &self,
        user: &UserId,
        password: &str,
        log_out: bool,
    ) -> Result<Option<Removed>, StoreError> {
        self.change_account(user, object! { password: password }, log_out).await
    }

    /// Makes a user an admin or takes that away. False if there is no such account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_admin(&self, user: &UserId, admin: bool) -> Result<bool, StoreError> {
        Ok(self.change_account(user, object! { admin: admin }, false).await?.is_some())
    }

    /// Closes an account for good: no password, no devices, no tokens. Its name stays taken.
    ///
    /// `None` if there is no such account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deactivate(&self, user: &UserId) -> Result<Option<Removed>, StoreError> {
        let fields = object! { deactivated: true, password: Option::<String>::None };
        self.change_account(user, fields, true).await
    }

    /// Changes fields of an account and, with `log_out`, removes all of its devices in the same transaction.
    async fn change_account(
        &self,
        user: &UserId,
        fields: Object,
        log_out: bool,
    ) -> Result<Option<Removed>, StoreError> {
        let mut sql =
            "{ IF (UPDATE ONLY $user MERGE $fields RETURN VALUE true) != true { RETURN NONE };"
                .to_owned();
        if log_out {
            sql.push_str(device::REMOVE);
        } else {
            sql.push_str("RETURN [];");
        }
        sql.push('}');
        let variables = object! { user: id(user), fields: fields, devices: device::all_of(user) };
        let mut answer = self.change(&sql, variables).await?;
        Removed::read(&mut answer)
    }
}
