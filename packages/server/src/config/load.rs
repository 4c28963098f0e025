//! From a file and the environment to a [`Config`], or to sentences that say what to correct.

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    error::Kind,
    providers::{Format, Serialized, Toml},
    value::Value,
};

use super::{Config, example};

/// Keys whose feature is not built yet. They are accepted, so that a file may already have them.
const NOT_BUILT: &[&str] = &[
    "registration.guests",
    "federation.public_rooms_over_federation",
    "appservice",
    "server_notices",
    "testing.disable_rate_limits",
    "testing.public_rooms_without_auth",
    "testing.allow_all_room_list_publication",
];

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What the log should say about them.
    pub warnings: Vec<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("the configuration file {path} can't be read: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The values are wrong: a sentence for each.
    #[error("the configuration can't be used: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

impl Config {
    /// Reads the file, lets the environment override it, and checks the values.
    ///
    /// # Errors
    /// When the file can't be read, a key is not known or a value can't be used.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let mut given = Figment::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
            given = given.merge(Toml::string(&text));
        }
        for (key, value) in environment {
            if let Some(key) = key.strip_prefix("MATRYX_") {
                let key = key.to_lowercase().replace("__", ".");
                let value = typed(&key, value);
                given = given.merge(Serialized::default(&key, value));
            }
        }
        let config =
            defaults(&Self::default()).merge(&given).extract::<Self>().map_err(|errors| {
                ConfigError::Invalid(errors.into_iter().map(|e| sentence(&e, &given)).collect())
            })?;
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(ConfigError::Invalid(problems));
        }
        // Who writes down that something is off, as the example does, asks for nothing.
        let [usual, wanted] = [&Self::default(), &config].map(defaults);
        // A key without a default, such as a path that is not given, has no value: that is one of the two to be told apart.
        let value = |of: &Figment, key| of.find_value(key).ok();
        let ignored = NOT_BUILT.iter().filter(|key| value(&wanted, key) != value(&usual, key));
        let warnings = ignored
            .map(|key| format!("{key} is set, but has no effect yet: that is not built"))
            .collect();
        Ok(Loaded { config, warnings })
    }
}

/// What a configuration says, before somebody says otherwise.
fn defaults(config: &Config) -> Figment {
    Figment::from(Serialized::defaults(config))
}

/// A variable's text as the type that its key has: "12" is a room version, but 8008 a port.
fn typed(key: &str, text: String) -> Value {
    match defaults(&Config::default()).find_value(key) {
        Ok(Value::Num(..) | Value::Bool(..) | Value::Array(..) | Value::Dict(..)) => {
            text.parse().unwrap_or_else(|_| Value::from(text))
        }
        _ => Value::from(text),
    }
}

/// What is wrong with a key, and what would be right.
fn sentence(error: &figment::Error, given: &Figment) -> String {
    let path = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(name, _) => {
            let found = match path.rsplit_once('.') {
                Some((_, last)) if last == name => path,
                _ if path == *name || path.is_empty() => name.clone(),
                _ => format!("{path}.{name}"),
            };
            match nearest(&found) {
                Some(known) => format!("there is no key \"{found}\"; did you mean \"{known}\"?"),
                None => {
                    format!("there is no key \"{found}\"; `matryx config` shows all that there are")
                }
            }
        }
        kind if path.is_empty() => kind.to_string(),
        kind => match given.find_value(&path) {
            Ok(value) if !path.ends_with("secret") && !path.ends_with("token") => {
                format!("{path} is {}: {}", shown(&value), wanted(kind))
            }
            _ => format!("{path}: {}", wanted(kind)),
        },
    }
}

/// What a value must be, in words for those who write the file.
fn wanted(kind: &Kind) -> String {
    let expected = match kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => expected.clone(),
        Kind::UnknownVariant(_, known) => {
            let known: Vec<_> = known.iter().map(|name| format!("\"{name}\"")).collect();
            return format!("it must be {}", known.join(" or "));
        }
        kind => return kind.to_string(),
    };
    let expected = match &*expected {
        "u16" => "a whole number from 0 to 65535",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        other => other,
    };
    format!("it must be {expected}")
}

fn shown(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| "there".to_owned(), |value| value.to_string())
}

/// The known key that looks most like this one, preferably in the same section; nothing if none looks like it.
fn nearest(found: &str) -> Option<String> {
    let split = |path: &str| match path.rsplit_once('.') {
        Some((section, name)) => (section.to_owned(), name.to_owned()),
        None => (String::new(), path.to_owned()),
    };
    let (section, name) = split(found);
    let distance = |known: &str| {
        let (known_section, known_name) = split(known);
        (edits(&name, &known_name), section != known_section)
    };
    let nearest = example::names().into_iter().min_by_key(|known| distance(known))?;
    // A slip or two; of a third of the letters at most, or it is another word.
    (3 * distance(&nearest).0 <= name.chars().count()).then_some(nearest)
}

/// How many letters must be put in, taken out, changed or exchanged with the next to get from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    // One row a letter of `from`: how many edits lead from so much of it to so much of `to`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && *b == from[i - 1] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(Some(file.path()), environment).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_overrides_the_file_which_overrides_the_defaults() {
        let config = load(
            "server_name = \"example.org\"\n[listener.client]\nport = 1",
            &[
                ("MATRYX_LISTENER__CLIENT__PORT", "2"),
                ("MATRYX_DEFAULT_ROOM_VERSION", "11"),
                ("MATRYX_REGISTRATION__OPEN", "true"),
                ("MATRYX_REGISTRATION__TOKEN", "0012"),
                ("MATRYX_DATABASE__MEMTABLE", "1 GiB"),
                ("MATRYX_FEDERATION__KEY_NOTARIES", "[\"a.example\", \"b.example\"]"),
                ("HOME", "/"),
            ],
        );
        let config = config.unwrap().config;
        assert_eq!(config.server_name, "example.org");
        assert_eq!(config.listener.client.port, 2);
        assert_eq!(config.listener.client.bind, "127.0.0.1");
        assert_eq!(config.listener.federation.port, 8448);
        assert_eq!(config.default_room_version.as_str(), "11");
        assert!(config.registration.open);
        assert_eq!(config.registration.token.unwrap().reveal(), "0012");
        assert_eq!(config.database.memtable.bytes(), 1 << 30);
        assert_eq!(config.federation.key_notaries.len(), 2);
    }

    #[test]
    fn a_section_given_in_part_keeps_its_other_defaults() {
        let config = load("[listener.federation]\nbind = \"::\"", &[]).unwrap().config;
        assert_eq!(config.listener.federation.port, 8448);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        for (toml, found, known) in [
            ("sever_name = \"a\"", "sever_name", "server_name"),
            ("[databse]\nurl = \"\"", "databse", "database"),
            ("[listener.client]\nprot = 1", "listener.client.prot", "listener.client.port"),
            ("[registration]\nlevel = 1", "registration.level", "log.level"),
        ] {
            let error = load(toml, &[]).unwrap_err();
            let wanted = format!("there is no key \"{found}\"; did you mean \"{known}\"?");
            assert!(error.contains(&wanted), "{error}");
        }
        for toml in ["frobnicate = 1", "[registration]\nx = 1", "[mail]\nhost = \"a\""] {
            let error = load(toml, &[]).unwrap_err();
            let helps = error.contains("there is no key") && error.contains("`matryx config`");
            assert!(helps && !error.contains("did you mean"), "{error}");
        }
        let error = load("", &[("MATRYX_LOG__LEVLE", "info")]).unwrap_err();
        assert!(error.contains("\"log.levle\"; did you mean \"log.level\"?"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_allowed() {
        for (toml, parts) in [
            ("server_name = \"a b\"", ["server_name", "\"a b\""]),
            ("default_room_version = \"5\"", ["default_room_version is \"5\"", "\"6\" to \"12\""]),
            (
                "[listener.client]\nport = 70000",
                ["listener.client.port is 70000", "from 0 to 65535"],
            ),
            ("[log]\nformat = \"xml\"", ["log.format is \"xml\"", "\"text\" or \"json\""]),
            ("[log]\nlevel = 5", ["log.level is 5", "a text in quotes"]),
            ("[registration]\nopen = \"yes\"", ["registration.open is \"yes\"", "true or false"]),
            ("[appservice]\nregistration_files = 1", ["registration_files is 1", "a list"]),
            ("[log]\nlevel = \"loud\"", ["log.level is \"loud\"", "debug"]),
            ("[log]\nlevel = \"\"", ["log.level is \"\"", "debug"]),
            ("[log]\nlevel = \"info,a=loud\"", ["log.level is \"info,a=loud\"", "debug"]),
            ("[database]\nmemtable = \"64 MB\"", ["database.memtable", "64 MiB"]),
            ("[database]\nurl = \"postgres://\"", ["database.url", "surrealkv://PATH"]),
            ("public_base_url = \"example.org\"", ["public_base_url", "https://"]),
            ("[listener.client]\ntls = true", ["listener.client.tls", "tls_cert"]),
            ("[listener.client]\nbind = \"\"", ["listener.client.bind is \"\"", "127.0.0.1"]),
            (
                "[listener.client]\nbind = \"127.0.0.1:80\"",
                ["is \"127.0.0.1:80\"", "without a port"],
            ),
            ("[listener.federation]\nbind = \"1.2.3\"", ["listener.federation.bind", "an address"]),
            ("[listener.client]\nbind = \"my host\"", ["is \"my host\"", "a host name"]),
            (
                "[federation]\nresolve = { \"hs2\" = \"somewhere\" }",
                ["federation.resolve has \"somewhere\" for \"hs2\"", "127.0.0.1:8448"],
            ),
            (
                "[federation]\nresolve = { \"hs2\" = \"127.0.0.1\" }",
                ["federation.resolve has \"127.0.0.1\"", "a port"],
            ),
            (
                "[federation]\nresolve = { \"h s\" = \"127.0.0.1:1\" }",
                ["federation.resolve has the key \"h s\"", "a server's name"],
            ),
            (
                "[server_notices]\nlocalpart = \"@notices:a\"",
                ["server_notices.localpart is \"@notices:a\"", "before the colon"],
            ),
            ("[server_notices]\nlocalpart = \"\"", ["server_notices.localpart is", "a to z"]),
        ] {
            let error = load(toml, &[]).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{part} in: {error}");
            }
        }
    }

    #[test]
    fn hosts_are_names_and_addresses() {
        for bind in ["0.0.0.0", "::", "::1", "localhost", "example.org", "host_1", "10.example"] {
            let toml = format!("[listener.client]\nbind = \"{bind}\"");
            assert_eq!(load(&toml, &[]).unwrap().config.listener.client.bind, bind);
        }
    }

    #[test]
    fn secrets_are_not_in_errors_or_printouts() {
        let error = load("[registration]\ntoken = 4711", &[]).unwrap_err();
        assert!(error.contains("registration.token"), "{error}");
        let config = load("[registration]\ntoken = \"sesame\"", &[]).unwrap().config;
        assert!(!format!("{config:?}").contains("sesame"));
        assert!(!toml::to_string(&config).unwrap().contains("sesame"));
    }

    #[test]
    fn what_is_not_built_is_accepted_with_a_warning() {
        let loaded = load("[server_notices]\nlocalpart = \"notices\"", &[]).unwrap();
        assert_eq!(
            loaded.warnings,
            ["server_notices is set, but has no effect yet: that is not built"]
        );
        for nothing in ["", &example::example()] {
            assert_eq!(load(nothing, &[]).unwrap().warnings, [""; 0]);
        }
    }
}
