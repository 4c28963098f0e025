//! `config/example.toml`, from the types.

use std::fmt::Write;

use serde::Serialize;

use super::{
    Appservice, Config, Database, Federation, Listener, Listeners, Log, Registration,
    ServerNotices, Testing, section::Section,
};

/// The text of an example file: every key with its explanation and its default.
#[must_use]
pub fn example() -> String {
    let config = Config::default();
    let mut text = String::new();
    for line in Config::ABOUT {
        comment(&mut text, line);
    }
    keys(&mut text, &config);
    section(&mut text, "listener.client", &config.listener.client, Some(Listeners::KEYS[0].about));
    section(
        &mut text,
        "listener.federation",
        &config.listener.federation,
        Some(Listeners::KEYS[1].about),
    );
    section::<Database>(&mut text, "database", &config.database, None);
    section::<Registration>(&mut text, "registration", &config.registration, None);
    section::<Log>(&mut text, "log", &config.log, None);
    section::<Federation>(&mut text, "federation", &config.federation, None);
    section::<Appservice>(&mut text, "appservice", &config.appservice, None);
    section::<ServerNotices>(&mut text, "server_notices", &config.server_notices, None);
    section::<Testing>(&mut text, "testing", &config.testing, None);
    text
}

/// The dotted name of every section and every key, in the order of the file.
pub(super) fn names() -> Vec<String> {
    fn below<S: Section>(names: &mut Vec<String>, prefix: &str) {
        names.extend(S::KEYS.iter().map(|key| format!("{prefix}{}", key.name)));
    }
    let mut names = Vec::new();
    below::<Config>(&mut names, "");
    below::<Listeners>(&mut names, "listener.");
    below::<Listener>(&mut names, "listener.client.");
    below::<Listener>(&mut names, "listener.federation.");
    below::<Database>(&mut names, "database.");
    below::<Registration>(&mut names, "registration.");
    below::<Log>(&mut names, "log.");
    below::<Federation>(&mut names, "federation.");
    below::<Appservice>(&mut names, "appservice.");
    below::<ServerNotices>(&mut names, "server_notices.");
    below::<Testing>(&mut names, "testing.");
    names
}

fn section<S: Section + Serialize>(
    text: &mut String,
    name: &str,
    section: &S,
    about: Option<&[&str]>,
) {
    text.push('\n');
    for line in about.unwrap_or(S::ABOUT) {
        comment(text, line);
    }
    // Writing to a text cannot fail, here and below.
    let _ = writeln!(text, "[{name}]");
    keys(text, section);
}

/// The keys of a section that are no sections themselves.
fn keys<S: Section + Serialize>(text: &mut String, section: &S) {
    let values = toml::Table::try_from(section).unwrap_or_default();
    for key in S::KEYS {
        if is_section(key.name) {
            continue;
        }
        let value = values.get(key.name);
        text.push('\n');
        for line in key.about {
            comment(text, line);
        }
        let _ = match (value, key.example) {
            (Some(value), _) => writeln!(text, "{} = {value}", key.name),
            (None, example) => writeln!(text, "#{} = {}", key.name, example.unwrap_or("\"\"")),
        };
    }
}

/// Whether a key of the top is a table of its own.
fn is_section(name: &str) -> bool {
    names().iter().any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// A line of a doc comment, which has a space at its beginning where it has anything. Backticks are for the other reader.
fn comment(text: &mut String, line: &str) {
    text.push('#');
    text.push_str(&line.trim_end().replace('`', ""));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/example.toml");
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            file == example(),
            "config/example.toml is stale: cargo run -- config --example > config/example.toml"
        );
    }

    #[test]
    fn the_operations_page_names_every_key() {
        let page = include_str!("../../../../docs/operations.md");
        for name in names() {
            let key = name.rsplit('.').next().unwrap();
            assert!(page.contains(key), "docs/operations.md does not mention {name}");
        }
    }

    #[test]
    fn the_example_says_what_the_defaults_are() {
        let read: Config = toml::from_str(&example()).unwrap();
        assert_eq!(toml::to_string(&read).unwrap(), toml::to_string(&Config::default()).unwrap());
    }
}
