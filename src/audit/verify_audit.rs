//! audit verify: hashes the whole log anew, and compares it with itself and with a checkpoint that somebody kept.

use super::{AuditError, AuditLogger};
use crate::rules::checkpoint::{AuditCheckpoint, VerifierKey};
use crate::rules::merkle::Hash;
use crate::store::AuditCheck;

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerification {
    /// The log itself: every leaf, stored byte and node.
    pub check: AuditCheck,
    /// What the kept checkpoint says, and whether the log still begins as it did then; `None` without one.
    pub kept: Option<KeptCheckpoint>,
}

/// A checkpoint from outside, against the log of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCheckpoint {
    /// Records that it is over.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// What is wrong with it or with the log; `None` when the log begins with those records.
    pub fault: Option<String>,
}

impl AuditVerification {
    /// Whether nothing was found.
    pub fn is_whole(&self) -> bool {
        let kept = self.kept.as_ref().is_none_or(|kept| kept.fault.is_none());
        self.check.faults.is_empty() && self.check.missing.is_empty() && kept
    }
}

impl AuditLogger {
    /// Verifies the log, in bounded memory and one consistent state; blocks its thread for as long as reading it takes.
    ///
    /// Without a kept checkpoint it finds what was changed inside the log, but not a tail that was cut off, nor a log that
    /// was written anew: for that, keep a checkpoint where nobody who can write the store can write. `verifier` is who must
    /// have signed it; `None` is the signer of now, which is a promise only as good as the store.
    pub fn verify_audit(
        &self,
        kept: Option<&str>,
        verifier: Option<&VerifierKey>,
    ) -> Result<AuditVerification, AuditError> {
        let own = self.writer.shared().checkpoints.signer().verifier();
        let opened = kept.map(|note| AuditCheckpoint::open(note, verifier.unwrap_or(own)).map_err(|why| (note, why)));
        let kept_size = match &opened {
            Some(Ok(checkpoint)) => Some(checkpoint.size),
            _ => None,
        };
        let snapshot = self.writer.shared().store.snapshot()?;
        let check = snapshot.check_audit(snapshot.next_audit_index()?, kept_size)?;
        let kept = opened.map(|opened| match opened {
            Ok(AuditCheckpoint { size, root, .. }) => {
                let fault = match check.root_at_kept {
                    None => {
                        Some(format!("it is over {size} records, and the log has {}: its tail is gone", check.size))
                    }
                    Some(now) if now != root => {
                        Some(format!("the first {size} records are not those it was signed over"))
                    }
                    Some(_) => None,
                };
                KeptCheckpoint { size, root, fault }
            }
            Err((note, why)) => {
                let said = AuditCheckpoint::peek(note).ok();
                let (size, root) = said.map_or((0, Hash::default()), |said| (said.size, said.root));
                KeptCheckpoint { size, root, fault: Some(why.to_string()) }
            }
        });
        Ok(AuditVerification { check, kept })
    }
}
