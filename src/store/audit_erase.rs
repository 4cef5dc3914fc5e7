//! Erasing audit records: payload, salt and whatever they are found by go; leaf, node and the id that a repeat would bring
//! stay.

use redb::ReadableTable;

use super::audit_log::{AuditWriter, RESOLVED, hashes_of, id_key, resolved_hash};
use super::{StoreError, records, tables};
use crate::rules::erasure::erased_by;

impl AuditWriter<'_> {
    /// Erases the records at these indices; one that has no payload any more is left as it is. The record that says so
    /// belongs into the same transaction: without it a verification misses them.
    pub(super) fn erase(&self, indices: &[u64]) -> Result<(), StoreError> {
        let mut payloads = self.0.open_table(tables::AUDIT)?;
        let mut ids = self.0.open_table(tables::AUDIT_IDS)?;
        let mut keys = self.0.open_table(tables::AUDIT_KEYS)?;
        let mut erased = self.0.open_table(tables::AUDIT_ERASED)?;
        for &index in indices {
            let Some(record) = payloads.get(index)?.map(|bytes| records::decode_audit(bytes.value())).transpose()?
            else {
                continue;
            };
            if record.index != index || erased_by(&record.entry).is_some() {
                return Err(StoreError::Damaged("an audit record that may not be erased was to be"));
            }
            for hash in hashes_of(&record.entry) {
                keys.remove((hash, index))?;
            }
            keys.remove((resolved_hash(RESOLVED), index))?;
            let id = id_key(record.event_id, record.entry.tenant_id.as_ref());
            if ids.get(id)?.is_some_and(|found| found.value().0 == index) {
                // Of its content nothing is left to be compared with: a repeat is a conflict, and writes nothing.
                ids.insert(id, (index, 0))?;
                erased.insert(index, id)?;
            }
            payloads.remove(index)?;
        }
        Ok(())
    }

    /// Forgets the ids of at most `limit` erased records below `min_index`.
    pub(super) fn free_erased_below(&self, min_index: u64, limit: usize) -> Result<(), StoreError> {
        let mut ids = self.0.open_table(tables::AUDIT_IDS)?;
        let mut resolutions = self.0.open_table(tables::AUDIT_RESOLUTIONS)?;
        let mut erased = self.0.open_table(tables::AUDIT_ERASED)?;
        let old: Vec<(u64, (u128, u64))> = erased
            .range(..min_index)?
            .take(limit)
            .map(|row| row.map(|(index, id)| (index.value(), id.value())))
            .collect::<Result<_, _>>()?;
        for (index, id) in old {
            if ids.get(id)?.is_some_and(|found| found.value().0 == index) {
                ids.remove(id)?;
            }
            resolutions.remove(index)?;
            erased.remove(index)?;
        }
        Ok(())
    }
}

/// The ranges of records that the stored bytes of a record say were erased, both ends included; none of most.
pub fn erased_by_stored(payload: &[u8]) -> Vec<(u64, u64)> {
    let record = records::decode_audit(payload).ok();
    record.and_then(|record| erased_by(&record.entry)).unwrap_or_default()
}
