//! The audit log in a snapshot: its records, its tree, its cut.

use super::audit_log::{AuditReader, LoggedPage, LoggedRecord};
use super::audit_tree::AuditCheck;
use super::records::{self, AuditCut};
use super::{Snapshot, StoreError, tables};
use crate::domain::audit::{AuditFilter, AuditRecord};
use crate::domain::tenant::TenantId;
use crate::domain::time::Timestamp;
use crate::rules::merkle::Hash;

impl Snapshot {
    /// The next free index of the audit log.
    pub fn next_audit_index(&self) -> Result<u64, StoreError> {
        AuditReader(&self.read).next_index()
    }

    /// What retention has taken of the audit log.
    pub fn audit_cut(&self) -> Result<AuditCut, StoreError> {
        AuditReader(&self.read).cut()
    }

    /// The newest audit records below index `before` that agree with the filter, at most `limit`. A page may be short
    /// although more follow.
    pub fn audit_page(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LoggedPage, StoreError> {
        AuditReader(&self.read).page(filter, before, limit)
    }

    /// The index and content under which an audit record's id is known of this tenant (or of none).
    pub fn find_audit(
        &self,
        event_id: uuid::Uuid,
        tenant_id: Option<&TenantId>,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        AuditReader(&self.read).find(event_id, tenant_id)
    }

    /// The indices of the audit records of this id, of whichever tenants; at most `limit`.
    pub fn audit_with_id(&self, event_id: uuid::Uuid, limit: usize) -> Result<Vec<u64>, StoreError> {
        AuditReader(&self.read).find_all(event_id, limit)
    }

    /// The audit record at this index, and its resolution.
    pub fn audit_record(&self, index: u64) -> Result<Option<LoggedRecord>, StoreError> {
        AuditReader(&self.read).logged(index)
    }

    /// Whether the audit record at this index is resolved.
    pub fn is_audit_resolved(&self, index: u64) -> Result<bool, StoreError> {
        AuditReader(&self.read).is_resolved(index)
    }

    /// The leaf of the audit record at this index, as it is hashed.
    pub fn audit_leaf(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        AuditReader(&self.read).leaf(index)
    }

    /// The stored bytes of the audit record at this index, as its leaf commits to them.
    pub fn audit_payload(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        AuditReader(&self.read).payload(index)
    }

    /// The root of the audit tree over the first `size` records.
    pub fn audit_root(&self, size: u64) -> Result<Hash, StoreError> {
        AuditReader(&self.read).root(size)
    }

    /// What proves that audit record `index` is under the root of `size`.
    pub fn audit_inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        AuditReader(&self.read).inclusion_proof(index, size)
    }

    /// What proves that the audit log of `old` records is the begin of that of `new`.
    pub fn audit_consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        AuditReader(&self.read).consistency_proof(old, new)
    }

    /// The last signed checkpoint of the audit log, and the verifier key of who signs.
    pub fn audit_checkpoint(&self) -> Result<(Option<String>, Option<String>), StoreError> {
        AuditReader(&self.read).checkpoint()
    }

    /// Hashes the whole audit log anew and compares; gives the root over the first `kept` records as well.
    pub fn check_audit(&self, size: u64, kept: Option<u64>) -> Result<AuditCheck, StoreError> {
        AuditReader(&self.read).check(size, kept)
    }

    /// The first audit index recorded at or after `time`.
    pub fn audit_index_at(&self, time: Timestamp) -> Result<u64, StoreError> {
        AuditReader(&self.read).index_at(time)
    }

    /// When the audit record at this index was recorded.
    pub fn audit_recorded_at(&self, index: u64) -> Result<Option<Timestamp>, StoreError> {
        AuditReader(&self.read).recorded_at(index)
    }

    /// Whether audit records below the cut still wait to be freed.
    pub fn has_audit_below(&self, min_index: u64) -> Result<bool, StoreError> {
        AuditReader(&self.read).has_below(min_index)
    }

    /// Whether something was erased that the file may still have in freed pages.
    pub fn is_erasure_open(&self) -> Result<bool, StoreError> {
        let meta = self.read.open_table(tables::META)?;
        Ok(meta.get(tables::META_ERASURE_OPEN)?.is_some())
    }

    /// Audit records from index `from` on, at most `limit`.
    pub fn audit_records(&self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let table = self.read.open_table(tables::AUDIT)?;
        table.range(from..)?.take(limit).map(|row| records::decode_audit(row?.1.value())).collect()
    }
}
