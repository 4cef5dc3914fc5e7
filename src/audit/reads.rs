//! Finding audit records again: by any field, newest first, a page at a time.

use super::{AuditError, AuditLogger};
use crate::domain::audit::{AuditEvent, AuditFilter, AuditResult, MAX_RECORDS_OF_ONE_ID, Resolution, ResultFilter};
use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_DAY, Timestamp};
use crate::store::LoggedRecord;

/// The most records of one page.
pub const MAX_RECORDS_PER_PAGE: usize = 1_000;
/// What [`AuditLogger::get_security_events`] looks for.
pub const SECURITY_EVENT_TYPES: [&str; 3] = ["security_violation", "quota_exceeded", "unauthorized_access"];
/// How far back it looks, in days.
const SECURITY_DAYS: i64 = 30;

/// One page of the audit log, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The records. A page may be short although more follow: a search takes a bounded time.
    pub events: Vec<AuditEvent>,
    /// Where to go on: before this index. `None` at the end.
    pub next: Option<u64>,
}

impl AuditLogger {
    /// The newest records that agree with the filter, recorded before index `before`, at most `limit` (1 to 1,000).
    ///
    /// What was there at the first page is neither skipped nor repeated, unless retention takes it.
    pub fn get_audit_events(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<AuditPage, AuditError> {
        if !(1..=MAX_RECORDS_PER_PAGE).contains(&limit) {
            return Err(AuditError::invalid("limit", "must be from 1 to 1,000"));
        }
        let page = self.writer.shared().store.snapshot()?.audit_page(filter, before, limit)?;
        Ok(AuditPage { events: page.records.into_iter().map(event_of).collect(), next: page.before })
    }

    /// The records of this id: usually one, but ids are their tenants' own, and two may use the same. None when there is
    /// none, or retention has taken it.
    pub fn get_audit_event(&self, event_id: uuid::Uuid) -> Result<Vec<AuditEvent>, AuditError> {
        let snapshot = self.writer.shared().store.snapshot()?;
        let mut events = Vec::new();
        for index in snapshot.audit_with_id(event_id, MAX_RECORDS_OF_ONE_ID)? {
            events.extend(snapshot.audit_record(index)?.map(event_of));
        }
        Ok(events)
    }

    /// What happened to a tenant in the last `days` (documented default 7), newest first, at most `limit` (50).
    pub fn get_tenant_audit_trail(
        &self,
        tenant_id: &TenantId,
        days: u32,
        limit: usize,
    ) -> Result<Vec<AuditEvent>, AuditError> {
        let filter = AuditFilter {
            tenant_id: Some(tenant_id.clone()),
            from: Some(self.days_ago(days.into())),
            ..AuditFilter::default()
        };
        self.newest(&filter, limit)
    }

    /// What failed, of one tenant or of all, newest first. Goes by the original result: what is resolved had failed too.
    pub fn get_failed_operations(
        &self,
        tenant_id: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<AuditEvent>, AuditError> {
        let filter = AuditFilter {
            tenant_id: tenant_id.cloned(),
            result: Some(ResultFilter::Original(AuditResult::Failure)),
            ..AuditFilter::default()
        };
        self.newest(&filter, limit)
    }

    /// Violations, exceeded quotas and unauthorized accesses of the last 30 days, of one tenant or of all, newest first.
    pub fn get_security_events(
        &self,
        tenant_id: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<AuditEvent>, AuditError> {
        let filter = AuditFilter {
            tenant_id: tenant_id.cloned(),
            event_types: SECURITY_EVENT_TYPES.map(str::to_owned).to_vec(),
            from: Some(self.days_ago(SECURITY_DAYS)),
            ..AuditFilter::default()
        };
        self.newest(&filter, limit)
    }

    fn days_ago(&self, days: i64) -> Timestamp {
        self.writer.shared().clock.now().plus_micros(-days * MICROS_PER_DAY)
    }

    /// The newest, over as many pages as that takes.
    fn newest(&self, filter: &AuditFilter, limit: usize) -> Result<Vec<AuditEvent>, AuditError> {
        let mut page = self.get_audit_events(filter, None, limit)?;
        let mut events = page.events;
        while let (Some(before), true) = (page.next, events.len() < limit) {
            page = self.get_audit_events(filter, Some(before), limit - events.len())?;
            events.append(&mut page.events);
        }
        Ok(events)
    }
}

/// A record as it reads now.
pub(super) fn event_of(logged: LoggedRecord) -> AuditEvent {
    let resolution = logged.resolution.map(|resolution| Resolution {
        resolved_at: resolution.timestamp,
        resolution_action: super::resolve_audit_event::action_of(&resolution.entry),
    });
    AuditEvent { record: logged.record, resolution }
}
