//! Files that commands read: exported audit logs, reports as CSV, the admin key, and words of the command line.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{admin_key, audit_bundle, moment, reconcile, thresholds};
use crate::fuzz::fuzz;
use crate::rules::audit_bundle::{LEAF_VERSION, RunningRoot};
use crate::rules::checkpoint::CheckpointSigner;
use crate::rules::reconcile::Report;

#[test]
fn a_changed_export_is_never_taken_for_the_log_that_was_signed() {
    let mut lines = Vec::new();
    let (mut root, mut records) = (RunningRoot::default(), Vec::new());
    for index in 0..5u64 {
        let stored = [&[2u8; 40][..], &index.to_be_bytes()].concat();
        let digest: [u8; 32] = Sha256::digest(&stored).into();
        let time = 1_790_000_000_000_000i64.to_be_bytes();
        let leaf = [&[LEAF_VERSION][..], &index.to_be_bytes(), &time, &digest].concat();
        root.add(&leaf);
        records.push(json!({"leaf": BASE64.encode(leaf), "record": BASE64.encode(stored)}));
    }
    let signer = CheckpointSigner::new("metergate.example/log", &[7; 32]);
    let note = signer.sign(root.size(), &root.root());
    lines.push(json!({"kind": "audit_log", "verifier_key": signer.verifier().to_string(), "checkpoint": note}));
    lines.extend(records);
    lines.push(json!({"kind": "end", "size": 5, "min_index": 0}));
    let bundle: String = lines.iter().map(|line| format!("{line}\n")).collect();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fuzz("exported audit logs", 1_000, &[bundle], |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let own = audit_bundle::verify(&path, None, None);
        let Ok(verified) = audit_bundle::verify(&path, Some(&note), Some(signer.verifier())) else { return false };
        assert!(own.is_ok(), "what is read with a kept checkpoint is read without");
        if verified["whole"] == true {
            let said = (verified["size"].as_u64(), verified["root"].as_str().map(str::to_owned));
            assert_eq!(said, (Some(5), Some(BASE64.encode(root.root()))), "{}", String::from_utf8_lossy(bytes));
            assert_eq!(verified["records"].as_u64(), Some(5));
        }
        true
    });
}

#[test]
fn a_changed_report_in_csv_is_an_error() {
    let columns: BTreeMap<String, String> =
        [("day", "date"), ("model", "model"), ("input_tokens", "in"), ("cost", "usd"), ("requests", "n")]
            .map(|(field, column)| (field.to_owned(), column.to_owned()))
            .into();
    let text = "date,model,in,usd,n\n2026-11-24,gpt-4o,1200,0.06,3\n1730419200,\"gpt, x\",7,-1.5,\n2026-11-24T10:00:00Z,m,,,1\n";
    fuzz("reports as CSV", 5_000, &[text], |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let mut report = Report::default();
        match reconcile::read_csv(text, &columns, &mut report) {
            Ok(()) => {
                let _span = (report.span(), report.models().len());
                true
            }
            Err(reason) => {
                assert!(!reason.is_empty());
                false
            }
        }
    });
    fuzz("columns of reports", 2_000, &["day=date", "cost=usd"], |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|pair| reconcile::column(pair).is_ok())
    });
}

#[test]
fn a_changed_admin_key_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let made = admin_key::read_or_make(folder.path()).unwrap();
    let path = made.made.unwrap();
    fuzz("admin keys", 400, &[made.key], |bytes| {
        // Written over, so that it keeps the mode of its owner alone.
        std::fs::write(&path, bytes).unwrap();
        match admin_key::read(folder.path()) {
            Ok(key) => {
                let key = key.unwrap();
                assert!(key.chars().all(|c| c.is_ascii_graphic()), "{key:?} can be sent in a header");
                true
            }
            Err(_) => false,
        }
    });
}

#[test]
fn changed_words_of_the_command_line_are_errors() {
    fuzz("moments", 4_000, &["2026-11-24", "2026-11-24T10:00:00Z"], |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| moment::read(text).is_ok())
    });
    fuzz("thresholds as words", 2_000, &["80,95,100", "none"], |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| thresholds::read(text).is_ok())
    });
}
