//! UsageTracker: records what happened, and reads what it adds up to.

use crate::domain::event::{EventOutcome, RecordedEvent, UsageEvent};
use crate::domain::metrics::UsageMetrics;
use crate::domain::money::Money;
use crate::domain::tenant::TenantId;
use crate::domain::time::{PeriodType, Timestamp};
use crate::writer::{Receipt, WriteError};

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

/// A stub for the shape; see the real one.
#[derive(Clone)]
pub struct UsageTracker {}

impl UsageTracker {
    /// Records events in one commit; outcomes stand in the order given. Never waits: a full queue is an error at once.
    pub fn record(&self, events: Vec<UsageEvent>) -> Result<Receipt<Vec<EventOutcome>>, WriteError> {
        let _ = events;
        todo!()
    }

    /// Like [`UsageTracker::record`], waiting for room and for the commit; for threads.
    pub fn record_blocking(&self, events: Vec<UsageEvent>) -> Result<Vec<EventOutcome>, WriteError> {
        let _ = events;
        todo!()
    }

    /// The rows of one tenant whose periods start in `from..to`, newest first; periods without events have no row.
    pub fn get_tenant_usage(
        &self,
        tenant_id: &TenantId,
        from: Timestamp,
        to: Timestamp,
        period: PeriodType,
    ) -> Result<Vec<UsageMetrics>, ReadError> {
        let _ = (tenant_id, from, to, period);
        todo!()
    }

    /// The open UTC day's row; all zero before its first event.
    pub fn get_today_usage(&self, tenant_id: &TenantId) -> Result<UsageMetrics, ReadError> {
        let _ = tenant_id;
        todo!()
    }

    /// Events of one tenant, newest first.
    pub fn get_tenant_events(&self, tenant_id: &TenantId, query: &EventQuery) -> Result<EventPage, ReadError> {
        let _ = (tenant_id, query);
        todo!()
    }

    /// Totals over all tenants for the periods that start in `from..to`.
    pub fn get_multi_tenant_stats(
        &self,
        period: PeriodType,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<MultiTenantStats, ReadError> {
        let _ = (period, from, to);
        todo!()
    }

    /// The tenants with the most of `metric` over the range, most first, ties by id.
    pub fn get_top_consumers(
        &self,
        metric: ConsumerMetric,
        period: PeriodType,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<TenantTotals>, ReadError> {
        let _ = (metric, period, from, to, limit);
        todo!()
    }

    /// Tenants at or over a limit now, or denied in the range; by id.
    pub fn get_tenants_exceeding_quota(
        &self,
        period: PeriodType,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<ExceedingTenant>, ReadError> {
        let _ = (period, from, to);
        todo!()
    }

    /// Folds events into hourly, daily and monthly rows: what is not yet folded, or a range again from its events.
    pub fn aggregate_usage_metrics(&self, range: Option<(Timestamp, Timestamp)>) -> Result<Aggregation, MaintainError> {
        let _ = range;
        todo!()
    }

    /// Removes events older than the retention, never one that is not aggregated.
    pub fn cleanup_old_realtime_events(&self) -> Result<Cleanup, MaintainError> {
        todo!()
    }

    /// Recomputes what can be recomputed and reports every difference.
    pub fn verify(&self) -> Result<Verification, ReadError> {
        todo!()
    }
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
}
