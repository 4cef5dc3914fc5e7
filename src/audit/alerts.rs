//! Alerts: the thresholds that were crossed, read from the audit log.

use super::{AuditError, AuditLogger};
use crate::domain::audit::AuditFilter;
use crate::domain::key::TenantScope;
use crate::domain::tenant::TenantId;
use crate::domain::threshold::Alert;
use crate::domain::time::Timestamp;
use crate::rules::alerts::{THRESHOLD_CROSSED, crossing_of};

/// Which alerts are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertQuery {
    /// Of these tenants only.
    pub within: TenantScope,
    /// Of this tenant.
    pub tenant_id: Option<TenantId>,
    /// Recorded at or after this instant.
    pub since: Option<Timestamp>,
    /// Recorded before this instant.
    pub until: Option<Timestamp>,
}

/// One page of alerts, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertPage {
    /// The alerts. A page may be short although more follow.
    pub alerts: Vec<Alert>,
    /// Where to go on: before this index of the audit log. `None` at the end.
    pub next: Option<u64>,
}

impl AuditLogger {
    /// The thresholds that were crossed, newest first, recorded before index `before`, at most `limit` (1 to 1,000).
    ///
    /// Only what metergate itself recorded: a record of the same type that a caller wrote is no alert.
    pub fn get_alerts(&self, query: &AlertQuery, before: Option<u64>, limit: usize) -> Result<AlertPage, AuditError> {
        let filter = AuditFilter {
            within: query.within.clone(),
            tenant_id: query.tenant_id.clone(),
            event_types: vec![THRESHOLD_CROSSED.to_owned()],
            from: query.since,
            to: query.until,
            ..AuditFilter::default()
        };
        let page = self.get_audit_events(&filter, before, limit)?;
        let book = &self.writer.shared().alerts;
        let records = page.events.into_iter().map(|event| event.record);
        let alerts = records.filter_map(|record| {
            let (crossing, tenant_id) = (crossing_of(&record.entry)?, record.entry.tenant_id?);
            let own = book.event_id(&tenant_id, &crossing) == record.event_id;
            own.then_some(Alert { event_id: record.event_id, tenant_id, crossing })
        });
        Ok(AlertPage { alerts: alerts.collect(), next: page.next })
    }
}
