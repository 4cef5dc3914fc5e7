//! enforce_quota: for callers who check first and record later without a handle.

use super::reserve::Decided;
use super::{EnforceError, QuotaEnforcer, ReserveOutcome, check_items};
use crate::counters::{HoldRequest, TenantSlot};
use crate::domain::quota::{Decision, HoldId, Item, QuotaCheckResult, QuotaType};
use crate::domain::tenant::TenantId;
use crate::domain::time::MICROS_PER_SECOND;

/// How long an anonymous hold lives.
const ENFORCE_TTL_MICROS: i64 = 60 * MICROS_PER_SECOND;

impl QuotaEnforcer {
    /// Takes an anonymous hold of 60 s, which the tenant's next recorded event (not a 429) closes. For threads.
    pub fn enforce_quota(
        &self,
        tenant_id: &TenantId,
        quota_type: QuotaType,
        amount: u128,
    ) -> Result<QuotaCheckResult, EnforceError> {
        let mut decision = self.enforce_multiple_quotas(tenant_id, &[Item { quota_type, amount }])?;
        let answered = decision.results.remove(&quota_type);
        // The type was asked for, so it has a result; without any limit it is unlimited.
        Ok(answered.unwrap_or(QuotaCheckResult {
            allowed: decision.allowed,
            tokens_remaining: None,
            quota_limit: None,
            error: None,
        }))
    }

    /// All or nothing over several types, as one hold. For threads.
    pub fn enforce_multiple_quotas(&self, tenant_id: &TenantId, items: &[Item]) -> Result<Decision, EnforceError> {
        check_items(items)?;
        let slot = match self.known_or_registering(tenant_id)? {
            Ok(slot) => slot,
            Err(registering) => self.registered(tenant_id, registering.wait()?)?,
        };
        Ok(self.take_anonymous(&slot, items, None)?.durable_blocking()?.decision)
    }

    /// Enforces without blocking the thread on the disk. A denial can be found by `request_id`, the id of the caller's request.
    pub async fn enforce(
        &self,
        tenant_id: &TenantId,
        items: &[Item],
        request_id: Option<&str>,
    ) -> Result<ReserveOutcome, EnforceError> {
        check_items(items)?;
        let slot = match self.known_or_registering(tenant_id)? {
            Ok(slot) => slot,
            Err(registering) => self.registered(tenant_id, registering.await?)?,
        };
        self.take_anonymous(&slot, items, request_id)?.durable().await
    }

    fn take_anonymous(
        &self,
        slot: &std::sync::Arc<TenantSlot>,
        items: &[Item],
        request_id: Option<&str>,
    ) -> Result<Decided, EnforceError> {
        let number = self.anonymous_number();
        let request =
            HoldRequest { id: HoldId::Anonymous(number), expires_at: self.now().plus_micros(ENFORCE_TTL_MICROS) };
        self.take(slot, items, request, format!("enforce-{number}"), request_id)
    }
}
