//! The disk: one redb file, and the formats of what is in it. Nothing outside this module knows redb or bincode.
//!
//! - [`Commit`] blocks form the journal: appended, never changed, deleted once filed.
//! - Events are filed from there into packed segment blocks, one table for each UTC day.
//! - Metrics rows are packed by period; control-plane records are rows of their own.
//! - [`Snapshot`] reads one consistent state; [`Transaction`] writes one.

mod audit_erase;
mod audit_log;
mod audit_tree;
mod backup;
mod block;
mod bytes;
mod columns;
mod copy;
mod id_column;
mod journal;
mod metrics_rows;
mod migration;
mod records;
mod rewrite;
mod segments;
mod snapshot;
mod snapshot_audit;
mod tables;
mod transaction;

#[cfg(test)]
mod erase_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod priced_format_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use redb::{Database, Durability, ReadableDatabase, ReadableTable};

pub use audit_erase::erased_by_stored;
pub use audit_log::{LoggedPage, LoggedRecord};
pub use audit_tree::AuditCheck;
pub use backup::{BackupError, Restored, VerifiedBackup, make_private_folder, restore, verify_backup};
pub use columns::StoredEvent;
pub use journal::{Commit, Operation, PlacedOperation};
pub use metrics_rows::{MetricsRow, RowTotals};
pub use records::{AuditCut, Checkpoint, FiledDenial, HourMark, RealtimeCut, RunInfo, StoredBook, StoredPrice};
pub use rewrite::Rewrite;
pub use segments::{PreparedRun, prepare_runs};
pub use snapshot::{BlockKey, Snapshot, TenantEvents};
pub use tables::FORMAT_VERSION;
pub use transaction::Transaction;

use crate::domain::tenant::TenantId;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Bytes that this code did not write, or a disk that changed them.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// The file or the disk under it.
    #[error("the storage fails")]
    Storage(#[source] Box<redb::Error>),
    /// Another process has the file open.
    #[error("the store is open in another process")]
    InUse,
    /// The engine was closed.
    #[error("the store is closed")]
    Closed,
    /// A store of an older format could not be copied before it is changed.
    #[error(
        "the store has format {found} and is brought to format {FORMAT_VERSION} only after a copy of it is made: {reason}"
    )]
    NoBackup {
        /// The version found.
        found: u32,
        /// Why there is no copy, and what to do.
        reason: String,
    },
    /// Written by a newer version.
    #[error("the store has format {found}, known are formats up to {FORMAT_VERSION}")]
    NewerFormat {
        /// The version found.
        found: u32,
    },
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            error => Self::Storage(Box::new(error)),
        }
    }
}

/// Tenant ids by their numbers; numbers are given once and never reused.
pub type TenantNames = Arc<RwLock<Vec<TenantId>>>;

/// Shared by those who read a file, so that it is known when nobody does.
type Readers = Arc<()>;

/// The open store.
pub struct Store {
    /// `None` once closed, so that the file is free for another process although readers still share the store.
    /// The token beside it is shared by its snapshots.
    db: RwLock<Option<(Database, Readers)>>,
    /// Files that another has replaced, for as long as somebody reads them.
    retired: Mutex<Vec<(Database, Readers)>>,
    cache_bytes: usize,
    names: TenantNames,
    secret: [u8; 32],
    store_id: uuid::Uuid,
    /// `None` in memory.
    path: Option<PathBuf>,
}

const IN_MEMORY_CACHE_BYTES: usize = 1 << 20;

/// The file's name in the data folder.
pub const FILE_NAME: &str = "metergate.redb";

impl Store {
    /// Opens or makes the store in `folder`, which must exist. `secret` and `store_id` are used for a new store only.
    pub fn open(folder: &Path, cache_bytes: usize, secret: [u8; 32], store_id: uuid::Uuid) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        rewrite::forget_unfinished(&path);
        let io = |error| StoreError::Storage(Box::new(redb::Error::Io(error)));
        if !path.exists() {
            // An empty file becomes a store; made here, it is its owner's alone from the first byte on.
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&path).map_err(io)?;
        }
        let db = Database::builder().set_cache_size(cache_bytes).create(&path)?;
        // A new file is durable only once its folder is.
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Self::over(db, cache_bytes, secret, store_id, Some(path))
    }

    /// A store in memory, for tests and benches.
    pub fn in_memory(secret: [u8; 32], store_id: uuid::Uuid) -> Result<Self, StoreError> {
        let db = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new())?;
        Self::over(db, IN_MEMORY_CACHE_BYTES, secret, store_id, None)
    }

    fn over(
        db: Database,
        cache_bytes: usize,
        secret: [u8; 32],
        store_id: uuid::Uuid,
        path: Option<PathBuf>,
    ) -> Result<Self, StoreError> {
        let known = {
            let read = db.begin_read()?;
            match read.open_table(tables::META) {
                Ok(meta) => Some((records::read_format(&meta)?, records::read_identity(&meta)?)),
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(error.into()),
            }
        };
        let (secret, store_id) = match known {
            Some((found, identity)) => {
                migration::bring_up(&db, found, path.as_deref())?;
                identity
            }
            None => {
                let mut write = db.begin_write()?;
                write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
                tables::make_all(&write)?;
                records::write_identity(&mut write.open_table(tables::META)?, &secret, store_id)?;
                write.commit()?;
                (secret, store_id)
            }
        };
        let names = TenantNames::new(RwLock::new(load_names(&db)?));
        let db = RwLock::new(Some((db, Readers::default())));
        Ok(Self { db, retired: Mutex::default(), cache_bytes, names, secret, store_id, path })
    }

    /// Tenant ids by number; a commit that registers tenants extends it.
    pub fn names(&self) -> &TenantNames {
        &self.names
    }

    /// A secret of this store: keys for hashes, cursors and nonces are derived from it.
    pub const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The store's own id.
    pub const fn store_id(&self) -> uuid::Uuid {
        self.store_id
    }

    /// The size of the file in bytes; 0 where it cannot be told.
    pub fn file_bytes(&self) -> u64 {
        self.path.as_ref().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len())
    }

    /// One consistent state to read from. It keeps old pages alive: do not hold it longer than needed.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let db = self.db.read();
        let (db, readers) = db.as_ref().ok_or(StoreError::Closed)?;
        // The token first: who has none is not waited for.
        let reader = Arc::clone(readers);
        Ok(Snapshot::new(db.begin_read()?, Arc::clone(&self.names), reader))
    }

    /// Starts the one write transaction; waits while another is open.
    pub fn begin(&self) -> Result<Transaction, StoreError> {
        let db = self.db.read();
        let (db, _) = db.as_ref().ok_or(StoreError::Closed)?;
        let mut write = db.begin_write()?;
        write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        Ok(Transaction::new(write, Arc::clone(&self.names), self.secret))
    }

    /// Closes the file. Whoever still shares the store gets [`StoreError::Closed`] from here on.
    pub fn close(&self) {
        self.db.write().take();
        self.retired.lock().clear();
    }
}

fn load_names(db: &Database) -> Result<Vec<TenantId>, StoreError> {
    let read = db.begin_read()?;
    let tenants = read.open_table(tables::TENANTS)?;
    let mut names = Vec::new();
    for row in tenants.iter()? {
        let (number, bytes) = row?;
        if number.value() as usize != names.len() {
            return Err(StoreError::Damaged("tenant numbers have a gap"));
        }
        names.push(records::decode_tenant(bytes.value())?.tenant_id);
    }
    Ok(names)
}
