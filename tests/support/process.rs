//! The real binary as a process of its own: for what a server in the same process cannot show.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use tempfile::TempDir;

use super::{folder, http::Http, sync::PATIENCE};

/// What the log says before the address.
const LISTENS: &str = "listening for clients on ";

/// A running process of the binary, with a folder of its own as current directory.
pub struct ServerProcess {
    folder: TempDir,
    child: Child,
    log: Receiver<String>,
    /// The lines of the log that were read so far.
    said: Vec<String>,
    base: String,
}

impl ServerProcess {
    /// The README's first command: no configuration file. Only the port is any that is free.
    pub fn first_start() -> Self {
        Self::start_in(folder::empty())
    }

    /// With registration open and passwords cheap.
    pub fn open() -> Self {
        let folder = folder::empty();
        let text = "[registration]\nopen = true\n[testing]\ncheap_password_hashing = true\n";
        fs::write(folder.path().join("matryx.toml"), text).expect("a configuration file");
        Self::start_in(folder)
    }

    /// A folder for [`Self::open`] with so little memory that the database soon begins new files.
    pub fn folder_of_many_files() -> TempDir {
        let folder = folder::empty();
        let text = "[registration]\nopen = true\n[testing]\ncheap_password_hashing = true\n[database]\nmemtable = \"1 MiB\"\n";
        fs::write(folder.path().join("matryx.toml"), text).expect("a configuration file");
        folder
    }

    /// In a folder that may have data and a configuration file.
    pub fn start_in(folder: TempDir) -> Self {
        let child = command(folder.path()).spawn().expect("the binary");
        Self::listening(folder, child)
    }

    /// In a folder, with no file to become larger than this many kilobytes: the nearest to a full disk that needs no rights.
    pub fn start_cramped(folder: TempDir, kilobytes: usize) -> Self {
        // The signal would end the process; ignored, the write fails.
        Self::start_limited(folder, &format!("trap '' XFSZ; ulimit -f {kilobytes}"))
    }

    /// In a folder, with limits that a shell sets.
    pub fn start_limited(folder: TempDir, limits: &str) -> Self {
        let plain = command(folder.path());
        let mut command = Command::new("bash");
        let limited = format!("{limits}; exec \"$0\" \"$@\"");
        command.args(["-c", &limited]).arg(plain.get_program()).args(plain.get_args());
        with_surroundings(&mut command, folder.path());
        let child = command.spawn().expect("the binary");
        Self::listening(folder, child)
    }

    fn listening(folder: TempDir, mut child: Child) -> Self {
        let stderr = child.stderr.take().expect("a log");
        let (sender, log) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let base = String::new();
        let mut process = Self { folder, child, log, said: Vec::new(), base };
        let line = process.hears(LISTENS);
        let (_, base) = line.split_once(LISTENS).expect("an address");
        base.trim().clone_into(&mut process.base);
        process
    }

    /// The line of the log that has this text, now or when it comes.
    pub fn hears(&mut self, text: &str) -> String {
        loop {
            if let Some(line) = self.said.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("{error}: `{text}` is not in the log:\n{:#?}", self.said),
            }
        }
    }

    /// The address, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn http(&self) -> Http {
        Http::new(&self.base)
    }

    /// The folder that the process was started in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The token that the first start printed.
    pub fn registration_token(&mut self) -> String {
        let line = self.hears("registration token is ");
        line.rsplit(' ').next().expect("a token").trim().to_owned()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
        assert!(sent.expect("a shell").success());
    }

    /// Waits for the end, which must come.
    pub fn ends(&mut self) -> ExitStatus {
        // The log ends when the process does.
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            self.said.push(line);
        }
        if let Some(status) = self.child.try_wait().expect("a child") {
            return status;
        }
        // Between the end of its log and its own end there is nothing that could hang.
        self.child.wait().expect("a child")
    }

    /// Ends it in order.
    pub fn stop(mut self) -> TempDir {
        self.signal("TERM");
        let status = self.ends();
        assert!(status.success(), "SIGTERM ended in {status}: {:#?}", self.said);
        self.leave()
    }

    /// Ends it by SIGKILL, at once.
    pub fn crash(mut self) -> TempDir {
        self.child.kill().expect("a child");
        self.ends();
        self.leave()
    }

    /// Waits until it has ended by itself: its folder, its exit code, and what it said.
    pub fn ends_by_itself(mut self) -> (TempDir, Option<i32>, Vec<String>) {
        let status = self.ends();
        let said = std::mem::take(&mut self.said);
        (self.leave(), status.code(), said)
    }

    /// Ends it in order and starts it again on the same data.
    pub fn restart(self) -> Self {
        Self::start_in(self.stop())
    }

    /// Ends it by SIGKILL and starts it again on the same data.
    pub fn crash_and_restart(self) -> Self {
        Self::start_in(self.crash())
    }

    fn leave(mut self) -> TempDir {
        std::mem::replace(&mut self.folder, folder::empty())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary in a folder, with nothing of this process's environment but free ports, and the file where there is one.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_matryx"));
    with_surroundings(&mut command, folder);
    let file = folder.join("matryx.toml");
    if file.exists() {
        command.arg("--config").arg(file);
    }
    command
}

fn with_surroundings(command: &mut Command, folder: &Path) {
    command
        .env_clear()
        .env("MATRYX_LISTENER__CLIENT__PORT", "0")
        .env("MATRYX_LISTENER__FEDERATION__PORT", "0")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
}
