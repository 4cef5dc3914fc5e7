//! A metergate server that belongs to one test: a free port, a temporary folder, keys that are known.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::client::agent;
use super::command::metergate;
use super::wait_for;

/// The admin key of every server here.
pub const ADMIN_KEY: &str = "6d657465726761746520746573747320616e642074686569722061646d696e21";
/// The cron secret of every server here, unless it is told otherwise.
pub const CRON_SECRET: &str = "the-cron-secret-of-the-tests";

const READY_PREFIX: &str = "metergate is listening on ";
/// A machine may be busy elsewhere for minutes; a server that is not ready, or has not stopped, by then never will.
const READY_MAX: Duration = Duration::from_secs(300);

/// A server and its folder; it is killed, and the folder removed, when this is dropped.
pub struct Server {
    child: Option<Child>,
    /// `http://ADDRESS:PORT` of the running server.
    pub url: String,
    folder: TempDir,
    data_dir: PathBuf,
    cron_secret: Option<String>,
    /// Whether the environment sets the admin key.
    sets_admin_key: bool,
    /// Further flags of `serve`, from the next start on.
    pub flags: Vec<String>,
    pub(super) agent: ureq::Agent,
}

impl Server {
    /// A server on a new folder.
    pub fn start() -> Self {
        Self::with_cron_secret(Some(CRON_SECRET))
    }

    /// A server with this `CRON_SECRET`, or with none set.
    pub fn with_cron_secret(secret: Option<&str>) -> Self {
        let mut server = Self::stopped();
        server.cron_secret = secret.map(str::to_owned);
        server.start_again();
        server
    }

    /// A server on a new folder with further flags, such as `--dev`.
    pub fn with_flags(flags: &[&str]) -> Self {
        let mut server = Self::stopped();
        server.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        server.start_again();
        server
    }

    /// A folder whose server was not started yet.
    pub fn stopped() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self {
            child: None,
            url: String::new(),
            data_dir: folder.path().join("data"),
            folder,
            cron_secret: Some(CRON_SECRET.to_owned()),
            sets_admin_key: true,
            flags: Vec::new(),
            agent: agent(),
        }
    }

    /// Its data folder, for `--data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// From the next start on it uses this folder.
    pub fn use_folder(&mut self, data_dir: PathBuf) {
        self.data_dir = data_dir;
    }

    /// A path beside the data folder, for what a test writes itself.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it on the folder it had before, on another port.
    pub fn start_again(&mut self) {
        let lines = self.spawn();
        let line = lines.recv_timeout(READY_MAX).unwrap_or_default();
        let url = line.trim_end().strip_prefix(READY_PREFIX).map(str::to_owned);
        self.url = url.unwrap_or_else(|| panic!("the first line of output is {line:?}, its log:\n{}", self.log_text()));
    }

    /// Starts it and kills it so long afterwards, ready or not.
    pub fn start_and_kill_9(&mut self, after: Duration) {
        let _lines = self.spawn();
        std::thread::sleep(after);
        self.kill_9();
    }

    fn spawn(&mut self) -> mpsc::Receiver<String> {
        assert!(self.child.is_none(), "it is still running");
        let mut command = serve_command(&self.data_dir());
        command.args(&self.flags);
        if self.sets_admin_key {
            command.env("METERGATE_ADMIN_KEY", ADMIN_KEY);
        }
        if let Some(secret) = &self.cron_secret {
            command.env("CRON_SECRET", secret);
        }
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("metergate starts");
        let lines = drain(child.stdout.take().expect("its output is piped"));
        self.child = Some(child);
        lines
    }

    /// From the next start on its admin key is the one of its data folder.
    pub fn use_the_folders_admin_key(&mut self) {
        self.sets_admin_key = false;
    }

    /// Kills it without a word, as a power cut would.
    pub fn kill_9(&mut self) {
        let mut child = self.child.take().expect("it is running");
        child.kill().expect("a running process can be killed");
        child.wait().expect("a killed process ends");
    }

    /// Asks it to stop (SIGTERM) and waits until it did.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it is running");
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "SIGTERM was not sent");
        let status: ExitStatus =
            wait_for("the server stops on SIGTERM", READY_MAX.as_secs(), || child.try_wait().expect("its status"));
        assert!(status.success(), "a graceful stop ended with {status}, its log:\n{}", self.log_text());
    }

    /// Stops it gracefully and starts it on the same folder.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// The most memory it ever held, where the system tells.
    pub fn peak_memory_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.as_ref()?.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Everything it wrote to its standard error.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.beside("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing left to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log_text();
            let from = log.char_indices().rev().nth(3_999).map_or(0, |(place, _)| place);
            eprintln!("---- the end of the server's log\n{}", &log[from..]);
        }
    }
}

/// `metergate serve` on a free port of this folder, not started yet, without keys.
pub fn serve_command(data_dir: &Path) -> Command {
    let mut command = metergate();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
    command
}

/// Sends the first line and swallows the rest, so that the server never waits for a reader.
fn drain(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = String::new();
        // An unread line shows as an empty one to whoever waits for it.
        let _ = reader.read_line(&mut line);
        let _ = sender.send(line);
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    receiver
}
