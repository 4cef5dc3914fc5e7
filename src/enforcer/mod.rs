//! QuotaEnforcer: decides before the work is done.

use crate::domain::event::{EventOutcome, UsageEvent};
use crate::domain::quota::{Decision, Item, QuotaCheckResult, QuotaStatus, QuotaType, Reservation};
use crate::domain::tenant::{TenantId, TenantStatus};
use crate::writer::{Receipt, WriteError};

/// Why the gate could not answer, or must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnforceError {
    /// `unknown_tenants = "deny"`, or the tenant is deleted.
    #[error("the tenant `{0}` is unknown")]
    UnknownTenant(TenantId),
    /// The tenant may reserve nothing: expired, suspended or cancelled.
    #[error("the tenant `{tenant_id}` is {}", status.name())]
    Blocked {
        /// Who.
        tenant_id: TenantId,
        /// In which state.
        status: TenantStatus,
    },
    /// The request itself is wrong.
    #[error("{field} {reason}")]
    InvalidRequest {
        /// The field at fault.
        field: &'static str,
        /// The rest of the sentence.
        reason: String,
    },
    /// This reservation id was used with other items.
    #[error("the reservation `{0}` exists with other items")]
    ReservationConflict(String),
    /// No such reservation.
    #[error("the reservation `{0}` is unknown, or older than 24 hours")]
    UnknownReservation(String),
    /// Several tenants have a reservation of this id.
    #[error("more than one tenant has a reservation `{0}`: name the tenant")]
    AmbiguousReservation(String),
    /// `tenants_max` is reached.
    #[error("there are {0} tenants already, as many as tenants_max allows")]
    TooManyTenants(u64),
    /// Not durable.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A request to reserve.
#[derive(Clone, Debug)]
pub struct ReserveRequest {
    /// Who.
    pub tenant_id: TenantId,
    /// What; the same type twice is summed.
    pub items: Vec<Item>,
    /// Time to live, 1 to 3,600 seconds; default 60.
    pub ttl_seconds: Option<u32>,
    /// The tenant's own idempotency key; default: one is made.
    pub reservation_id: Option<String>,
}

/// The answer to a request to reserve.
#[derive(Clone, Debug)]
pub struct ReserveOutcome {
    /// The decision.
    pub decision: Decision,
    /// What is held; `None` when denied.
    pub reservation: Option<Reservation>,
    /// The id of a denial, for `quota explain`.
    pub decision_id: Option<uuid::Uuid>,
}

/// What settling did.
#[derive(Clone, Debug)]
pub struct SettleOutcome {
    /// Of each event.
    pub outcomes: Vec<EventOutcome>,
    /// Whether more was recorded than was reserved, or the reservation was released before.
    pub overage: bool,
    /// Whether the reservation had lapsed.
    pub lapsed: bool,
}

/// A stub for the shape; see the real one.
#[derive(Clone)]
pub struct QuotaEnforcer {}

impl QuotaEnforcer {
    /// Whether `items` would fit now. Changes nothing and registers nobody: an unknown tenant is looked at as a new one.
    pub fn check(&self, tenant_id: &TenantId, items: &[Item]) -> Result<Decision, EnforceError> {
        let _ = (tenant_id, items);
        todo!()
    }

    /// Whether `tokens` more tokens fit in the tenant's quota of today. Changes nothing.
    pub fn check_tenant_quota(&self, tenant_id: &TenantId, tokens: u64) -> Result<bool, EnforceError> {
        let _ = (tenant_id, tokens);
        todo!()
    }

    /// Takes an anonymous hold of 60 s, which the tenant's next recorded event closes. Async form: see [`Self::enforce`].
    pub fn enforce_quota(
        &self,
        tenant_id: &TenantId,
        quota_type: QuotaType,
        amount: u128,
    ) -> Result<QuotaCheckResult, EnforceError> {
        let _ = (tenant_id, quota_type, amount);
        todo!()
    }

    /// All or nothing over several types; blocking.
    pub fn enforce_multiple_quotas(&self, tenant_id: &TenantId, items: &[Item]) -> Result<Decision, EnforceError> {
        let _ = (tenant_id, items);
        todo!()
    }

    /// Enforces without blocking the thread on the disk.
    pub async fn enforce(&self, tenant_id: &TenantId, items: &[Item]) -> Result<ReserveOutcome, EnforceError> {
        let _ = (tenant_id, items);
        todo!()
    }

    /// Reserves several types in one step, all or nothing; durable when it returns.
    pub async fn reserve(&self, request: ReserveRequest) -> Result<ReserveOutcome, EnforceError> {
        let _ = request;
        todo!()
    }

    /// [`Self::reserve`] for threads.
    pub fn reserve_blocking(&self, request: ReserveRequest) -> Result<ReserveOutcome, EnforceError> {
        let _ = request;
        todo!()
    }

    /// Records what really happened and gives back the rest, in one commit; safe to repeat.
    /// `tenant_id` may be left out when the events name it or the id is unique.
    pub async fn settle(
        &self,
        tenant_id: Option<&TenantId>,
        reservation_id: &str,
        events: Vec<UsageEvent>,
    ) -> Result<SettleOutcome, EnforceError> {
        let _ = (tenant_id, reservation_id, events);
        todo!()
    }

    /// [`Self::settle`] for threads.
    pub fn settle_blocking(
        &self,
        tenant_id: Option<&TenantId>,
        reservation_id: &str,
        events: Vec<UsageEvent>,
    ) -> Result<SettleOutcome, EnforceError> {
        let _ = (tenant_id, reservation_id, events);
        todo!()
    }

    /// Gives all of it back. True when something was held.
    pub async fn release(&self, tenant_id: Option<&TenantId>, reservation_id: &str) -> Result<bool, EnforceError> {
        let _ = (tenant_id, reservation_id);
        todo!()
    }

    /// [`Self::release`] for threads.
    pub fn release_blocking(&self, tenant_id: Option<&TenantId>, reservation_id: &str) -> Result<bool, EnforceError> {
        let _ = (tenant_id, reservation_id);
        todo!()
    }

    /// Sets the tenant's own limit in the type's documented window; `None` is unlimited. Registers the tenant if need be.
    pub fn set_custom_quota(
        &self,
        tenant_id: &TenantId,
        quota_type: QuotaType,
        limit: Option<u128>,
    ) -> Result<Receipt<()>, EnforceError> {
        let _ = (tenant_id, quota_type, limit);
        todo!()
    }

    /// Everything about the tenant's quotas now.
    pub fn get_quota_status(&self, tenant_id: &TenantId) -> Result<QuotaStatus, EnforceError> {
        let _ = tenant_id;
        todo!()
    }
}
