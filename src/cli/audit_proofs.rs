//! `metergate audit verify|checkpoint|export`: what an auditor does with the log.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::audit_bundle;
use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::rules::checkpoint::VerifierKey;

/// Faults that are shown.
const FAULTS_SHOWN: usize = 20;

/// Flags of `audit verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// A file with a signed checkpoint that was kept elsewhere; the last one in it counts
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Who must have signed it: NAME+KEYID+BASE64, as `audit checkpoint` showed it then
    #[arg(long, value_name = "KEY")]
    verifier_key: Option<VerifierKey>,
    /// Verify this export instead of a store
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    pub target: Target,
}

/// Flags of `audit checkpoint`.
#[derive(Args, Debug)]
pub struct CheckpointArgs {
    #[command(flatten)]
    pub target: Target,
}

/// Flags of `audit export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Write to this file, which must not exist yet, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    pub target: Target,
}

/// Prints the signed note; its verifier key goes to standard error, or into the JSON.
pub fn checkpoint(args: &CheckpointArgs, backend: &Backend) -> Result<Exit, Failure> {
    let answer = backend.get("/api/audit/checkpoint", &[])?;
    show::print(if args.target.json { json!({ "checkpoint": answer.text }).to_string() } else { answer.text });
    Ok(Exit::Ok)
}

/// Writes the whole log as JSON Lines.
pub fn export(args: &ExportArgs, backend: &Backend) -> Result<Exit, Failure> {
    const PATH: &str = "/api/audit/export";
    let Some(file) = &args.output else {
        backend.download(PATH, &mut std::io::stdout().lock())?;
        return Ok(Exit::Ok);
    };
    let cannot = |error: std::io::Error| {
        Failure::caused(Exit::Failed, format!("{} cannot be written: name another", file.display()), &error)
    };
    let mut out = BufWriter::new(super::tenants::new_private_file(file).map_err(cannot)?);
    let written = backend.download(PATH, &mut out).and_then(|()| out.flush().map_err(cannot));
    if written.is_err() {
        // A part of an export is none.
        let _may_be_gone = std::fs::remove_file(file);
    }
    written.map(|()| Exit::Ok)
}

impl VerifyArgs {
    /// Whether an export is to be verified: that needs neither a store nor a server.
    pub fn is_of_a_bundle(&self) -> bool {
        self.bundle.is_some()
    }
}

/// Verifies a store; exit code 1 when anything is not as it was written.
pub fn verify(args: &VerifyArgs, backend: &Backend) -> Result<Exit, Failure> {
    let mut body = Map::new();
    let kept = args.checkpoint.as_deref().map(last_note).transpose()?;
    body.extend(kept.map(|note| ("checkpoint".to_owned(), Value::from(note))));
    body.extend(args.verifier_key.as_ref().map(|key| ("verifier_key".to_owned(), Value::from(key.to_string()))));
    let found = backend.send_json("POST", "/api/audit/verify", &Value::Object(body))?.json;
    Ok(shown(args, &found))
}

/// Verifies an export from its file alone; exit code 1 when anything is not as it was written.
pub fn verify_bundle(args: &VerifyArgs) -> Result<Exit, Failure> {
    let bundle = args.bundle.as_deref().ok_or_else(|| Failure::usage("--bundle FILE is required".to_owned()))?;
    let kept = args.checkpoint.as_deref().map(last_note).transpose()?;
    let found = audit_bundle::verify(bundle, kept.as_deref(), args.verifier_key.as_ref())?;
    Ok(shown(args, &found))
}

fn shown(args: &VerifyArgs, found: &Value) -> Exit {
    show::print(if args.target.json { found.to_string() } else { told(found) });
    if found["whole"] == true { Exit::Ok } else { Exit::Failed }
}

fn told(found: &Value) -> String {
    let mut lines = vec![format!(
        "{}: {} records hashed, {} of them freed by retention, {} erased, root {}",
        if found["whole"] == true { "whole" } else { "NOT WHOLE" },
        show::field(found, "size"),
        show::field(found, "freed_by_retention"),
        show::field(found, "erased"),
        show::field(found, "root"),
    )];
    for fault in found["faults"].as_array().into_iter().flatten().take(FAULTS_SHOWN) {
        lines.push(format!("record {}: {}", show::field(fault, "index"), show::field(fault, "fault")));
    }
    for range in found["missing"].as_array().into_iter().flatten().take(FAULTS_SHOWN) {
        lines.push(format!("records {} to {} are missing", show::field(range, "from"), show::field(range, "to")));
    }
    match &found["checkpoint"] {
        Value::Null => lines.push(
            "without --checkpoint a tail that was cut off, or a log that was written anew, is not found: keep one elsewhere"
                .to_owned(),
        ),
        kept if kept["agrees"] == true => {
            lines.push(format!("the checkpoint over {} records agrees", show::field(kept, "size")));
        }
        kept => lines.push(format!("the checkpoint does not agree: {}", show::field(kept, "fault"))),
    }
    lines.join("\n")
}

/// The last note of a file: metergate appends them with an empty line between.
fn last_note(path: &Path) -> Result<String, Failure> {
    let cannot =
        |error: std::io::Error| Failure::caused(Exit::Usage, format!("{} cannot be read", path.display()), &error);
    let mut text = String::new();
    File::open(path).and_then(|mut file| file.read_to_string(&mut text)).map_err(cannot)?;
    let lines: Vec<&str> = text.lines().collect();
    let signature = |line: &&str| line.starts_with('\u{2014}');
    let none = || Failure::usage(format!("{} has no signed checkpoint", path.display()));
    let end = lines.iter().rposition(&signature).ok_or_else(none)?;
    let first_signature = lines[..=end].iter().rposition(|line| !signature(line)).ok_or_else(none)?;
    let from = lines[..first_signature].iter().rposition(|line| line.is_empty()).map_or(0, |empty| empty + 1);
    Ok(format!("{}\n", lines[from..=end].join("\n")))
}
