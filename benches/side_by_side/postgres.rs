//! A PostgreSQL of our own: made on a temp folder, reached by a socket in it, stopped at the end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// While it lives, it runs.
pub struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    as_root: bool,
}

impl Postgres {
    /// Makes and starts it. `Err` says why it is absent.
    pub fn start() -> Result<Self, String> {
        let programs = find_programs().ok_or("it is not installed (Debian: postgresql)")?;
        let folder = tempfile::Builder::new().prefix("side-by-side-pg").tempdir().map_err(|error| error.to_string())?;
        let as_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        let server = Self { folder, programs, as_root };
        if as_root {
            // initdb refuses root.
            let owned = Command::new("chown").arg("postgres").arg(server.folder.path()).status();
            if !owned.is_ok_and(|status| status.success()) {
                return Err("there is no user `postgres` to run it as".to_owned());
            }
        }
        let data = server.data();
        server.run("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"])?;
        let options = format!("-c listen_addresses= -k {}", server.folder.path().display());
        let log = server.folder.path().join("log").display().to_string();
        server.run("pg_ctl", &["-D", &data, "-w", "-l", &log, "-o", &options, "start"])?;
        Ok(server)
    }

    /// How to reach it.
    pub fn url(&self) -> String {
        format!("host={} user=postgres dbname=postgres", self.folder.path().display())
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let path = self.programs.join(program);
        let mut command = if self.as_root {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // A server that is started inherits what is left open.
        command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{program} failed ({status})")),
            Err(error) => Err(format!("{program}: {error}")),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _best_effort = self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

/// The folder of `initdb`: Debian's newest, else wherever the path leads.
fn find_programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort();
    let debian = versions.into_iter().rev().map(|version| version.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.chain(std::env::split_paths(&path).collect::<Vec<_>>()).find(|folder| has_programs(folder))
}

fn has_programs(folder: &Path) -> bool {
    folder.join("initdb").exists() && folder.join("pg_ctl").exists()
}
