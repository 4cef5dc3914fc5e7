//! The names of the jobs: those of their operations.

use std::fmt;
use std::str::FromStr;

/// A job. The order is the one they run in when several are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobName {
    /// Folds events into rows.
    AggregateUsageMetrics,
    /// Removes raw events older than the retention.
    CleanupOldRealtimeEvents,
    /// Removes audit records older than the retention.
    CleanupOldAuditEvents,
}

impl JobName {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::AggregateUsageMetrics, Self::CleanupOldRealtimeEvents, Self::CleanupOldAuditEvents];

    /// As routes, commands and metrics spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AggregateUsageMetrics => "aggregate_usage_metrics",
            Self::CleanupOldRealtimeEvents => "cleanup_old_realtime_events",
            Self::CleanupOldAuditEvents => "cleanup_old_audit_events",
        }
    }

    /// The setting with its cron text.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::AggregateUsageMetrics => "jobs.aggregate_cron",
            Self::CleanupOldRealtimeEvents | Self::CleanupOldAuditEvents => "jobs.cleanup_cron",
        }
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for JobName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|job| job.name() == text).ok_or(())
    }
}
