//! check_tenant_quota and its general form: they look and change nothing.

use std::sync::Arc;

use super::{EnforceError, QuotaEnforcer, check_items};
use crate::counters::{StateMutex, TenantState};
use crate::domain::quota::{Decision, DeniedBy, Item, LimitState, QuotaStatus, QuotaType, Scope, Window};
use crate::domain::tenant::{Tenant, TenantId};

impl QuotaEnforcer {
    /// Whether `tokens` more tokens fit in the tenant's quota of today, and under the platform's ceiling of today, if there
    /// is one. Changes nothing.
    ///
    /// Sees every event that was acknowledged before it. A tenant that may reserve nothing (suspended...) answers false.
    pub fn check_tenant_quota(&self, tenant_id: &TenantId, tokens: u64) -> Result<bool, EnforceError> {
        let item = Item { quota_type: QuotaType::Tokens, amount: u128::from(tokens) };
        match self.check(tenant_id, &[item]) {
            Ok(decision) => {
                let today = |state: &&LimitState| state.window == Window::Day;
                let ceiling = |denied: &DeniedBy| denied.scope == Scope::Platform && denied.state.window == Window::Day;
                let under_ceiling = !decision.denied_by.iter().any(ceiling);
                Ok(under_ceiling
                    && decision
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
        let known = self.known(tenant_id)?;
        let mut new = if known.is_none() { Some(self.as_new(tenant_id)?) } else { None };
        let mut locked = known.as_ref().map(|slot| slot.lock());
        let decided = match locked.as_deref_mut().or(new.as_mut()) {
            Some(state) => {
                let mut platform = self.writer.shared().platform.as_ref().map(StateMutex::lock);
                state.check_under(now, items, platform.as_deref_mut())
            }
            // It is one or the other.
            None => return Err(EnforceError::UnknownTenant(tenant_id.clone())),
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
