//! What a publication writes: the moves from memory to disk that the background has prepared.

use super::command::Publication;
use crate::store::{StoreError, Transaction};

/// Puts it into the transaction, whole.
pub(super) fn put_publication(transaction: &mut Transaction, publication: &Publication) -> Result<(), StoreError> {
    for run in &publication.runs {
        transaction.put_run(publication.run, run)?;
    }
    for (day, denials) in &publication.denials {
        transaction.put_denials(*day, publication.run, denials)?;
    }
    if let Some((old, merged)) = &publication.merged {
        transaction.replace_runs(old, publication.run, merged)?;
    }
    for (hour, mark) in &publication.hours {
        transaction.put_hour(*hour, *mark)?;
    }
    for rows in &publication.rows {
        transaction.put_row_blocks(rows)?;
    }
    transaction.put_state_blocks(&publication.quota_states)?;
    if let Some(verifier) = &publication.audit_verifier {
        transaction.put_audit_verifier(verifier)?;
    }
    if let Some(checkpoint) = &publication.checkpoint {
        transaction.put_checkpoint(checkpoint)?;
    }
    if let Some(seq) = publication.journal_through {
        transaction.delete_journal_through(seq)?;
    }
    for day in &publication.dropped_days {
        transaction.drop_day(*day)?;
    }
    if let Some(day) = publication.denials_before {
        transaction.drop_denials_before(day)?;
    }
    for before in &publication.rows_before {
        transaction.delete_rows_before(*before)?;
    }
    for job in &publication.jobs {
        transaction.put_job(job)?;
    }
    if let Some(cut) = &publication.cut {
        transaction.put_cut(cut)?;
    }
    if !publication.audit_erased.is_empty() {
        transaction.erase_audit(&publication.audit_erased)?;
    }
    if publication.erasure_open {
        transaction.put_erasure_open()?;
    }
    for backup in &publication.backups {
        transaction.put_backup(backup)?;
    }
    if publication.ends_restore {
        transaction.end_restore()?;
    }
    if let Some(cut) = &publication.audit_cut {
        transaction.put_audit_cut(cut)?;
    }
    if let Some((min_index, limit)) = publication.audit_freed {
        transaction.free_audit_below(min_index, limit)?;
    }
    Ok(())
}
