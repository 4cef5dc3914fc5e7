//! `metergate backup` and `metergate restore`: a copy that is verified before it is believed.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::backend::{Backend, segment};
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::backup::{self, VerifiedBackup};
use crate::config::Settings;

/// Examples of `backup`.
pub const AFTER_HELP: &str = "Examples:\n  metergate backup --server http://127.0.0.1:8080\n  \
    metergate backup --server https://meter.example --output metergate-backup.redb\n  metergate backup --list\n  \
    metergate backup --check metergate-backup.redb\n\n\
    Writers go on while it runs. The signing key of the audit log, admin.key and metergate.toml are not in it: keep them apart.";

/// Examples of `restore`.
pub const RESTORE_AFTER_HELP: &str = "Example:\n  metergate restore backups/metergate-20261124T180000Z-1a2b3c4d.redb --data-dir ./restored\n\n\
    The folder must be new or empty, but for metergate.toml, admin.key and audit-signing.key. Without the old\n\
    audit-signing.key the audit log is signed by a new key from here on, and says so.";

/// Flags of `backup`.
#[derive(Args, Debug)]
pub struct BackupArgs {
    /// List the backups that were made instead
    #[arg(long, conflicts_with = "output")]
    list: bool,
    /// Take the backup to this file as well, which must not exist yet
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Verify this backup instead; needs neither a store nor a server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "output"])]
    check: Option<PathBuf>,
    #[command(flatten)]
    pub target: Target,
}

/// Flags of `restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// Print JSON for programs instead of a sentence for people
    #[arg(long)]
    json: bool,
}

impl BackupArgs {
    /// Whether a file is to be verified.
    pub fn is_of_a_file(&self) -> bool {
        self.check.is_some()
    }
}

/// Makes a backup, or lists those that were made.
pub fn run(args: &BackupArgs, backend: &Backend) -> Result<Exit, Failure> {
    if args.list {
        return list(args, backend);
    }
    let made = backend.call("POST", "/api/admin/backups", &[], None)?.or_failure()?.json;
    if let Some(file) = &args.output {
        let path = format!("/api/admin/backups/{}", segment(made["name"].as_str().unwrap_or_default()));
        let cannot = |error: std::io::Error| {
            Failure::caused(Exit::Failed, format!("{} cannot be written: name another", file.display()), &error)
        };
        let mut out = BufWriter::new(super::tenants::new_private_file(file).map_err(cannot)?);
        let written = backend.download(&path, &mut out).and_then(|()| {
            out.flush().map_err(cannot)?;
            out.get_ref().sync_all().map_err(cannot)?;
            // On the way it may have lost its end.
            verified(file).map(|_| ())
        });
        if written.is_err() {
            // A part of a backup is none.
            let _may_be_gone = std::fs::remove_file(file);
        }
        written?;
    }
    if args.target.json {
        show::print(made);
    } else {
        let told = |name| show::field(&made, name);
        show::print(format!(
            "{}\n{} bytes, {} audit records, verified",
            told("path"),
            told("bytes"),
            told("audit_size")
        ));
    }
    Ok(Exit::Ok)
}

fn list(args: &BackupArgs, backend: &Backend) -> Result<Exit, Failure> {
    let answer = backend.get("/api/admin/backups", &[])?;
    if args.target.json {
        show::print(&answer.text);
        return Ok(Exit::Ok);
    }
    show::print(format!("in {}", show::field(&answer.json, "folder")));
    show::print(table(&answer.json["backups"]));
    Ok(Exit::Ok)
}

/// Backups as a table.
pub fn table(backups: &Value) -> String {
    let mut table = show::table(&["name", "created at", "bytes", "audit records", "there"]);
    for backup in backups.as_array().into_iter().flatten() {
        let cells = ["name", "created_at", "bytes", "audit_size"].map(|name| show::field(backup, name));
        let there = if backup["present"] == true { "yes" } else { "no" };
        show::row(&mut table, cells.into_iter().chain([there.to_owned()]).collect());
    }
    show::draw(table)
}

/// Verifies a backup's file; exit code 1 when it is not whole.
pub fn check(args: &BackupArgs) -> Result<Exit, Failure> {
    let file = args.check.as_deref().ok_or_else(|| Failure::usage("--check FILE is required".to_owned()))?;
    told(&verified(file)?, "whole", args.target.json);
    Ok(Exit::Ok)
}

fn verified(file: &Path) -> Result<VerifiedBackup, Failure> {
    backup::verify_backup(file).map_err(|error| Failure::caused(Exit::Failed, "not to be believed", &error))
}

/// Puts a backup into the data folder, which must be empty.
pub fn restore(args: &RestoreArgs, settings: &Settings) -> Result<Exit, Failure> {
    let epoch = uuid::Uuid::from_bytes(crate::ids::random_bytes());
    let restored = backup::restore(&args.file, &settings.data_dir(), epoch);
    let restored = restored.map_err(|error| Failure::caused(Exit::Failed, "nothing was restored", &error))?;
    told(&restored, "restored and verified", args.json);
    Ok(Exit::Ok)
}

fn told(found: &VerifiedBackup, what: &str, as_json: bool) {
    let backup = &found.backup;
    if as_json {
        show::print(json!({
            "backup_id": backup.backup_id.to_string(),
            "store_id": found.store_id.to_string(),
            "created_at": backup.created_at.to_string(),
            "bytes": backup.bytes,
            "rows": backup.rows,
            "audit_size": backup.audit_size,
        }));
    } else {
        let (created_at, rows, size) = (backup.created_at, backup.rows, backup.audit_size);
        show::print(format!("{what}: the store as of {created_at}, {rows} rows, {size} audit records"));
    }
}
