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
mod column_reader;
mod columns;
mod copy;
mod id_column;
mod journal;
mod medium;
mod metrics_rows;
mod migration;
mod records;
mod rewrite;
mod segments;
mod snapshot;
mod snapshot_audit;
mod snapshot_events;
mod snapshot_metrics;
mod tables;
mod transaction;

#[cfg(test)]
mod erase_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod priced_format_tests;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use redb::{Database, Durability, ReadableDatabase, ReadableTable};

pub use audit_erase::erased_by_stored;
pub use audit_log::{LoggedPage, LoggedRecord};
pub use audit_tree::AuditCheck;
pub use backup::{BackupError, Restored, VerifiedBackup, make_private_folder, restore, verify_backup};
pub use column_reader::FiledEvent;
pub use columns::StoredEvent;
pub use journal::{Commit, Operation, PlacedOperation};
pub use medium::{FileMedium, Medium, MemoryMedium, StorageBackend, free_bytes};
pub use metrics_rows::{MetricsRow, RowBlocks, RowTotals};
pub use records::{AuditCut, Checkpoint, FiledDenial, HourMark, RealtimeCut, RunInfo, StoredBook, StoredPrice};
pub use rewrite::Rewrite;
pub use segments::{PreparedRun, RunInParts, prepare_runs};
pub use snapshot::{Snapshot, StateBlocks};
pub use snapshot_events::{BlockKey, EventsWanted, TenantEvents};
pub use snapshot_metrics::MetricsReader;
pub use tables::FORMAT_VERSION;
pub use transaction::Transaction;

use crate::domain::tenant::TenantId;
use medium::Room;

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
    /// The store failed, and is not open again yet.
    #[error("the store failed and is being reopened")]
    Down,
    /// The file would have to grow, and the disk has no room for it.
    #[error("the disk is full")]
    Full(#[source] std::io::Error),
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
            redb::Error::Io(error) => Self::io(error),
            error => Self::Storage(Box::new(error)),
        }
    }
}

impl StoreError {
    fn io(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Storage(Box::new(redb::Error::Io(error))),
        }
    }
}

/// Tenant ids by their numbers; numbers are given once and never reused.
pub type TenantNames = Arc<RwLock<Vec<TenantId>>>;

/// Shared by those who read a file, so that it is known when nobody does.
type Readers = Arc<()>;

/// The open store.
pub struct Store {
    db: RwLock<Handle>,
    names: TenantNames,
    secret: [u8; 32],
    store_id: uuid::Uuid,
    /// Where the bytes are; another when the file was written anew.
    room: ArcSwap<Room>,
    /// Files that another has replaced, for as long as somebody reads them.
    retired: Mutex<Vec<(Database, Readers)>>,
    cache_bytes: usize,
}

enum Handle {
    /// With what its snapshots share.
    Open(Database, Readers),
    /// It failed; the writer's thread opens it again.
    Down,
    /// Closed, so that the file is free for another process although readers still share the store.
    Closed,
}

impl Handle {
    fn readers(&self) -> Readers {
        match self {
            Self::Open(_, readers) => Arc::clone(readers),
            Self::Down | Self::Closed => Readers::default(),
        }
    }

    const fn open(&self) -> Result<&Database, StoreError> {
        match self {
            Self::Open(db, _) => Ok(db),
            Self::Down => Err(StoreError::Down),
            Self::Closed => Err(StoreError::Closed),
        }
    }
}

/// The file's name in the data folder.
pub const FILE_NAME: &str = "metergate.redb";

impl Store {
    /// Opens or makes the store in `folder`, which must exist. `secret` and `store_id` are used for a new store only.
    pub fn open(folder: &Path, cache_bytes: usize, secret: [u8; 32], store_id: uuid::Uuid) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        if !path.exists() {
            // An empty file becomes a store; made here, it is its owner's alone from the first byte on.
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&path).map_err(StoreError::io)?;
        }
        let medium = FileMedium::open(&path)?;
        // Only whoever has the lock may say that it is left over.
        rewrite::forget_unfinished(&path);
        let store = Self::over(Box::new(medium), cache_bytes, secret, store_id)?;
        // A new file is durable only once its folder is.
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::io)?;
        Ok(store)
    }

    /// A store in memory, for tests and benches.
    pub fn in_memory(secret: [u8; 32], store_id: uuid::Uuid) -> Result<Self, StoreError> {
        Self::over(Box::new(MemoryMedium::default()), 1 << 20, secret, store_id)
    }

    /// Opens or makes the store on a medium.
    pub fn over(
        medium: Box<dyn Medium>,
        cache_bytes: usize,
        secret: [u8; 32],
        store_id: uuid::Uuid,
    ) -> Result<Self, StoreError> {
        let room = Room::new(medium);
        room.clear_unfinished()?;
        let db = room.database(cache_bytes)?;
        let known = known_identity(&db)?;
        let (secret, store_id) = match known {
            Some((found, identity)) => {
                migration::bring_up(&db, found, room.medium.path())?;
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
        let db = RwLock::new(Handle::Open(db, Readers::default()));
        let room = ArcSwap::new(room);
        Ok(Self { db, names, secret, store_id, room, retired: Mutex::default(), cache_bytes })
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
        self.room.load().medium.bytes()
    }

    /// Bytes free on the disk; `None` where that cannot be told.
    pub fn free_bytes(&self) -> Option<u64> {
        self.room.load().medium.free_bytes()
    }

    /// The bytes by which the file grows when it next must.
    pub fn next_growth_bytes(&self) -> u64 {
        self.room.load().next_growth()
    }

    /// Whether a read or a write has failed: nothing works any more until the store is opened again.
    pub fn has_failed(&self) -> bool {
        self.room.load().has_failed()
    }

    /// Whether the file was refused a growth since the database was opened: then what failed is surely not on disk.
    pub fn refused_to_grow(&self) -> bool {
        self.room.load().was_refused()
    }

    /// One consistent state to read from. It keeps old pages alive: do not hold it longer than needed.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let db = self.db.read();
        // The token first: who has none is not waited for.
        let reader = db.readers();
        Ok(Snapshot::new(db.open()?.begin_read()?, Arc::clone(&self.names), reader))
    }

    /// Starts the one write transaction; waits while another is open.
    pub fn begin(&self) -> Result<Transaction, StoreError> {
        let db = self.db.read();
        let mut write = db.open()?.begin_write()?;
        write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        Ok(Transaction::new(write, Arc::clone(&self.names), self.secret))
    }

    /// Lets go of a database that failed. Readers that still have a snapshot get errors from it.
    pub fn take_down(&self) {
        let mut db = self.db.write();
        if matches!(*db, Handle::Open(..)) {
            *db = Handle::Down;
        }
    }

    /// Opens the database again, without handing it out: [`Store::install`] does. What redb had not committed is gone.
    pub fn reopen(&self) -> Result<Reopened, StoreError> {
        let db = self.room.load().database(self.cache_bytes)?;
        match known_identity(&db)? {
            Some((FORMAT_VERSION, identity)) if identity == (self.secret, self.store_id) => {}
            _ => return Err(StoreError::Damaged("another store has taken its place")),
        }
        let names = load_names(&db)?;
        Ok(Reopened { db, names })
    }

    /// Hands a reopened database out, unless the store was closed meanwhile.
    pub fn install(&self, reopened: Reopened) {
        *self.names.write() = reopened.names;
        let mut db = self.db.write();
        if matches!(*db, Handle::Down) {
            *db = Handle::Open(reopened.db, Readers::default());
        }
    }

    /// Closes the file. Whoever still shares the store gets [`StoreError::Closed`] from here on.
    pub fn close(&self) {
        *self.db.write() = Handle::Closed;
        self.retired.lock().clear();
        self.room.load().medium.release();
    }
}

/// A database that was opened again after a failure; nobody else has it yet.
pub struct Reopened {
    db: Database,
    names: Vec<TenantId>,
}

impl Reopened {
    /// What the store has.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot::new(self.db.begin_read()?, Arc::new(RwLock::new(self.names.clone())), Readers::default()))
    }
}

fn known_identity(db: &Database) -> Result<Option<(u32, records::Identity)>, StoreError> {
    let read = db.begin_read()?;
    match read.open_table(tables::META) {
        Ok(meta) => Ok(Some((records::read_format(&meta)?, records::read_identity(&meta)?))),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
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
