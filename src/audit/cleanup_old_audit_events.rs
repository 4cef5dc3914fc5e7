//! cleanup_old_audit_events: retention of audit records, a bounded step at a time.

use std::sync::atomic::Ordering;

use super::{AuditError, AuditLogger};
use crate::domain::time::Timestamp;
use crate::rules::retention::{next_audit_cut, years_before};
use crate::store::AuditCut;
use crate::writer::Publication;

/// Records that one transaction frees: each has about ten keys.
const FREED_PER_COMMIT: usize = 1_000;

/// What a clean-up did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCleanup {
    /// Records removed from sight.
    pub rows_removed: u64,
    /// The cut: what is strictly older is gone.
    pub cut: Timestamp,
}

impl AuditLogger {
    /// Removes audit records strictly older than the retention (`retention.audit_years`, 2).
    ///
    /// One run moves the cut by at most seven days, however far the clock has come. Reads stop showing what is older at
    /// once; its storage is freed right after, in small commits, and by the next run where this one was broken off. Blocks
    /// its thread.
    pub fn cleanup_old_audit_events(&self) -> Result<AuditCleanup, AuditError> {
        if self.writer.shared().clock_unconfirmed.load(Ordering::Acquire) {
            return Err(AuditError::ClockUnconfirmed);
        }
        let _alone = self.writer.maintenance();
        let shared = self.writer.shared();
        let snapshot = shared.store.snapshot()?;
        let before = snapshot.audit_cut()?;
        let oldest = snapshot.audit_recorded_at(before.min_index)?;
        let target = years_before(shared.clock.now(), shared.policies.audit_years);
        let cut = next_audit_cut(before.cut, target, oldest);
        let mut after = before;
        if cut > before.cut {
            let min_index = snapshot.audit_index_at(cut)?;
            after = AuditCut { cut, min_index, removed: before.removed + (min_index - before.min_index) };
            self.writer.publish(Publication { audit_cut: Some(after), ..Publication::default() })?;
        }
        drop(snapshot);
        while shared.store.snapshot()?.has_audit_below(after.min_index)? {
            let audit_freed = Some((after.min_index, FREED_PER_COMMIT));
            self.writer.publish(Publication { audit_freed, ..Publication::default() })?;
        }
        Ok(AuditCleanup { rows_removed: after.min_index - before.min_index, cut: after.cut })
    }
}
