//! `metergate audit verify|checkpoint|export`: what an auditor does with the log.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde_json::{Map, Value, json};

use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::show;
use super::target::Target;
use crate::rules::audit_bundle::{RunningRoot, leaf_commits_to, leaf_is_of};
use crate::rules::checkpoint::{AuditCheckpoint, VerifierKey};

/// The longest line of a bundle, in bytes: a record is far shorter.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
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

/// Verifies a store, or an export of one; exit code 1 when anything is not as it was written.
pub fn verify(args: &VerifyArgs, backend: &Backend) -> Result<Exit, Failure> {
    let kept = args.checkpoint.as_deref().map(last_note).transpose()?;
    let found = match &args.bundle {
        Some(bundle) => verify_bundle(bundle, kept.as_deref(), args.verifier_key.as_ref())?,
        None => {
            let mut body = Map::new();
            body.extend(kept.map(|note| ("checkpoint".to_owned(), Value::from(note))));
            body.extend(
                args.verifier_key.as_ref().map(|key| ("verifier_key".to_owned(), Value::from(key.to_string()))),
            );
            backend.send_json("POST", "/api/audit/verify", &Value::Object(body))?.json
        }
    };
    show::print(if args.target.json { found.to_string() } else { told(&found) });
    Ok(if found["whole"] == true { Exit::Ok } else { Exit::Failed })
}

fn told(found: &Value) -> String {
    let mut lines = vec![format!(
        "{}: {} records hashed, {} of them freed by retention, root {}",
        if found["whole"] == true { "whole" } else { "NOT WHOLE" },
        show::field(found, "size"),
        show::field(found, "freed_by_retention"),
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

fn verify_bundle(path: &Path, kept: Option<&str>, verifier: Option<&VerifierKey>) -> Result<Value, Failure> {
    let broken =
        |line: usize, what: &str| Failure::new(Exit::Failed, format!("{} line {}: {what}", path.display(), line + 1));
    let file = File::open(path)
        .map_err(|error| Failure::caused(Exit::Usage, format!("{} cannot be read", path.display()), &error))?;
    let mut reader = BufReader::new(file);
    let (mut running, mut faults, mut records) = (RunningRoot::default(), Vec::new(), 0u64);
    let (mut head, mut end, mut root_at_kept) = (Value::Null, Value::Null, None);
    let mut missing = 0u64;
    let mut said = None;
    for number in 0.. {
        let mut line = String::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
        if read.map_err(|error| broken(number, &error.to_string()))? == 0 {
            break;
        }
        let json: Value = serde_json::from_str(&line).map_err(|_| broken(number, "is no JSON"))?;
        if number == 0 {
            if json["kind"] != "audit_log" {
                return Err(broken(number, "this is no export of `metergate audit export`"));
            }
            // What the bundle says of itself proves nothing without a key from elsewhere.
            let own: Option<VerifierKey> = json["verifier_key"].as_str().and_then(|key| key.parse().ok());
            let note = kept.or(json["checkpoint"].as_str());
            said = match (note, verifier.or(own.as_ref())) {
                (Some(note), Some(key)) => Some(AuditCheckpoint::open(note, key).map_err(|why| why.to_string())),
                _ => None,
            };
            head = json;
            continue;
        }
        if json["kind"] == "end" {
            end = json;
            break;
        }
        let bytes = |name: &str| json[name].as_str().and_then(|text| BASE64.decode(text).ok());
        let leaf = bytes("leaf").ok_or_else(|| broken(number, "has no leaf"))?;
        let index = running.size();
        if !leaf_is_of(&leaf, index) && faults.len() < 100 {
            faults.push(json!({ "index": index, "fault": "its leaf is another record's" }));
        }
        match bytes("record") {
            Some(record) if !leaf_commits_to(&leaf, &record) => {
                if faults.len() < 100 {
                    faults
                        .push(json!({ "index": index, "fault": "its stored bytes are not what its leaf commits to" }));
                }
            }
            Some(_) => records += 1,
            None => missing += 1,
        }
        running.add(&leaf);
        if let Some(Ok(checkpoint)) = &said
            && checkpoint.size == running.size()
        {
            root_at_kept = Some(running.root());
        }
    }
    let complete = end["size"] == running.size();
    if !complete {
        faults.push(json!({ "index": running.size(), "fault": "the export ends before its end: it is not whole" }));
    }
    let checkpoint = said.map(|said| match said {
        Ok(said) => {
            let fault = match root_at_kept {
                None => Some(format!("it is over {} records, and the export has {}", said.size, running.size())),
                Some(root) if root != said.root => Some("the records are not those it was signed over".to_owned()),
                Some(_) => None,
            };
            json!({ "size": said.size, "root": BASE64.encode(said.root), "agrees": fault.is_none(), "fault": fault })
        }
        Err(why) => json!({ "size": null, "root": null, "agrees": false, "fault": why }),
    });
    let agrees = checkpoint.as_ref().is_none_or(|checkpoint| checkpoint["agrees"] == true);
    Ok(json!({
        "whole": faults.is_empty() && agrees && !head.is_null(),
        "size": running.size(),
        "root": BASE64.encode(running.root()),
        "records": records,
        "freed_by_retention": missing,
        "missing": [],
        "faults": faults,
        "checkpoint": checkpoint,
    }))
}
