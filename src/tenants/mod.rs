//! Tenants and plans, as administered: each change is one transaction with its audit record.

use crate::domain::quota::Plan;
use crate::domain::tenant::{Tenant, TenantChange, TenantId};
use crate::writer::{Receipt, WriteError};

/// Who asks for a change, for the audit record.
#[derive(Clone, Debug)]
pub struct Actor(pub String);

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

/// A stub for the shape; see the real one.
#[derive(Clone)]
pub struct Tenants {}

impl Tenants {
    /// One tenant; deleted ones are unknown.
    pub fn get(&self, tenant_id: &TenantId) -> Result<Tenant, AdminError> {
        let _ = tenant_id;
        todo!()
    }

    /// Tenants in order of their ids, after `after`, at most `limit`; deleted ones left out.
    pub fn list(&self, after: Option<&TenantId>, limit: usize) -> Vec<Tenant> {
        let _ = (after, limit);
        todo!()
    }

    /// How many there are, deleted ones left out.
    pub fn count(&self) -> u64 {
        todo!()
    }

    /// Applies one change in one transaction with its audit record; gives the tenant after it.
    pub fn change(
        &self,
        tenant_id: &TenantId,
        change: TenantChange,
        actor: &Actor,
    ) -> Result<Receipt<Result<Tenant, AdminError>>, AdminError> {
        let _ = (tenant_id, change, actor);
        todo!()
    }

    /// The plans in force, by name.
    pub fn plans(&self) -> Vec<Plan> {
        todo!()
    }
}
