//! check_tenant_quota and its general form: they look and change nothing.

use std::sync::Arc;

use super::{EnforceError, QuotaEnforcer, check_items};
use crate::counters::TenantState;
use crate::domain::quota::{Decision, Item, LimitState, QuotaStatus, QuotaType, Window};
use crate::domain::tenant::{Tenant, TenantId};

impl QuotaEnforcer {
    /// Whether `tokens` more tokens fit in the tenant's quota of today. Changes nothing.
    ///
    /// Sees every event that was acknowledged before it. A tenant that may reserve nothing (suspended...) answers false.
    pub fn check_tenant_quota(&self, tenant_id: &TenantId, tokens: u64) -> Result<bool, EnforceError> {
        let item = Item { quota_type: QuotaType::Tokens, amount: u128::from(tokens) };
        match self.check(tenant_id, &[item]) {
            Ok(decision) => {
                let today = |state: &&LimitState| state.window == Window::Day;
                Ok(decision
                    .limits
                    .iter()
                    .filter(today)
                    .all(|state| state.remaining().is_none_or(|left| left >= item.amount)))
            }
            Err(EnforceError::Blocked { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether `items` would fit now. Changes nothing and registers nobody: an unknown tenant is looked at as a new one.
    pub fn check(&self, tenant_id: &TenantId, items: &[Item]) -> Result<Decision, EnforceError> {
        check_items(items)?;
        let now = self.now();
        let decided = match self.known(tenant_id)? {
            Some(slot) => slot.lock().check(now, items),
            None => self.as_new(tenant_id)?.check(now, items),
        };
        decided.map_err(|blocked| EnforceError::Blocked { tenant_id: tenant_id.clone(), status: blocked.status })
    }

    /// Everything about the tenant's quotas now. Fails for a tenant that was never seen.
    pub fn get_quota_status(&self, tenant_id: &TenantId) -> Result<QuotaStatus, EnforceError> {
        let slot = self.known(tenant_id)?.ok_or_else(|| EnforceError::UnknownTenant(tenant_id.clone()))?;
        let now = self.now();
        Ok(slot.lock().status(now))
    }

    /// The state an unknown tenant would have.
    fn as_new(&self, tenant_id: &TenantId) -> Result<TenantState, EnforceError> {
        let shared = self.writer.shared();
        if !shared.policies.create_unknown_tenants {
            return Err(EnforceError::UnknownTenant(tenant_id.clone()));
        }
        let policies = &shared.policies;
        let tenant = Tenant::new(tenant_id.clone(), &policies.default_plan, policies.default_zone, self.now());
        let limits = shared.plan_limits(&tenant.plan);
        Ok(TenantState::new(Arc::new(tenant), limits))
    }
}
