//! Plans that have run out: stored as expired and recorded, once, by whoever looks first.

use super::{AdminError, Tenants};
use crate::domain::tenant::TenantChange;
use crate::rules::administration::ACTOR_SYSTEM;
use crate::writer::ChangeFailed;

/// The most tenants of one round: a record and about ten keys of it each.
const EXPIRED_PER_ROUND: usize = 1_000;

impl Tenants {
    /// Stores every tenant whose plan has run out as expired, each with its audit record `trial_expired`, at most 1,000 a
    /// call. Gives how many changes were asked for; with 1,000 of them there may be more to do.
    ///
    /// They were refused before, from the instant of the end on: this is for the trail and for lists. The engine calls it
    /// at its start and every few seconds.
    pub fn expire_due(&self) -> Result<usize, AdminError> {
        let shared = self.writer.shared();
        let due = shared.expiries.due(shared.clock.now(), EXPIRED_PER_ROUND);
        let slots = due.into_iter().filter_map(|tenant_no| shared.counters.by_no(tenant_no));
        let mut changes = Vec::new();
        for slot in slots {
            let receipt = self.writer.change(slot.id.clone(), Some(TenantChange::Expire), ACTOR_SYSTEM)?;
            changes.push((slot.id.clone(), receipt));
        }
        let asked = changes.len();
        for (tenant_id, receipt) in changes {
            match receipt.wait()? {
                // Deleted meanwhile: nothing is left to expire.
                Err(ChangeFailed::Refused(_)) => {}
                outcome => {
                    self.changed(&tenant_id, outcome)?;
                }
            }
        }
        Ok(asked)
    }
}
