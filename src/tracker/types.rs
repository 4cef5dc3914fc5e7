//! What the tracker answers, and why it may not.

use crate::domain::event::RecordedEvent;
use crate::domain::money::Money;
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::writer::WriteError;

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The tenant was never seen.
    #[error("the tenant `{0}` is unknown")]
    UnknownTenant(TenantId),
    /// The range or limit cannot be served.
    #[error("{field} {reason}")]
    InvalidRange {
        /// The parameter at fault.
        field: &'static str,
        /// The rest of the sentence.
        reason: String,
    },
    /// The store could not be read.
    #[error("the storage cannot be read: {0}")]
    Storage(String),
}

/// What top consumers are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerMetric {
    /// total_tokens_used
    Tokens,
    /// estimated_cost_usd
    Cost,
    /// api_calls_total
    ApiCalls,
}

/// One tenant's totals over a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantTotals {
    /// Whose.
    pub tenant_id: TenantId,
    /// total_tokens_used
    pub tokens: u64,
    /// Cost of the priced events.
    pub cost: Money,
    /// Events without a known cost.
    pub unpriced_events: u64,
    /// api_calls_total
    pub api_calls: u64,
    /// Sum of latencies in ms, and over how many events.
    pub latency: (u64, u64),
    /// Quota denials.
    pub quota_exceeded_count: u64,
}

/// All tenants' totals over a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MultiTenantStats {
    /// Tenants with any event in the range.
    pub total_tenants: u64,
    /// Sum of api_calls_total.
    pub total_api_calls: u64,
    /// Sum of total_tokens_used.
    pub total_tokens: u64,
    /// Sum of known costs; `None` when every event is unpriced.
    pub total_cost: Option<Money>,
    /// Events without a known cost.
    pub unpriced_events: u64,
    /// Weighted by events.
    pub avg_latency_ms: f64,
}

/// A tenant that is at or over a limit, or was denied in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceedingTenant {
    /// Whose.
    pub tenant_id: TenantId,
    /// Its tokens-per-day limit now; `None` is unlimited.
    pub quota_limit: Option<u64>,
    /// What is left of it now.
    pub quota_remaining: Option<u64>,
    /// Tokens used in the range.
    pub total_tokens_used: u64,
    /// Denials in the range.
    pub quota_exceeded_count: u64,
}

/// Which events to list.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// From this instant.
    pub from: Timestamp,
    /// Up to and not including this instant.
    pub to: Timestamp,
    /// Only this type.
    pub event_type: Option<String>,
    /// At most so many, 1 to 10,000.
    pub limit: usize,
    /// Go on after this position.
    pub after: Option<EventPosition>,
}

/// A position in a tenant's events, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPosition {
    /// The time of the last event shown.
    pub event_timestamp: Timestamp,
    /// Its entry.
    pub entry_id: u64,
    /// The highest entry that existed at the first page: later ones are not shown.
    pub horizon: u64,
}

/// One page of events, newest first.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// The events.
    pub events: Vec<RecordedEvent>,
    /// Where to go on; `None` at the end.
    pub next: Option<EventPosition>,
}

/// What an aggregation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregation {
    /// Rows written: hourly, daily and monthly.
    pub rows_written: u64,
    /// Hours of the asked range that lie below the retention cut and stand untouched.
    pub hours_skipped: u64,
}

/// What a clean-up did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleanup {
    /// Rows removed from sight.
    pub rows_removed: u64,
    /// The cut: what is strictly older is gone.
    pub cut: Timestamp,
}

/// One difference that `verify` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whose row, or what else was looked at.
    pub what: String,
    /// What the store holds.
    pub stored: String,
    /// What the events give.
    pub recomputed: String,
}

/// What `verify` looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Events read, each block's checksum compared.
    pub events: u64,
    /// Hourly, daily and monthly rows recomputed.
    pub rows: u64,
    /// Every difference.
    pub differences: Vec<Difference>,
}

/// Why maintenance could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaintainError {
    /// It could not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Retention waits until somebody says that the clock is right.
    #[error(
        "this start came more than 48 hours after the last one: look at the clock, then run `metergate jobs confirm-clock`"
    )]
    ClockUnconfirmed,
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Storage(format!("{error}{cause}"))
    }
}

impl From<StoreError> for MaintainError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}
