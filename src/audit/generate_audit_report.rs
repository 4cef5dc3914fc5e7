//! generate_audit_report: what happened to one tenant in a range of time, counted.

use std::collections::BTreeMap;

use super::{AuditError, AuditLogger};
use crate::domain::audit::{AuditEvent, AuditFilter, AuditResult};
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;

/// The most events that a report lists, the newest; its counts are always whole.
pub const REPORT_EVENTS_MAX: usize = 1_000;

/// Totals of one tenant's audit events over a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// Whose.
    pub tenant_id: TenantId,
    /// From this instant.
    pub from: Timestamp,
    /// Up to and not including this instant.
    pub to: Timestamp,
    /// How many there are.
    pub total: u64,
    /// Their types.
    pub by_type: BTreeMap<String, u64>,
    /// Their actions.
    pub by_action: BTreeMap<String, u64>,
    /// Those whose original result is success.
    pub successes: u64,
    /// Those whose original result is failure.
    pub failures: u64,
    /// The newest of them, at most 1,000.
    pub events: Vec<AuditEvent>,
}

impl AuditLogger {
    /// Counts a tenant's events in `from..to` and lists the newest. Reads each of them once; blocks its thread.
    pub fn generate_audit_report(
        &self,
        tenant_id: &TenantId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<AuditReport, AuditError> {
        if from >= to {
            return Err(AuditError::invalid("from", "must be before to"));
        }
        let filter = AuditFilter {
            tenant_id: Some(tenant_id.clone()),
            from: Some(from),
            to: Some(to),
            ..AuditFilter::default()
        };
        let mut report = AuditReport {
            tenant_id: tenant_id.clone(),
            from,
            to,
            total: 0,
            by_type: BTreeMap::new(),
            by_action: BTreeMap::new(),
            successes: 0,
            failures: 0,
            events: Vec::new(),
        };
        let mut before = None;
        loop {
            let page = self.get_audit_events(&filter, before, super::MAX_RECORDS_PER_PAGE)?;
            page.events.into_iter().for_each(|event| report.add(event));
            before = page.next;
            if before.is_none() {
                return Ok(report);
            }
        }
    }
}

impl AuditReport {
    fn add(&mut self, event: AuditEvent) {
        let entry = &event.record.entry;
        self.total += 1;
        *self.by_type.entry(entry.event_type.clone()).or_default() += 1;
        *self.by_action.entry(entry.action.name().to_owned()).or_default() += 1;
        self.successes += u64::from(entry.result == AuditResult::Success);
        self.failures += u64::from(entry.result == AuditResult::Failure);
        if self.events.len() < REPORT_EVENTS_MAX {
            self.events.push(event);
        }
    }
}
