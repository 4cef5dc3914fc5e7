//! Staging audit records: a repeated id is a duplicate or a conflict, and a record is resolved once.

use super::command::{IncomingAudit, ResolveOutcome};
use super::stage::Stage;
use crate::domain::audit::{AuditEntry, AuditOutcome, AuditRecord, ENTITY_AUDIT_EVENT, MAX_RECORDS_OF_ONE_ID};
use crate::domain::tenant::TenantId;
use crate::domain::threshold::{Alert, Crossing};
use crate::rules::alerts::crossing_entry;
use crate::store::StoreError;

impl Stage<'_> {
    /// Stages audit entries in order; gives what becomes of each.
    pub(super) fn record_audit(&mut self, entries: Vec<IncomingAudit>) -> Result<Vec<AuditOutcome>, StoreError> {
        entries.into_iter().map(|incoming| self.record_one_audit(incoming)).collect()
    }

    fn record_one_audit(&mut self, incoming: IncomingAudit) -> Result<AuditOutcome, StoreError> {
        let IncomingAudit { event_id, content, entry } = incoming;
        let Some(event_id) = event_id else {
            let event_id = crate::ids::new_uuid_v7(self.commit.committed_at);
            self.push_audit(event_id, entry, content);
            return Ok(AuditOutcome::Recorded(event_id));
        };
        let name = (event_id, entry.tenant_id.clone());
        let known = match self.staged_audit_ids.get(&name) {
            Some(&place) => Some(self.audit[place].1),
            None => self.disk()?.find_audit(event_id, name.1.as_ref())?.map(|(_, content)| content),
        };
        Ok(match known {
            Some(known) if known == content => AuditOutcome::Duplicate(event_id),
            Some(_) => AuditOutcome::Conflict,
            None => {
                self.staged_audit_ids.insert(name, self.audit.len());
                self.push_audit(event_id, entry, content);
                AuditOutcome::Recorded(event_id)
            }
        })
    }

    /// Stages the records of crossed thresholds, but for those that are recorded already.
    pub(super) fn crossings(&mut self, noticed: Vec<(TenantId, Crossing)>) -> Result<(), StoreError> {
        for (tenant_id, crossing) in noticed {
            let event_id = self.shared().alerts.event_id(&tenant_id, &crossing);
            let entry = crossing_entry(&tenant_id, &crossing);
            // What is used by now does not make it another crossing: the id is all its content.
            let incoming = IncomingAudit { event_id: Some(event_id), content: 0, entry };
            if let AuditOutcome::Recorded(event_id) = self.record_one_audit(incoming)? {
                self.alerts.push(Alert { event_id, tenant_id, crossing });
            }
        }
        Ok(())
    }

    /// Stages the resolution of a record as a record of its own, unless it is resolved.
    pub(super) fn resolve_audit(
        &mut self,
        event_id: uuid::Uuid,
        tenant_id: Option<&TenantId>,
        mut entry: AuditEntry,
    ) -> Result<ResolveOutcome, StoreError> {
        let wanted = |record: &AuditRecord| {
            record.event_id == event_id && tenant_id.is_none_or(|id| record.entry.tenant_id.as_ref() == Some(id))
        };
        let staged = self.audit.iter().map(|(record, _)| record).filter(|record| wanted(record));
        let mut originals: Vec<AuditRecord> = staged.take(2).cloned().collect();
        for index in self.disk()?.audit_with_id(event_id, MAX_RECORDS_OF_ONE_ID)? {
            let logged = self.disk()?.audit_record(index)?;
            originals.extend(logged.map(|logged| logged.record).filter(|record| wanted(record)));
        }
        let original = match originals.len() {
            0 => return Ok(ResolveOutcome::Unknown),
            1 => originals.remove(0),
            _ => return Ok(ResolveOutcome::Ambiguous),
        };
        let staged = self.audit_resolutions.iter().any(|(resolved, _)| *resolved == original.index);
        if staged || self.disk()?.is_audit_resolved(original.index)? {
            return Ok(ResolveOutcome::AlreadyResolved);
        }
        entry.tenant_id = original.entry.tenant_id;
        entry.entity_type = ENTITY_AUDIT_EVENT.to_owned();
        entry.entity_id = Some(event_id.to_string());
        let resolution = self.push_audit(crate::ids::new_uuid_v7(self.commit.committed_at), entry, 0);
        self.audit_resolutions.push((original.index, resolution));
        Ok(ResolveOutcome::Resolved)
    }
}
