//! QuotaEnforcer: decides before the work is done.
//!
//! A decision is made in memory, in one step under the tenant's lock; what it grants is on disk before the caller hears
//! of it. Every operation has an async form and one for threads.

mod check_tenant_quota;
mod enforce_quota;
mod explain;
mod explanation;
mod export_quotas;
mod priced_model;
mod reserve;
mod set_custom_quota;
mod settle;
mod types;

pub use explanation::*;
pub use types::*;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::TenantSlot;
use crate::domain::quota::{Decision, Denial, Item, MAX_ITEMS};
use crate::domain::tenant::{TenantId, TenantStatus};
use crate::domain::time::Timestamp;
use crate::rules::administration::{ACTOR_SYSTEM, ChangeRefused};
use crate::writer::{ChangeFailed, ChangeOutcome, Receipt, Writer};

/// What is kept of a longer request id.
const MAX_REQUEST_ID_CHARS: usize = 128;

/// Decides over quotas and holds what it grants. Cheap to clone; clones share one engine.
#[derive(Clone)]
pub struct QuotaEnforcer {
    writer: Arc<Writer>,
    /// Numbers the holds of `enforce`, which have no handle. Starts at the time in microseconds, so that a number is not
    /// used again after a restart.
    next_anonymous: Arc<AtomicU64>,
}

impl QuotaEnforcer {
    pub(crate) fn new(writer: Arc<Writer>) -> Self {
        let start = writer.shared().clock.now().micros() as u64;
        Self { writer, next_anonymous: Arc::new(AtomicU64::new(start)) }
    }

    fn now(&self) -> Timestamp {
        self.writer.shared().clock.now()
    }

    fn anonymous_number(&self) -> u64 {
        self.next_anonymous.fetch_add(1, Ordering::Relaxed)
    }

    /// The tenant, if it is known and not deleted.
    fn known(&self, tenant_id: &TenantId) -> Result<Option<Arc<TenantSlot>>, EnforceError> {
        let Some(slot) = self.writer.shared().counters.get(tenant_id) else { return Ok(None) };
        if slot.lock().tenant().status == TenantStatus::Deleted {
            return Err(EnforceError::UnknownTenant(tenant_id.clone()));
        }
        Ok(Some(slot))
    }

    /// Asks the writer to register an unknown tenant; `Ok(Ok(slot))` when it is known already.
    fn known_or_registering(
        &self,
        tenant_id: &TenantId,
    ) -> Result<Result<Arc<TenantSlot>, Receipt<ChangeOutcome>>, EnforceError> {
        if let Some(slot) = self.known(tenant_id)? {
            return Ok(Ok(slot));
        }
        if !self.writer.shared().policies.create_unknown_tenants {
            return Err(EnforceError::UnknownTenant(tenant_id.clone()));
        }
        Ok(Err(self.writer.change(tenant_id.clone(), None, ACTOR_SYSTEM)?))
    }

    fn registered(&self, tenant_id: &TenantId, outcome: ChangeOutcome) -> Result<Arc<TenantSlot>, EnforceError> {
        match outcome {
            Ok((slot, _)) => Ok(slot),
            Err(ChangeFailed::TooManyTenants) => {
                Err(EnforceError::TooManyTenants(self.writer.shared().policies.tenants_max))
            }
            Err(ChangeFailed::Refused(ChangeRefused::Invalid { field, reason })) => {
                Err(EnforceError::InvalidRequest { field, reason })
            }
            Err(ChangeFailed::Refused(_)) => Err(EnforceError::UnknownTenant(tenant_id.clone())),
        }
    }

    /// Notes a denial, also one that was only observed, for the metrics, the audit trail and `quota explain`. Gives its
    /// decision id; `None` when nothing said no.
    fn note_denial(&self, slot: &TenantSlot, decision: &Decision, request_id: Option<&str>) -> Option<uuid::Uuid> {
        let observed = decision.denied_by.is_empty();
        let limits = if observed { &decision.would_deny } else { &decision.denied_by };
        let denied_by = *limits.first()?;
        if !observed {
            self.writer.shared().meter.denied.add(1);
        }
        let decision_id = crate::ids::new_uuid_v7(decision.decided_at);
        // A denied request is one denial, whatever the number of limits that said no: the first stands for it.
        let denial = Denial {
            decision_id: Some(decision_id),
            at: decision.decided_at,
            request_id: request_id.map(|id| id.chars().take(MAX_REQUEST_ID_CHARS).collect()),
            denied_by,
            count: 1,
            observed,
        };
        self.writer.shared().denials.note(slot.no, &slot.id, vec![denial]);
        Some(decision_id)
    }
}

/// Refuses items that no decision can be made about.
fn check_items(items: &[Item]) -> Result<(), EnforceError> {
    if items.is_empty() {
        return Err(EnforceError::invalid("items", "must name at least one quota type and amount"));
    }
    if items.len() > MAX_ITEMS {
        return Err(EnforceError::invalid("items", format!("holds more than {MAX_ITEMS} items")));
    }
    match items.iter().find(|item| item.amount > item.quota_type.max()) {
        Some(item) => {
            let most = item.quota_type.show(item.quota_type.max());
            Err(EnforceError::invalid("amount", format!("of {} is above {most}", item.quota_type)))
        }
        None => Ok(()),
    }
}
