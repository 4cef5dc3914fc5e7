//! The record of a backup.

use serde::{Deserialize, Serialize};

use super::{StoreError, decode, encode, instant, micros};
use crate::domain::backup::BackupRecord;

#[derive(Serialize, Deserialize)]
struct BackupV1 {
    backup_id: u128,
    created_at: i64,
    bytes: u64,
    rows: u64,
    audit_size: u64,
    audit_root: [u8; 32],
}

pub(in crate::store) fn encode_backup(record: &BackupRecord) -> Result<Vec<u8>, StoreError> {
    encode(&BackupV1 {
        backup_id: record.backup_id.as_u128(),
        created_at: micros(record.created_at),
        bytes: record.bytes,
        rows: record.rows,
        audit_size: record.audit_size,
        audit_root: record.audit_root,
    })
}

pub(in crate::store) fn decode_backup(name: &str, bytes: &[u8]) -> Result<BackupRecord, StoreError> {
    let read: BackupV1 = decode(bytes)?;
    Ok(BackupRecord {
        name: name.to_owned(),
        backup_id: uuid::Uuid::from_u128(read.backup_id),
        created_at: instant(read.created_at),
        bytes: read.bytes,
        rows: read.rows,
        audit_size: read.audit_size,
        audit_root: read.audit_root,
    })
}
