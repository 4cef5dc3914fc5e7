//! One write transaction: what is put into it reaches the disk whole, with one fsync, or not at all.

use std::hash::Hasher;

use redb::WriteTransaction;
use siphasher::sip::SipHasher13;

use super::audit_log::AuditWriter;
use super::journal::{self, Commit};
use super::metrics_rows::RowBlocks;
use super::records::{self, AuditCut, Checkpoint, FiledDenial, HourMark, RealtimeCut, StoredBook, StoredPrice};
use super::segments::PreparedRun;
use super::snapshot::StateBlocks;
use super::tables;
use super::{StoreError, TenantNames};
use crate::domain::audit::AuditRecord;
use crate::domain::backup::BackupRecord;
use crate::domain::job::JobRecord;
use crate::domain::key::ApiKey;
use crate::domain::quota::Plan;
use crate::domain::slice::SliceHour;
use crate::domain::tenant::Tenant;
use crate::domain::time::Period;
use crate::rules::merkle::Hash;

/// The open write transaction. Dropped without [`Transaction::commit`], it leaves nothing behind.
pub struct Transaction {
    write: WriteTransaction,
    names: TenantNames,
    secret: [u8; 32],
    new_names: Vec<(u32, crate::domain::tenant::TenantId)>,
}

impl Transaction {
    pub(super) const fn new(write: WriteTransaction, names: TenantNames, secret: [u8; 32]) -> Self {
        Self { write, names, secret, new_names: Vec::new() }
    }

    /// Appends a commit to the journal.
    pub fn put_commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let mut nonce = SipHasher13::new_with_key(&first_half(&self.secret));
        nonce.write_u64(commit.seq);
        nonce.write_u64(commit.committed_at.micros() as u64);
        let block = journal::encode(commit, nonce.finish())?;
        self.write.open_table(tables::JOURNAL)?.insert(commit.seq, block.as_slice())?;
        Ok(())
    }

    /// Marks a transaction without a commit in the journal, so that it is known again.
    pub fn put_mark(&mut self, mark: u64) -> Result<(), StoreError> {
        let bytes = records::encode_mark(mark)?;
        self.write.open_table(tables::META)?.insert(tables::META_MARK, bytes.as_slice())?;
        Ok(())
    }

    /// Deletes the journal up to and with commit `seq`.
    pub fn delete_journal_through(&mut self, seq: u64) -> Result<(), StoreError> {
        self.write.open_table(tables::JOURNAL)?.retain_in(..=seq, |_, _| false)?;
        Ok(())
    }

    /// Writes a tenant under its number; a new number must be the next one.
    pub fn put_tenant(&mut self, tenant_no: u32, tenant: &Tenant) -> Result<(), StoreError> {
        let bytes = records::encode_tenant(tenant)?;
        self.write.open_table(tables::TENANTS)?.insert(tenant_no, bytes.as_slice())?;
        self.new_names.push((tenant_no, tenant.tenant_id.clone()));
        Ok(())
    }

    /// Writes a plan.
    pub fn put_plan(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let bytes = records::encode_plan(plan)?;
        self.write.open_table(tables::PLANS)?.insert(plan.name.as_str(), bytes.as_slice())?;
        Ok(())
    }

    /// Removes a plan.
    pub fn remove_plan(&mut self, name: &str) -> Result<(), StoreError> {
        self.write.open_table(tables::PLANS)?.remove(name)?;
        Ok(())
    }

    /// Puts a price book in force.
    pub fn put_price_book(&mut self, book: &StoredBook) -> Result<(), StoreError> {
        let bytes = records::encode_book(book)?;
        self.write.open_table(tables::PRICES)?.insert("book", bytes.as_slice())?;
        Ok(())
    }

    /// Writes price rows under their numbers, which are given once.
    pub fn put_price_rows(&mut self, rows: &[(u32, StoredPrice)]) -> Result<(), StoreError> {
        let mut table = self.write.open_table(tables::PRICE_ROWS)?;
        for (number, price) in rows {
            table.insert(number, records::encode_price(price)?.as_slice())?;
        }
        Ok(())
    }

    /// Appends audit records, each with the digest of what its caller gave.
    pub fn put_audit(&mut self, added: &[(AuditRecord, u64)]) -> Result<(), StoreError> {
        AuditWriter(&self.write).append(added)
    }

    /// The root of the audit tree over the first `size` records, those of this transaction included.
    pub fn audit_root(&self, size: u64) -> Result<Hash, StoreError> {
        AuditWriter(&self.write).root(size)
    }

    /// Keeps the last signed checkpoint of the audit log.
    pub fn put_audit_checkpoint(&mut self, note: &str) -> Result<(), StoreError> {
        AuditWriter(&self.write).put_checkpoint(note)
    }

    /// Keeps the verifier key of who signs checkpoints.
    pub fn put_audit_verifier(&mut self, verifier: &str) -> Result<(), StoreError> {
        AuditWriter(&self.write).put_verifier(verifier)
    }

    /// Notes that one audit record, by its index, is resolved by another.
    pub fn put_audit_resolution(&mut self, original: u64, resolution: u64) -> Result<(), StoreError> {
        AuditWriter(&self.write).resolve(original, resolution)
    }

    /// Moves the audit log's retention cut.
    pub fn put_audit_cut(&mut self, cut: &AuditCut) -> Result<(), StoreError> {
        let bytes = records::encode_audit_cut(cut)?;
        self.write.open_table(tables::META)?.insert(tables::META_AUDIT_CUT, bytes.as_slice())?;
        Ok(())
    }

    /// Frees at most `limit` audit records below the cut.
    pub fn free_audit_below(&mut self, min_index: u64, limit: usize) -> Result<(), StoreError> {
        AuditWriter(&self.write).free_below(min_index, limit)
    }

    /// Erases the audit records at these indices. The record that says so belongs into this transaction, too.
    pub fn erase_audit(&mut self, indices: &[u64]) -> Result<(), StoreError> {
        AuditWriter(&self.write).erase(indices)
    }

    /// Notes that something was erased that the file may still have in freed pages.
    pub fn put_erasure_open(&mut self) -> Result<(), StoreError> {
        self.write.open_table(tables::META)?.insert(tables::META_ERASURE_OPEN, [1].as_slice())?;
        Ok(())
    }

    /// Remembers a backup.
    pub fn put_backup(&mut self, record: &BackupRecord) -> Result<(), StoreError> {
        let bytes = records::encode_backup(record)?;
        self.write.open_table(tables::BACKUPS)?.insert(record.name.as_str(), bytes.as_slice())?;
        Ok(())
    }

    /// Forgets that the store was restored: it is recorded.
    pub fn end_restore(&mut self) -> Result<(), StoreError> {
        self.write.open_table(tables::META)?.remove(tables::META_RESTORED)?;
        Ok(())
    }

    /// Adds a run to its day.
    pub fn put_run(&mut self, run: u64, prepared: &PreparedRun) -> Result<(), StoreError> {
        let info = records::encode_run(&prepared.info)?;
        self.write.open_table(tables::RUNS)?.insert((prepared.day, run), info.as_slice())?;
        let name = tables::day_table_name(prepared.day);
        let mut table = self.write.open_table(tables::day_table(&name))?;
        for (block, (first_tenant, bytes)) in prepared.blocks.iter().enumerate() {
            table.insert((run, *first_tenant, block as u32), bytes.as_slice())?;
        }
        Ok(())
    }

    /// Adds the denials a filing brought.
    pub fn put_denials(&mut self, day: u32, run: u64, denials: &[FiledDenial]) -> Result<(), StoreError> {
        let bytes = records::encode_denials(denials)?;
        self.write.open_table(tables::DENIALS)?.insert((day, run), bytes.as_slice())?;
        Ok(())
    }

    /// Removes a whole day: its events, runs and denials.
    pub fn drop_day(&mut self, day: u32) -> Result<(), StoreError> {
        self.write.delete_table(tables::day_table(&tables::day_table_name(day)))?;
        let whole_day = (day, 0)..=(day, u64::MAX);
        self.write.open_table(tables::RUNS)?.retain_in(whole_day, |_, _| false)?;
        self.write.open_table(tables::HOURS)?.retain_in((day * 24, 0)..((day + 1) * 24, 0), |_, _| false)?;
        Ok(())
    }

    /// Drops the denials of the days before `day`.
    pub fn drop_denials_before(&mut self, day: u32) -> Result<(), StoreError> {
        self.write.open_table(tables::DENIALS)?.retain_in(..(day, 0), |_, _| false)?;
        Ok(())
    }

    /// Replaces the runs of a day by one merged run.
    pub fn replace_runs(&mut self, old: &[u64], run: u64, merged: &PreparedRun) -> Result<(), StoreError> {
        let name = tables::day_table_name(merged.day);
        {
            let mut runs = self.write.open_table(tables::RUNS)?;
            let mut table = self.write.open_table(tables::day_table(&name))?;
            for &run in old {
                runs.remove((merged.day, run))?;
                table.retain_in((run, 0, 0)..=(run, u32::MAX, u32::MAX), |_, _| false)?;
            }
        }
        self.put_run(run, merged)
    }

    /// Sets how far a slice's hour is filed and folded.
    pub fn put_hour(&mut self, (slice, hour): SliceHour, mark: HourMark) -> Result<(), StoreError> {
        let mut hours = self.write.open_table(tables::HOURS)?;
        hours.insert((hour, slice.0), (mark.filed_through, mark.folded_through))?;
        Ok(())
    }

    /// Writes rows that [`MetricsReader::row_blocks`](super::MetricsReader::row_blocks) made ready. No other rows of the period may
    /// have been written since.
    pub fn put_row_blocks(&mut self, rows: &RowBlocks) -> Result<(), StoreError> {
        let mut table = self.write.open_table(tables::METRICS)?;
        let (kind, index) = (records::period_code(rows.period.period_type), rows.period.index);
        for first in &rows.gone {
            table.remove((kind, index, *first))?;
        }
        for (first, bytes) in &rows.blocks {
            table.insert((kind, index, *first), bytes.as_slice())?;
        }
        Ok(())
    }

    /// Removes all rows of one period type before period `before`.
    pub fn delete_rows_before(&mut self, before: Period) -> Result<(), StoreError> {
        let kind = records::period_code(before.period_type);
        self.write.open_table(tables::METRICS)?.retain_in((kind, 0, 0)..(kind, before.index, 0), |_, _| false)?;
        Ok(())
    }

    /// Saves quota counters that [`Snapshot::state_blocks`](super::Snapshot::state_blocks) made ready. No others may have
    /// been saved since.
    pub fn put_state_blocks(&mut self, blocks: &StateBlocks) -> Result<(), StoreError> {
        let mut table = self.write.open_table(tables::QUOTA_STATE)?;
        for (block, bytes) in &blocks.0 {
            table.insert(block, bytes.as_slice())?;
        }
        Ok(())
    }

    /// Writes a job's last run.
    pub fn put_job(&mut self, record: &JobRecord) -> Result<(), StoreError> {
        let bytes = records::encode_job(record)?;
        self.write.open_table(tables::JOBS)?.insert(record.job.as_str(), bytes.as_slice())?;
        Ok(())
    }

    /// Writes a key.
    pub fn put_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        let bytes = records::encode_api_key(key)?;
        self.write.open_table(tables::API_KEYS)?.insert(key.key_id.as_u128(), bytes.as_slice())?;
        Ok(())
    }

    /// Removes a key.
    pub fn remove_api_key(&mut self, key_id: uuid::Uuid) -> Result<(), StoreError> {
        self.write.open_table(tables::API_KEYS)?.remove(key_id.as_u128())?;
        Ok(())
    }

    /// Moves the checkpoint.
    pub fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let bytes = records::encode_checkpoint(checkpoint)?;
        self.write.open_table(tables::META)?.insert(tables::META_CHECKPOINT, bytes.as_slice())?;
        Ok(())
    }

    /// Moves the retention cut.
    pub fn put_cut(&mut self, cut: &RealtimeCut) -> Result<(), StoreError> {
        let bytes = records::encode_cut(cut)?;
        self.write.open_table(tables::META)?.insert(tables::META_CUT, bytes.as_slice())?;
        Ok(())
    }

    /// Commits with one fsync. An error leaves open whether it is on disk.
    pub fn commit(mut self) -> Result<(), StoreError> {
        self.new_names.sort_unstable_by_key(|(number, _)| *number);
        {
            // Before the commit: whoever reads what it brought must be able to name it. When it fails, the store is opened
            // again, and with it the names.
            let mut names = self.names.write();
            for (number, name) in self.new_names {
                if number as usize == names.len() {
                    names.push(name);
                }
            }
        }
        self.write.commit()?;
        Ok(())
    }
}

fn first_half(secret: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&secret[..16]);
    half
}
