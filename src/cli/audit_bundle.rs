//! `metergate audit verify --bundle`: an exported audit log verified from its file alone, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use crate::rules::audit_bundle::{RunningRoot, leaf_commits_to, leaf_is_of};
use crate::rules::checkpoint::{AuditCheckpoint, VerifierKey};
use crate::rules::erasure::{add_to_ranges, covered, uncovered};
use crate::rules::merkle::Hash;
use crate::store::erased_by_stored;

/// The longest line of a bundle, in bytes: a record is far shorter.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Faults, and ranges of missing records, that are listed.
const LISTED_MAX: usize = 100;

/// What was found so far.
#[derive(Default)]
struct Bundle {
    running: RunningRoot,
    /// The checkpoint that the log is compared with, or why it cannot be.
    said: Option<Result<AuditCheckpoint, String>>,
    root_at_said: Option<Hash>,
    records: u64,
    /// Records without their bytes: ranges of indices, both ends included.
    without: Vec<(u64, u64)>,
    /// Records with their bytes, and what records say was erased, in the same way.
    with: Vec<(u64, u64)>,
    erasures: Vec<(u64, u64)>,
    faults: Vec<Value>,
}

/// Verifies an export; in the shape of `POST /api/audit/verify`. Without a kept checkpoint and its key the bundle's own are
/// taken, which only shows that it fits together.
pub fn verify(path: &Path, kept: Option<&str>, verifier: Option<&VerifierKey>) -> Result<Value, Failure> {
    let broken =
        |line: usize, what: &str| Failure::new(Exit::Failed, format!("{} line {}: {what}", path.display(), line + 1));
    let file = File::open(path)
        .map_err(|error| Failure::caused(Exit::Usage, format!("{} cannot be read", path.display()), &error))?;
    let mut reader = BufReader::new(file);
    let (mut bundle, mut end) = (Bundle::default(), Value::Null);
    for number in 0.. {
        let mut line = String::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
        if read.map_err(|error| broken(number, &error.to_string()))? == 0 {
            break;
        }
        let json: Value = serde_json::from_str(&line).map_err(|_| broken(number, "is no JSON"))?;
        match json["kind"].as_str() {
            Some("audit_log") if number == 0 => bundle.begin(&json, kept, verifier),
            _ if number == 0 => return Err(broken(number, "this is no export of `metergate audit export`")),
            Some("end") => {
                end = json;
                break;
            }
            _ => bundle.add(&json).map_err(|what| broken(number, what))?,
        }
    }
    Ok(bundle.finish(&end))
}

impl Bundle {
    fn begin(&mut self, head: &Value, kept: Option<&str>, verifier: Option<&VerifierKey>) {
        let own: Option<VerifierKey> = head["verifier_key"].as_str().and_then(|key| key.parse().ok());
        let note = kept.or(head["checkpoint"].as_str());
        self.said = match (note, verifier.or(own.as_ref())) {
            (Some(note), Some(key)) => Some(AuditCheckpoint::open(note, key).map_err(|why| why.to_string())),
            (Some(_), None) => Some(Err("nobody says whose signature it must bear: give --verifier-key".to_owned())),
            (None, _) => None,
        };
    }

    fn add(&mut self, line: &Value) -> Result<(), &'static str> {
        let bytes = |name: &str| line[name].as_str().and_then(|text| BASE64.decode(text).ok());
        let leaf = bytes("leaf").ok_or("has no leaf")?;
        let index = self.running.size();
        if !leaf_is_of(&leaf, index) {
            self.fault(index, "its leaf is another record's");
        }
        match (&line["record"], bytes("record")) {
            (Value::Null, _) => add_to_ranges(&mut self.without, index),
            (_, Some(record)) if leaf_commits_to(&leaf, &record) => {
                self.records += 1;
                add_to_ranges(&mut self.with, index);
                // What is recorded later is not erased by it.
                let before = |(from, to): (u64, u64)| (from < index).then(|| (from, to.min(index - 1)));
                self.erasures.extend(erased_by_stored(&record).into_iter().filter_map(before));
            }
            _ => self.fault(index, "its stored bytes are not what its leaf commits to"),
        }
        self.running.add(&leaf);
        if let Some(Ok(said)) = &self.said
            && said.size == self.running.size()
        {
            self.root_at_said = Some(self.running.root());
        }
        Ok(())
    }

    fn fault(&mut self, index: u64, fault: &str) {
        if self.faults.len() < LISTED_MAX {
            self.faults.push(json!({ "index": index, "fault": fault }));
        }
    }

    fn finish(mut self, end: &Value) -> Value {
        let size = self.running.size();
        if end["size"] != size {
            self.fault(size, "the export ends before its end: it is not whole");
        }
        for (from, to) in covered(&self.with, &self.erasures) {
            (from..=to).take(LISTED_MAX).for_each(|index| self.fault(index, "it was erased, and its bytes are back"));
        }
        // Retention takes the oldest: what is missing above its cut was taken by somebody else.
        let min_index = end["min_index"].as_u64().unwrap_or(0);
        let freed: u64 = self.without.iter().map(|(from, to)| (to + 1).min(min_index).saturating_sub(*from)).sum();
        let above = self.without.iter().filter(|(_, to)| *to >= min_index);
        let above: Vec<(u64, u64)> = above.map(|(from, to)| ((*from).max(min_index), *to)).collect();
        let gone = uncovered(&above, std::mem::take(&mut self.erasures));
        let count = |ranges: &[(u64, u64)]| ranges.iter().map(|(from, to)| to - from + 1).sum::<u64>();
        let erased = count(&above) - count(&gone);
        let missing: Vec<Value> =
            gone.iter().take(LISTED_MAX).map(|(from, to)| json!({ "from": from, "to": to })).collect();
        let checkpoint = self.said.map(|said| match said {
            Ok(said) => {
                let fault = match self.root_at_said {
                    None => Some(format!("it is over {} records, and the export has {size}", said.size)),
                    Some(root) if root != said.root => Some("the records are not those it was signed over".to_owned()),
                    Some(_) => None,
                };
                let agrees = fault.is_none();
                json!({ "size": said.size, "root": BASE64.encode(said.root), "agrees": agrees, "fault": fault })
            }
            Err(why) => json!({ "size": null, "root": null, "agrees": false, "fault": why }),
        });
        let agrees = checkpoint.as_ref().is_none_or(|checkpoint| checkpoint["agrees"] == true);
        json!({
            "whole": self.faults.is_empty() && missing.is_empty() && agrees,
            "size": size,
            "root": BASE64.encode(self.running.root()),
            "records": self.records,
            "freed_by_retention": freed,
            "erased": erased,
            "missing": missing,
            "faults": self.faults,
            "checkpoint": checkpoint,
        })
    }
}
