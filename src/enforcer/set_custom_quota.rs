//! set_custom_quota: a limit of the tenant's own, which beats its plan's and sticks.

use super::{EnforceError, QuotaEnforcer};
use crate::domain::quota::QuotaType;
use crate::domain::tenant::{TenantChange, TenantId};
use crate::rules::administration::ACTOR_SYSTEM;

impl QuotaEnforcer {
    /// Sets the tenant's own limit in the type's documented window; `None` is unlimited. Registers the tenant if need be.
    ///
    /// On disk with its audit record when it returns. For threads; administration has the same with reason and end.
    pub fn set_custom_quota(
        &self,
        tenant_id: &TenantId,
        quota_type: QuotaType,
        limit: Option<u128>,
    ) -> Result<(), EnforceError> {
        let window = quota_type.default_window();
        let change = TenantChange::SetOverride { quota_type, window, limit, reason: None, until: None };
        let outcome = self.writer.change(tenant_id.clone(), Some(change), ACTOR_SYSTEM)?.wait()?;
        self.registered(tenant_id, outcome).map(drop)
    }
}
