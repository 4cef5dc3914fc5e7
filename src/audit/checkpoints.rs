//! Checkpoints and proofs: what an auditor takes away, and what shows that the log has only grown since.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::{AuditError, AuditLogger};
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::rules::merkle::{Hash, leaf_hash};
use crate::writer::{Publication, Receipt};

/// The type of the record that says that another key signs.
pub const EVENT_SIGNER_CHANGED: &str = "audit_signing_key_changed";

/// That a record is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// Its index.
    pub index: u64,
    /// The size of the log that the proof is for.
    pub size: u64,
    /// The leaf, as it is hashed: version, index, time, and the digest of the record's stored bytes.
    pub leaf: Vec<u8>,
    /// Its hash.
    pub leaf_hash: Hash,
    /// Siblings, from the leaf upwards.
    pub proof: Vec<Hash>,
    /// The root of that size.
    pub root: Hash,
}

/// That one log is the begin of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The smaller size, and its root.
    pub old: (u64, Hash),
    /// The larger size, and its root.
    pub new: (u64, Hash),
    /// The hashes.
    pub proof: Vec<Hash>,
}

impl AuditLogger {
    /// A signed checkpoint over every record that was acknowledged before: the last one, or a new one when there is more.
    /// `None` of an empty log.
    pub async fn checkpoint(&self) -> Result<Option<String>, AuditError> {
        Ok(self.begin_checkpoint()?.await?)
    }

    /// [`Self::checkpoint`] for threads.
    pub fn checkpoint_blocking(&self) -> Result<Option<String>, AuditError> {
        Ok(self.begin_checkpoint()?.wait()?)
    }

    fn begin_checkpoint(&self) -> Result<Receipt<Option<String>>, AuditError> {
        Ok(self.writer.checkpoint()?)
    }

    /// What verifies the checkpoints: `NAME+KEYID+BASE64`.
    pub fn verifier_key(&self) -> String {
        self.writer.shared().checkpoints.signer().verifier().to_string()
    }

    /// How many records the log has, freed and erased ones included.
    pub fn size(&self) -> Result<u64, AuditError> {
        Ok(self.writer.shared().store.snapshot()?.next_audit_index()?)
    }

    /// Keeps who signs, and makes it a record of the log when it is another than before. At the start.
    pub(crate) fn note_signer(&self) -> Result<(), AuditError> {
        let before = self.writer.shared().store.snapshot()?.audit_checkpoint()?.1;
        let now = self.verifier_key();
        if before.as_ref() == Some(&now) {
            return Ok(());
        }
        if let Some(before) = before {
            tracing::warn!(before, now, "checkpoints of the audit log are signed by another key from here on");
            let mut entry = AuditEntry::system(None, EVENT_SIGNER_CHANGED, "audit_log", AuditAction::Update);
            entry.old_values = Some(json!({ "verifier_key": before }).to_string());
            entry.new_values = Some(json!({ "verifier_key": now }).to_string());
            entry.changes_summary = Some("Checkpoints are signed by another key from here on".to_owned());
            self.record_blocking(vec![entry.into()])?;
        }
        self.writer.publish(Publication { audit_verifier: Some(now), ..Publication::default() })?;
        Ok(())
    }

    /// Proves that record `index` is in the log of `size` records (`None`: of now).
    pub fn inclusion_proof(&self, index: u64, size: Option<u64>) -> Result<InclusionProof, AuditError> {
        let snapshot = self.writer.shared().store.snapshot()?;
        let now = snapshot.next_audit_index()?;
        let size = size.unwrap_or(now);
        if size > now {
            return Err(AuditError::invalid("size", format!("is above the {now} records that there are")));
        }
        if index >= size {
            return Err(AuditError::invalid("index", format!("is not below the size {size}")));
        }
        let leaf = snapshot.audit_leaf(index)?;
        let leaf = leaf.ok_or_else(|| AuditError::Storage("the audit log has a gap".to_owned()))?;
        Ok(InclusionProof {
            index,
            size,
            leaf_hash: leaf_hash(&leaf),
            leaf,
            proof: snapshot.audit_inclusion(index, size)?,
            root: snapshot.audit_root(size)?,
        })
    }

    /// Proves that the log of `old` records is the begin of that of `new` (`None`: of now).
    pub fn consistency_proof(&self, old: u64, new: Option<u64>) -> Result<ConsistencyProof, AuditError> {
        let snapshot = self.writer.shared().store.snapshot()?;
        let now = snapshot.next_audit_index()?;
        let new = new.unwrap_or(now);
        if new > now {
            return Err(AuditError::invalid("new", format!("is above the {now} records that there are")));
        }
        if old == 0 || old > new {
            return Err(AuditError::invalid("old", format!("must be from 1 to {new}")));
        }
        let proof = snapshot.audit_consistency(old, new)?;
        Ok(ConsistencyProof { old: (old, snapshot.audit_root(old)?), new: (new, snapshot.audit_root(new)?), proof })
    }

    /// Appends the checkpoints that the file outside the store lacks, and syncs it. Done by the housekeeping.
    pub fn write_checkpoints(&self, file: &Path) -> std::io::Result<()> {
        let book = &self.writer.shared().checkpoints;
        let notes = book.take_unwritten();
        if notes.is_empty() {
            return Ok(());
        }
        let appended = std::fs::OpenOptions::new().create(true).append(true).open(file).and_then(|mut file| {
            // An empty line in front sets a note apart, also from one that a full disk or a crash broke off.
            file.write_all(notes.iter().map(|note| format!("\n{note}")).collect::<String>().as_bytes())?;
            file.sync_data()
        });
        if appended.is_err() {
            book.put_back(notes);
        }
        appended
    }
}
