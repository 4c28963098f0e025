//! Processes that never outlive the tests.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use super::sync::eventually;

/// Starts what it is told, and ends it when it is told how, or when nobody can tell it any more.
///
/// Servers that tests share are never dropped: it is the end of standard input that says that the tests have ended,
/// however they did.
const KEEPER: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- & pid=$!
{ read -r how <&3 || how=KILL; kill -"$how" $pid; } & reader=$!
exec 3<&-
wait $pid; status=$?
kill $reader 2>/dev/null
exit $status
"#;

/// A running process, whose output goes to a file.
pub struct Kept {
    keeper: Child,
    orders: Option<ChildStdin>,
    log: PathBuf,
}

impl Kept {
    /// Starts the command with the environment that it names and no other, adding to the log.
    pub fn start(command: &Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("a log file");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(command.get_program()).args(command.get_args());
        keeper.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for (name, value) in command.get_envs() {
            keeper.env(name, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            keeper.current_dir(folder);
        }
        keeper.stdin(Stdio::piped()).stdout(output.try_clone().expect("a file")).stderr(output);
        let mut keeper = keeper.spawn().expect("a shell");
        let orders = keeper.stdin.take();
        Self { keeper, orders, log: log.to_owned() }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.keeper.try_wait().expect("a child").is_some()
    }

    /// Sends it a signal by its name and waits for its end.
    pub async fn end(mut self, signal: &str) {
        if let Some(mut orders) = self.orders.take() {
            writeln!(orders, "{signal}").expect("a keeper that listens");
        }
        eventually(&format!("the end after {signal}"), async || {
            self.has_ended().then_some(()).ok_or_else(|| self.last_words())
        })
        .await;
    }

    /// The end of the log.
    pub fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(4_000);
        format!("{}:\n…{}", self.log.display(), String::from_utf8_lossy(&log[from..]))
    }
}
