//! A backup, as the store remembers it.

use super::time::Timestamp;

/// A copy of the store that was made and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRecord {
    /// Its file's name in the folder of backups.
    pub name: String,
    /// Its own id, which also stands in the file.
    pub backup_id: uuid::Uuid,
    /// The state that it holds is of this instant.
    pub created_at: Timestamp,
    /// Its file's size.
    pub bytes: u64,
    /// Keys and values in it.
    pub rows: u64,
    /// Audit records in it, freed and erased ones included.
    pub audit_size: u64,
    /// The root over them.
    pub audit_root: [u8; 32],
}
