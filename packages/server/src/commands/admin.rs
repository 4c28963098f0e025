//! `matryx admin`: accounts, from the machine that the server is on.

use std::{
    io::{self, BufRead, IsTerminal},
    path::Path,
};

use clap::{Args, Subcommand};
use ruma::{OwnedUserId, ServerName, UserId};
use tokio::task::spawn_blocking;

use super::{Failure, Outcome};
use crate::{
    clock::Clock,
    lifecycle,
    random::Random,
    user::{NewAccount, Users},
};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an account. The password is read from standard input, one line
    CreateUser {
        /// What stands before the colon of the user's name
        name: String,
        /// The user may use the admin API
        #[arg(long)]
        admin: bool,
    },
    /// Give a user another password, read from standard input, and log all of their devices out
    ResetPassword {
        /// The name, or the whole user id
        user: String,
    },
    /// Let a user use the admin API
    MakeAdmin {
        /// The name, or the whole user id
        user: String,
    },
    /// Close an account for good: it cannot log in, and its name stays taken
    DeactivateUser {
        /// The name, or the whole user id
        user: String,
    },
}

pub(super) fn run(arguments: Arguments, file: Option<&Path>) -> Outcome {
    let config = super::load(file)?.config;
    super::in_runtime(async move {
        let (database, _) = lifecycle::open(&config).await?;
        let users = Users::new(
            database.clone(),
            config.server_name.clone(),
            Clock::machine(),
            Random::machine(),
            config.testing.cheap_password_hashing,
        );
        let done = act(arguments.action, &users, &config.server_name).await;
        database.close().await?;
        println!("{}", done?);
        Ok(())
    })
}

/// Does it, and says what is now so.
async fn act(action: Action, users: &Users, server: &ServerName) -> Result<String, Failure> {
    match action {
        Action::CreateUser { name, admin } => {
            users.available(&name).await?;
            let password = Some(password(&name).await?);
            let account = NewAccount { name: Some(name), password, admin };
            let user = users.register(account, None).await?.user_id;
            Ok(format!("{user} is there{}", if admin { ", an admin" } else { "" }))
        }
        Action::ResetPassword { user } => {
            let user = user_id(&user, server)?;
            users.set_password(&user, password(user.as_str()).await?, true).await?;
            Ok(format!("{user} has the new password; all devices are logged out"))
        }
        Action::MakeAdmin { user } => {
            let user = user_id(&user, server)?;
            users.set_admin(&user, true).await?;
            Ok(format!("{user} is an admin"))
        }
        Action::DeactivateUser { user } => {
            let user = user_id(&user, server)?;
            users.deactivate(&user).await?;
            Ok(format!("{user} is deactivated"))
        }
    }
}

/// A user of this server by name or by id.
fn user_id(user: &str, server: &ServerName) -> Result<OwnedUserId, Failure> {
    if user.is_empty() {
        return Err("the user name is empty".into());
    }
    let id = UserId::parse_with_server_name(user, server)
        .map_err(|error| format!("\"{user}\" is no user name: {error}"))?;
    if id.server_name() == server {
        Ok(id)
    } else {
        Err(format!("{id} is no user of {server}").into())
    }
}

/// One line: asked for without showing it at a terminal, read as it comes from a pipe.
async fn password(user: &str) -> Result<String, Failure> {
    let question = format!("Password for {user}: ");
    let answer = spawn_blocking(move || {
        if io::stdin().is_terminal() {
            return rpassword::prompt_password(question);
        }
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    });
    let password = answer.await?.map_err(|error| format!("the password can't be read: {error}"))?;
    if password.is_empty() {
        return Err("no password was given on standard input".into());
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn users_are_named_by_name_or_by_id() {
        let server = server_name!("here.example");
        for user in ["alice", "@alice:here.example"] {
            assert_eq!(user_id(user, server).unwrap(), "@alice:here.example");
        }
        for user in ["@alice:there.example", "@alice", ""] {
            assert!(user_id(user, server).is_err(), "{user}");
        }
    }
}
