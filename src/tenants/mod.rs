//! Tenants and plans, as administered: each change is one transaction with its audit record.

mod plans;

use std::sync::Arc;

pub use crate::domain::actor::Actor;
pub use plans::PlanEffect;

use crate::counters::TenantSlot;
use crate::domain::key::TenantScope;
use crate::domain::tenant::{Tenant, TenantChange, TenantId, TenantStatus};
use crate::rules::administration::ChangeRefused;
use crate::writer::{ChangeFailed, ChangeOutcome, Receipt, WriteError, Writer};

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The tenant was never seen, or is deleted.
    #[error("the tenant `{0}` is unknown")]
    UnknownTenant(TenantId),
    /// The plan does not exist.
    #[error("the plan `{plan}` does not exist: use one of {known}")]
    UnknownPlan {
        /// As asked for.
        plan: String,
        /// Those that exist, separated by commas.
        known: String,
    },
    /// The plan cannot be removed.
    #[error("the plan `{plan}` stays: {reason}")]
    PlanInUse {
        /// Which.
        plan: String,
        /// Why, and what to do first.
        reason: String,
    },
    /// A value is out of its bounds.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// The rest of the sentence.
        reason: String,
    },
    /// `tenants_max` is reached.
    #[error("there are {0} tenants already, as many as tenants_max allows")]
    TooManyTenants(u64),
    /// Not durable.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Administers tenants and plans. Cheap to clone; clones share one engine.
#[derive(Clone)]
pub struct Tenants {
    writer: Arc<Writer>,
}

impl Tenants {
    pub(crate) const fn new(writer: Arc<Writer>) -> Self {
        Self { writer }
    }

    /// One tenant; deleted ones are unknown.
    pub fn get(&self, tenant_id: &TenantId) -> Result<Tenant, AdminError> {
        let slot = self.writer.shared().counters.get(tenant_id);
        let tenant = slot.map(|slot| (**slot.lock().tenant()).clone());
        tenant
            .filter(|tenant| tenant.status != TenantStatus::Deleted)
            .ok_or_else(|| AdminError::UnknownTenant(tenant_id.clone()))
    }

    /// Tenants in order of their ids, after `after`, at most `limit`; deleted ones left out.
    pub fn list(&self, after: Option<&TenantId>, limit: usize) -> Vec<Tenant> {
        self.list_within(&TenantScope::All, after, limit)
    }

    /// [`Self::list`] of those that are in the scope.
    pub fn list_within(&self, scope: &TenantScope, after: Option<&TenantId>, limit: usize) -> Vec<Tenant> {
        let mut slots = self.within(scope);
        slots.retain(|slot| after.is_none_or(|after| slot.id > *after));
        slots.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let tenants = slots.into_iter().map(|slot| (**slot.lock().tenant()).clone());
        tenants.filter(|tenant| tenant.status != TenantStatus::Deleted).take(limit).collect()
    }

    /// How many there are, deleted ones left out.
    pub fn count(&self) -> u64 {
        self.count_within(&TenantScope::All)
    }

    fn within(&self, scope: &TenantScope) -> Vec<Arc<TenantSlot>> {
        let counters = &self.writer.shared().counters;
        match scope {
            TenantScope::All => counters.all(),
            TenantScope::Only(some) => some.iter().filter_map(|tenant_id| counters.get(tenant_id)).collect(),
        }
    }

    /// [`Self::count`] of those that are in the scope.
    pub fn count_within(&self, scope: &TenantScope) -> u64 {
        let slots = self.within(scope);
        slots.iter().filter(|slot| slot.lock().tenant().status != TenantStatus::Deleted).count() as u64
    }

    /// Applies one change in one transaction with its audit record; gives the tenant after it.
    pub async fn change(
        &self,
        tenant_id: &TenantId,
        change: TenantChange,
        actor: &Actor,
    ) -> Result<Tenant, AdminError> {
        let changed = self.begin_change(tenant_id, change, actor)?.await?;
        self.changed(tenant_id, changed)
    }

    /// [`Self::change`] for threads.
    pub fn change_blocking(
        &self,
        tenant_id: &TenantId,
        change: TenantChange,
        actor: &Actor,
    ) -> Result<Tenant, AdminError> {
        let changed = self.begin_change(tenant_id, change, actor)?.wait()?;
        self.changed(tenant_id, changed)
    }

    fn begin_change(
        &self,
        tenant_id: &TenantId,
        change: TenantChange,
        actor: &Actor,
    ) -> Result<Receipt<ChangeOutcome>, WriteError> {
        self.writer.change(tenant_id.clone(), Some(change), actor)
    }

    fn changed(&self, tenant_id: &TenantId, outcome: ChangeOutcome) -> Result<Tenant, AdminError> {
        outcome.map(|(_, tenant)| tenant).map_err(|failed| match failed {
            ChangeFailed::TooManyTenants => AdminError::TooManyTenants(self.writer.shared().policies.tenants_max),
            ChangeFailed::Refused(ChangeRefused::UnknownTenant) => AdminError::UnknownTenant(tenant_id.clone()),
            ChangeFailed::Refused(ChangeRefused::Invalid { field, reason }) => AdminError::Invalid { field, reason },
            ChangeFailed::Refused(ChangeRefused::UnknownPlan(plan)) => {
                let known: Vec<String> = self.plans().into_iter().map(|plan| plan.name).collect();
                AdminError::UnknownPlan { plan, known: known.join(", ") }
            }
        })
    }
}
