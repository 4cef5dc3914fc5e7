//! The command line of metergate, as a person or a script runs it.

use std::process::{Command, Stdio};

use super::server::{ADMIN_KEY, CRON_SECRET};

/// The binary, without any setting of this machine; not started yet.
pub fn metergate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metergate"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("METERGATE_") || name == "CRON_SECRET") {
            command.env_remove(name);
        }
    }
    // A folder without a metergate.toml.
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command
}

/// The binary with these arguments and the keys of the test servers; not started yet.
pub fn command(args: &[&str]) -> Command {
    let mut command = metergate();
    command.args(args).env("METERGATE_KEY", ADMIN_KEY).env("CRON_SECRET", CRON_SECRET);
    command
}

/// Runs a command to its end: (exit code, standard output, standard error).
pub fn cli(args: &[&str]) -> (i32, String, String) {
    let output = command(args).output().expect("metergate runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Runs a command that must succeed; gives its standard output.
#[track_caller]
pub fn cli_ok(args: &[&str]) -> String {
    let (code, stdout, stderr) = cli(args);
    assert_eq!(code, 0, "metergate {args:?}\n{stdout}\n{stderr}");
    stdout
}
