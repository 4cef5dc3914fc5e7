//! What lies under a store: the folder, the disk and the secrets.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Finding;
use crate::cli::admin_key;
use crate::config::Settings;
use crate::store;

/// Syncs that are timed; their median counts.
const SYNCS: usize = 20;
/// A sync above this makes every answer slow.
const SYNC_ADVISED: Duration = Duration::from_millis(20);
/// Free space below this, or below the store's own size, is warned about.
const FREE_KIB_ADVISED: u64 = 1024 * 1024;
/// Free space below this leaves no room for the file's next step.
const FREE_KIB_MIN: u64 = 64 * 1024;
/// A secret shorter than this can be guessed.
const SECRET_LENGTH_ADVISED: usize = 16;

/// The folder, its disk and its space.
pub fn look(settings: &Settings) -> Vec<Finding> {
    let folder = settings.data_dir();
    let shown = folder.display();
    if !folder.is_dir() {
        let remedy = "`metergate serve` makes it; name another with --data-dir";
        return vec![Finding::warn("folder", format!("{shown} does not exist"), remedy)];
    }
    let mut findings = vec![mode(&folder)];
    match sync_time(&folder) {
        Ok(time) => {
            let detail = format!("{:.2} ms, the median of {SYNCS}", time.as_secs_f64() * 1e3);
            findings.push(if time <= SYNC_ADVISED {
                Finding::ok("sync time", detail)
            } else {
                Finding::warn("sync time", detail, "use a quicker or local disk: every durable answer waits for a sync")
            });
        }
        Err(error) => {
            let remedy = format!("let this user write to {shown}");
            findings.push(Finding::fail("folder", format!("{shown} cannot be written: {error}"), remedy));
        }
    }
    findings.push(free_space(&folder));
    findings
}

#[cfg(unix)]
fn mode(folder: &Path) -> Finding {
    use std::os::unix::fs::PermissionsExt;
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 == 0 => {
            Finding::ok("folder", format!("{shown}, mode 0700"))
        }
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            Finding::warn(
                "folder",
                format!("{shown} has mode {mode:04o}: others may look in"),
                format!("chmod 700 {shown}"),
            )
        }
        Err(error) => Finding::fail("folder", format!("{shown}: {error}"), "look at its permissions"),
    }
}

#[cfg(not(unix))]
fn mode(folder: &Path) -> Finding {
    Finding::ok("folder", folder.display().to_string())
}

/// The median time that a small write and its sync take in the folder.
fn sync_time(folder: &Path) -> std::io::Result<Duration> {
    let path = folder.join(format!("doctor.{}", std::process::id()));
    let timed = File::create(&path).and_then(|mut file| {
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let started = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok(times[SYNCS / 2])
    });
    // One that stays behind is of no harm.
    let _ = fs::remove_file(&path);
    timed
}

/// Free space as `df` sees it: the standard library does not tell.
fn free_space(folder: &Path) -> Finding {
    let output = Command::new("df").arg("-Pk").arg(folder).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let free =
        text.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)).and_then(|kib| kib.parse::<u64>().ok());
    let Some(free) = free else {
        return Finding::warn("free space", "unknown: `df` does not say", "look at it by other means");
    };
    let store = fs::metadata(folder.join(store::FILE_NAME)).map_or(0, |metadata| metadata.len() / 1024);
    let detail = format!("{} MiB free, the store has {} MiB", free / 1024, store.div_ceil(1024));
    if free < FREE_KIB_MIN {
        Finding::fail("free space", detail, "free space, or move the folder to a larger disk")
    } else if free < FREE_KIB_ADVISED.max(store) {
        Finding::warn("free space", detail, "make room: the store may double")
    } else {
        Finding::ok("free space", detail)
    }
}

/// The admin key and the cron secret. Neither is ever shown.
pub fn secrets(settings: &Settings, remote: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let given = if remote { settings.value("key") } else { settings.value("admin_key") };
    let variable = if remote { "METERGATE_KEY" } else { "METERGATE_ADMIN_KEY" };
    findings.push(match (given, admin_key::read(&settings.data_dir())) {
        (Some(key), _) => weak(key, variable).unwrap_or_else(|| Finding::ok("admin key", format!("from {variable}"))),
        (None, Ok(Some(key))) => {
            weak(&key, "admin.key").unwrap_or_else(|| Finding::ok("admin key", "admin.key, for its owner only"))
        }
        (None, Ok(None)) => Finding::ok("admin key", "none here: `metergate serve` makes it at its first start"),
        (None, Err(failure)) => Finding::fail("admin key", failure.message, "see what was found"),
    });
    if !remote {
        findings.push(match settings.value("cron_secret") {
            None => Finding::ok("cron secret", "not set: the cron door is closed, the schedule runs by itself"),
            Some(secret) => weak(secret, "CRON_SECRET").unwrap_or_else(|| Finding::ok("cron secret", "set")),
        });
    }
    findings
}

/// A secret that can be guessed: too short, or of one character.
fn weak(secret: &str, name: &str) -> Option<Finding> {
    let what = if name == "CRON_SECRET" { "cron secret" } else { "admin key" };
    let first = secret.chars().next();
    let remedy = "use 32 random characters, such as of `openssl rand -hex 16`";
    if secret.len() < SECRET_LENGTH_ADVISED {
        let detail = format!("{name} has fewer than {SECRET_LENGTH_ADVISED} characters: easy to guess");
        return Some(Finding::warn(what, detail, remedy));
    }
    secret
        .chars()
        .all(|c| Some(c) == first)
        .then(|| Finding::warn(what, format!("{name} is one character repeated"), remedy))
}
