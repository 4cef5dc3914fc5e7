//! export_quotas: what is held of one tenant's denials and open holds.

use std::ops::{ControlFlow, RangeInclusive};

use super::{EnforceError, QuotaEnforcer};
use crate::domain::quota::{Denial, Hold};
use crate::domain::tenant::TenantId;
use crate::domain::time::MICROS_PER_DAY;
use crate::rules::retention::DENIALS_DAYS;
use crate::store::{Operation, StoreError};
use crate::writer::Shared;

impl QuotaEnforcer {
    /// The holds that are open now. Also of a deleted tenant.
    pub fn open_holds(&self, tenant_id: &TenantId) -> Result<Vec<Hold>, EnforceError> {
        let slot = self.writer.shared().counters.get(tenant_id);
        let slot = slot.ok_or_else(|| EnforceError::UnknownTenant(tenant_id.clone()))?;
        let mut state = slot.lock();
        state.tidy(self.now());
        Ok(state.snapshot().open)
    }

    /// Shows `see` the denials of the last 30 days, those of the days first that are filed, until it breaks. Also of a
    /// deleted tenant. Blocks its thread.
    pub fn export_denials(
        &self,
        tenant_id: &TenantId,
        see: &mut dyn FnMut(Denial) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, EnforceError> {
        let shared = self.writer.shared();
        let slot = shared.counters.get(tenant_id).ok_or_else(|| EnforceError::UnknownTenant(tenant_id.clone()))?;
        let now = self.now();
        let oldest = now.plus_micros(-i64::from(DENIALS_DAYS) * MICROS_PER_DAY);
        // First what is not written, then the disk: nothing is missed, and what is on both is left out there.
        let unwritten = shared.denials.unwritten(slot.no);
        let written = written_denials(shared, slot.no, oldest.day()..=now.day());
        let denials = written.map_err(|error| EnforceError::Storage(error.to_string()))?;
        let new: Vec<Denial> = unwritten.into_iter().filter(|denial| !denials.contains(denial)).collect();
        for denial in denials.into_iter().chain(new).filter(|denial| denial.at >= oldest) {
            if see(denial).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Those that are filed, then those in the journal.
fn written_denials(shared: &Shared, tenant_no: u32, days: RangeInclusive<u32>) -> Result<Vec<Denial>, StoreError> {
    let snapshot = shared.store.snapshot()?;
    let mut denials = Vec::new();
    for day in days {
        snapshot.tenant_denials(day, tenant_no, |denial| denials.push(denial))?;
    }
    snapshot.commits_after(snapshot.checkpoint()?.filed_seq, |commit| {
        denials.extend(commit.operations.into_iter().filter_map(|placed| match placed.operation {
            Operation::Denied { tenant_no: number, denial, .. } if number == tenant_no => Some(denial),
            _ => None,
        }));
        ControlFlow::Continue(())
    })?;
    Ok(denials)
}
