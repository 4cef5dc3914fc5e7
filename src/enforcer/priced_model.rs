//! Whether a named model may be worked with: a tenant with a cost limit needs to know what it will cost.

use super::{EnforceError, QuotaEnforcer};
use crate::domain::quota::QuotaType;
use crate::domain::tenant::TenantId;

/// The longest name of a model, in characters.
const MAX_NAME_CHARS: usize = 128;

impl QuotaEnforcer {
    /// Refuses a named model that has no price now, for a tenant with a cost limit that is enforced, unless
    /// `unpriced_models` is `allow`.
    ///
    /// Asked before check, enforce or reserve, whatever types they are about. Who names no model is decided by the amounts
    /// alone: what will be used cannot be known then, and an event without a cost charges no cost limit.
    pub fn require_price(
        &self,
        tenant_id: &TenantId,
        provider: Option<&str>,
        model: Option<&str>,
    ) -> Result<(), EnforceError> {
        for (field, name) in [("model", model), ("provider", provider)] {
            if name.is_some_and(|name| name.is_empty() || name.chars().count() > MAX_NAME_CHARS) {
                return Err(EnforceError::invalid(field, format!("must be 1 to {MAX_NAME_CHARS} characters")));
            }
        }
        let (shared, now) = (self.writer.shared(), self.now());
        let Some(model) = model else { return Ok(()) };
        let own = shared.own_prices(tenant_id);
        if shared.prices.load().has_price_for(own.as_deref(), provider, model, now) {
            return Ok(());
        }
        self.require_no_cost_limit(tenant_id, model)
    }

    /// Fails where the tenant has a cost limit: this model's calls cannot be counted against it.
    pub(crate) fn require_no_cost_limit(&self, tenant_id: &TenantId, model: &str) -> Result<(), EnforceError> {
        let (shared, now) = (self.writer.shared(), self.now());
        if shared.policies.allow_unpriced_models {
            return Ok(());
        }
        let limited = match shared.counters.get(tenant_id) {
            Some(slot) => {
                let state = slot.lock();
                let limits = state.tenant().limits_at(state.plan_limits(), now);
                limits.iter().any(|limit| limit.quota_type == QuotaType::Cost && !limit.observe)
            }
            // It would be registered on the default plan.
            None => {
                let limits = shared.plan_limits(&shared.policies.default_plan);
                limits.iter().any(|limit| limit.quota_type == QuotaType::Cost && !limit.observe)
            }
        };
        // What costs nobody knows what would pass a ceiling of the platform uncounted, too.
        let limited = limited || shared.policies.ceilings.iter().any(|ceiling| ceiling.quota_type == QuotaType::Cost);
        match limited {
            true => Err(EnforceError::UnpricedModel { tenant_id: tenant_id.clone(), model: model.to_owned() }),
            false => Ok(()),
        }
    }
}
