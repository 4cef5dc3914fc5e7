//! audit export: the log as an auditor takes it away, each leaf with the stored bytes that it commits to.

use super::{AuditError, AuditLogger};

/// Leaves of one snapshot: a slow reader does not keep old pages alive for longer than these take.
const LEAVES_PER_SNAPSHOT: u64 = 10_000;

/// One record of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportLine {
    /// Its index.
    pub index: u64,
    /// Its leaf, as it is hashed.
    pub leaf: Vec<u8>,
    /// The bytes that the leaf commits to: `None` once retention has freed or an erasure has taken them.
    pub payload: Option<Vec<u8>>,
}

impl AuditLogger {
    /// Shows `see` every record that there is now, oldest first, until it answers false. Gives how many there are, and the
    /// index below which retention has taken their bytes. Blocks its thread.
    pub fn export_audit(&self, see: &mut dyn FnMut(ExportLine) -> bool) -> Result<(u64, u64), AuditError> {
        let store = &self.writer.shared().store;
        let size = store.snapshot()?.next_audit_index()?;
        let (mut index, mut min_index) = (0, 0);
        while index < size {
            let snapshot = store.snapshot()?;
            min_index = snapshot.audit_cut()?.min_index;
            for index in index..size.min(index + LEAVES_PER_SNAPSHOT) {
                let leaf = snapshot.audit_leaf(index)?;
                let leaf = leaf.ok_or_else(|| AuditError::Storage("the audit log has a gap".to_owned()))?;
                let payload = if index < min_index { None } else { snapshot.audit_payload(index)? };
                if !see(ExportLine { index, leaf, payload }) {
                    return Ok((size, min_index));
                }
            }
            index += LEAVES_PER_SNAPSHOT;
        }
        Ok((size, min_index))
    }
}
