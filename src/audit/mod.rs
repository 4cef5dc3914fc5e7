//! The audit log: writes records, finds them again, resolves and reports them, and lets retention take the old.

mod alerts;
mod builders;
mod cleanup_old_audit_events;
mod generate_audit_report;
mod reads;
mod record_audit_event;
mod resolve_audit_event;

use std::sync::Arc;

pub use alerts::{AlertPage, AlertQuery};
pub use builders::{ChatAudit, ConfigAudit, ErrorAudit, KbAudit, TrialAudit};
pub use cleanup_old_audit_events::AuditCleanup;
pub use generate_audit_report::{AuditReport, REPORT_EVENTS_MAX};
pub use reads::{AuditPage, MAX_RECORDS_PER_PAGE, SECURITY_EVENT_TYPES};
pub use record_audit_event::PendingAudit;
pub use resolve_audit_event::MAX_RESOLUTION_ACTION_CHARS;

pub use crate::writer::ResolveOutcome;

use crate::store::StoreError;
use crate::writer::{WriteError, Writer};

/// Writes the audit log and reads it. Cheap to clone; clones share one engine.
///
/// There is no way to change a record, and only retention removes one.
#[derive(Clone)]
pub struct AuditLogger {
    writer: Arc<Writer>,
}

impl AuditLogger {
    pub(crate) const fn new(writer: Arc<Writer>) -> Self {
        Self { writer }
    }
}

/// Why the audit log did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// A value is out of its bounds.
    #[error("{field} {reason}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// The rest of the sentence.
        reason: String,
    },
    /// The store could not be read.
    #[error("the storage cannot be read: {0}")]
    Storage(String),
    /// Not durable.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Retention waits until somebody says that the clock is right.
    #[error(
        "this start came more than 48 hours after the last one: look at the clock, then run `metergate jobs confirm-clock`"
    )]
    ClockUnconfirmed,
}

impl AuditError {
    fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }
}

impl From<StoreError> for AuditError {
    fn from(error: StoreError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Storage(format!("{error}{cause}"))
    }
}
