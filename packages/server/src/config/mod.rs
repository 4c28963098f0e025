//! The configuration: one file per section, each key with its default, its explanation and its limits.

mod appservice;
mod database;
mod example;
mod federation;
mod listener;
mod load;
mod log;
mod registration;
mod secret;
mod section;
mod server_notices;
mod size;
mod testing;

use std::path::PathBuf;

use ruma::{OwnedServerName, RoomVersionId, server_name};
use section::section;

pub use self::{
    appservice::Appservice,
    database::Database,
    example::example,
    federation::Federation,
    listener::{Listener, Listeners},
    load::{ConfigError, Loaded},
    log::{Format, Log},
    registration::Registration,
    secret::Secret,
    server_notices::ServerNotices,
    size::Size,
    testing::Testing,
};

/// The room versions that clients may make, oldest first.
pub const ROOM_VERSIONS: &[RoomVersionId] = &[
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

section! {
    /// Configuration of Matryx.
    ///
    /// Every key may be left out; what stands here is its default. The environment overrides the file: MATRYX_ and the
    /// key in capitals, sections separated by two underscores, as in `MATRYX_LISTENER__CLIENT__PORT=8080`.
    Config {
        /// The name of this server: what stands after the colon in the names of its users. It can never be changed.
        server_name: OwnedServerName = server_name!("localhost").to_owned();
        /// The address under which clients reach the server, for /.well-known/matrix/client. Without it: https:// and
        /// the server's name, or for localhost the client listener.
        public_base_url: Option<String> = None, e.g. "\"https://matrix.example.org\"";
        /// The folder for everything that the server keeps.
        data_dir: PathBuf = PathBuf::from("./data");
        /// The version of rooms whose creators ask for none: "6" to "12".
        default_room_version: RoomVersionId = RoomVersionId::V12;
        /// Where the server listens.
        listener: Listeners = Listeners::default();
        /// The embedded database.
        database: Database = Database::default();
        /// Who may make an account.
        registration: Registration = Registration::default();
        /// What is logged, and how.
        log: Log = Log::default();
        /// Other servers.
        federation: Federation = Federation::default();
        /// Application services.
        appservice: Appservice = Appservice::default();
        /// Messages from the server itself.
        server_notices: ServerNotices = ServerNotices::default();
        /// Switches for tests, none of which belongs into production.
        testing: Testing = Testing::default();
    }
}

impl Config {
    /// The address under which clients reach the server, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        match &self.public_base_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None if self.server_name == "localhost" => {
                format!("http://localhost:{}", self.listener.client.port)
            }
            None => format!("https://{}", self.server_name),
        }
    }

    /// The database's URL, which is below the data directory where none is given.
    #[must_use]
    pub fn database_url(&self) -> String {
        let default = || format!("surrealkv://{}", self.data_dir.join("database").display());
        self.database.url.clone().unwrap_or_else(default)
    }

    /// Everything that is wrong with the values, one sentence each.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(url) = &self.public_base_url
            && !is_base_url(url)
        {
            problems.push(format!(
                "public_base_url is \"{url}\": it must be http:// or https:// and a host, without query or fragment"
            ));
        }
        if !ROOM_VERSIONS.contains(&self.default_room_version) {
            problems.push(format!(
                "default_room_version is \"{}\": it must be one of \"6\" to \"12\"",
                self.default_room_version
            ));
        }
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir is empty: it must name a folder".to_owned());
        }
        problems.extend(self.listener.validate());
        problems.extend(self.database.validate());
        problems.extend(self.log.validate());
        problems.extend(self.federation.validate());
        problems.extend(self.server_notices.validate(&self.server_name));
        problems
    }
}

fn is_base_url(url: &str) -> bool {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty()
            && !host.starts_with('/')
            && !host.contains(|c: char| c == '?' || c == '#' || c.is_whitespace())
    })
}
