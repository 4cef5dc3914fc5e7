//! What the gate is asked, what it answers, and why it may not.

use crate::domain::event::{EventOutcome, InvalidEvent};
use crate::domain::quota::{Decision, Item, Reservation};
use crate::domain::tenant::{TenantId, TenantStatus};
use crate::writer::WriteError;

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
    /// The tenant has a cost limit, and what the named model will cost is not known.
    #[error(
        "the model `{model}` has no price, and the tenant `{tenant_id}` has a cost limit: give the model a price, or set unpriced_models = \"allow\""
    )]
    UnpricedModel {
        /// Who.
        tenant_id: TenantId,
        /// As it was named.
        model: String,
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
    /// No such denial, or it is older than 30 days.
    #[error("no denial of the tenant `{0}` is known {1}: denials are kept 30 days")]
    UnknownDenial(TenantId, String),
    /// The store cannot be read.
    #[error("the storage cannot be read: {0}")]
    Storage(String),
    /// `tenants_max` is reached.
    #[error("there are {0} tenants already, as many as tenants_max allows")]
    TooManyTenants(u64),
    /// Not durable.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// This grant may or may not be on disk; it stays held until it lapses.
    #[error(
        "the grant of reservation `{0}` may or may not be on disk: it stays held until it lapses; repeat it with the same id"
    )]
    GrantUnknown(String),
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
    /// The id of the caller's request, by which `explain` finds a denial; the first 128 characters are kept.
    pub request_id: Option<String>,
}

/// The answer to a request to reserve.
#[derive(Clone, Debug)]
pub struct ReserveOutcome {
    /// The decision.
    pub decision: Decision,
    /// What is held; `None` when denied.
    pub reservation: Option<Reservation>,
    /// Whether what was granted is on disk: false only where `on_storage_failure` lets memory decide alone.
    pub durable: bool,
    /// Names a denial, also one that was only observed, for `quota explain`.
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

impl EnforceError {
    pub(super) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidRequest { field, reason: reason.into() }
    }
}

impl From<InvalidEvent> for EnforceError {
    fn from(error: InvalidEvent) -> Self {
        Self::InvalidRequest { field: error.field, reason: error.reason }
    }
}
