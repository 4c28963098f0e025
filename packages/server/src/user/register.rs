//! New accounts.

use matryx_repository::Account;
use ruma::OwnedUserId;

use super::{LoggedIn, NewDevice, UserError, Users, name};

/// An account that is to be made.
#[derive(Clone, Debug, Default)]
pub struct NewAccount {
    /// The wanted name; without one it gets one.
    pub name: Option<String>,
    /// The password; without one nobody logs in to it by password.
    pub password: Option<String>,
    /// Whether the user may use the admin API.
    pub admin: bool,
}

/// An account that has been made.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The user.
    pub user_id: OwnedUserId,
    /// Its first device, if one was wanted.
    pub login: Option<LoggedIn>,
}

impl Users {
    /// Makes an account and, with `device`, logs it in; both or nothing.
    ///
    /// # Errors
    /// When the name is taken or none, the password is refused, or the database fails.
    pub async fn register(
        &self,
        account: NewAccount,
        device: Option<NewDevice>,
    ) -> Result<Registered, UserError> {
        let user_id = match account.name {
            Some(name) => self.available(&name).await?,
            None => self.made_up_name()?,
        };
        let password = match account.password {
            Some(password) => Some(self.0.hashing.hash(password).await?),
            None => None,
        };
        let created = self.0.clock.now();
        let (login, written) = match device {
            Some(device) => {
                let login = self.tokens_for(&user_id, &device)?;
                let written = login.to_login(device.display_name, created);
                (Some(login), Some(written))
            }
            None => (None, None),
        };
        let account = Account {
            user_id: user_id.clone(),
            password,
            admin: account.admin,
            deactivated: false,
            created,
        };
        if self.0.database.create_account(&account, written.as_ref()).await? {
            tracing::info!(user = %user_id, admin = account.admin, "user.registered");
            Ok(Registered { user_id, login })
        } else {
            Err(UserError::NameTaken(user_id))
        }
    }

    /// The user id that this name would get, if it can be had.
    ///
    /// # Errors
    /// When it is taken or no name, or the database fails.
    pub async fn available(&self, name: &str) -> Result<OwnedUserId, UserError> {
        let user_id = name::wanted(name, &self.0.server_name)?;
        match self.0.database.account(&user_id).await? {
            Some(_) => Err(UserError::NameTaken(user_id)),
            None => Ok(user_id),
        }
    }

    /// 12 of 32 characters: taken only by chance, and the chance is none.
    fn made_up_name(&self) -> Result<OwnedUserId, UserError> {
        let name = self.0.random.text(12, b"abcdefghijkmnpqrstuvwxyz23456789");
        name::wanted(&name, &self.0.server_name)
    }
}
