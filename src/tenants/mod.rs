//! Tenants, plans and prices, as administered: each change is one transaction with its audit record.

mod expiry;
mod list_tenants;
mod plans;
mod prices;

use std::sync::Arc;

pub use crate::domain::actor::Actor;
pub use list_tenants::{TenantFilter, TenantPage};
pub use plans::PlanEffect;
pub use prices::{PricesDiff, StaleProvider, TenantPrice};

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
    /// A price file cannot be taken.
    #[error("the prices cannot be taken: {0}")]
    InvalidPrices(String),
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

    /// One tenant as it stands, a tombstone too: what is known of it outlives it.
    pub fn get_or_deleted(&self, tenant_id: &TenantId) -> Result<Tenant, AdminError> {
        let slot = self.writer.shared().counters.get(tenant_id);
        let tenant = slot.map(|slot| (**slot.lock().tenant()).clone());
        tenant.ok_or_else(|| AdminError::UnknownTenant(tenant_id.clone()))
    }

    /// How many there are, deleted ones left out.
    pub fn count(&self) -> u64 {
        let slots = self.writer.shared().counters.all();
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
