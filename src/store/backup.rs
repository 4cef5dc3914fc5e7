//! A backup: the store copied into a file of its own, which says what it must hold, and is believed only when it does.
//!
//! A backup is one redb file with one table more, the manifest. It bears its name only once it is whole, verified and
//! durable; so does a restored store.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, TableError};
use serde::{Deserialize, Serialize};

use super::copy::{self, Digests};
use super::{FILE_NAME, FORMAT_VERSION, Snapshot, Store, StoreError, TenantNames, records, tables};
use crate::domain::backup::BackupRecord;
use crate::domain::time::Timestamp;

/// The only key of the manifest's table.
pub(super) const MANIFEST: &str = "manifest";
/// The layout of the manifest.
const MANIFEST_FORMAT: u32 = 1;
/// What may stand in a folder that is restored into: it is no data.
const MAY_BE_THERE: [&str; 3] = ["metergate.toml", "admin.key", "audit-signing.key"];

/// UUIDs as their text.
mod uuid_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(uuid: &uuid::Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(uuid)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<uuid::Uuid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a backup must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    manifest_format: u32,
    #[serde(with = "uuid_text")]
    backup_id: uuid::Uuid,
    #[serde(with = "uuid_text")]
    store_id: uuid::Uuid,
    /// In microseconds since 1970.
    created_at: i64,
    metergate: String,
    store_format: u32,
    audit_size: u64,
    audit_root: [u8; 32],
    tables: Digests,
}

/// A store that goes on from a backup, until its first start has recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Which backup.
    #[serde(with = "uuid_text")]
    pub backup_id: uuid::Uuid,
    /// The instant that it holds, in microseconds since 1970.
    pub created_at: i64,
    /// The epoch that begins with it.
    #[serde(with = "uuid_text")]
    pub epoch: uuid::Uuid,
}

/// A backup that was read and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBackup {
    /// What it holds.
    pub backup: BackupRecord,
    /// The store that it is of.
    pub store_id: uuid::Uuid,
}

/// Why a backup was not made, is not believed or was not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store that is copied, or the copy.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// What is the matter, and what to do.
        reason: String,
    },
    /// It is not what it was when it was made.
    #[error("the backup is not whole: {0}")]
    NotWhole(String),
}

fn at(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    move |error| BackupError::File { path: path.display().to_string(), reason: error.to_string() }
}

impl Store {
    /// Copies one consistent state into `folder`/`name`, verifies the copy, and lets it have its name. Writers go on; the
    /// pages that they replace meanwhile stay in the file until it is done. Blocks its thread.
    pub fn back_up(
        &self,
        folder: &Path,
        name: &str,
        backup_id: uuid::Uuid,
        created_at: Timestamp,
    ) -> Result<BackupRecord, BackupError> {
        let (path, unfinished) = (folder.join(name), folder.join(format!("{name}.unfinished")));
        let made = self.copy_to(&unfinished, backup_id, created_at).and_then(|()| verify_backup(&unfinished));
        let made = made.and_then(|made| {
            // What is there already is another backup.
            if path.exists() {
                return Err(BackupError::File {
                    path: path.display().to_string(),
                    reason: "exists already".to_owned(),
                });
            }
            publish(&unfinished, &path)?;
            Ok(made)
        });
        if made.is_err() {
            let _it_may_not_be_there = std::fs::remove_file(&unfinished);
        }
        Ok(BackupRecord { name: name.to_owned(), ..made?.backup })
    }

    fn copy_to(&self, path: &Path, backup_id: uuid::Uuid, created_at: Timestamp) -> Result<(), BackupError> {
        let snapshot = self.snapshot()?;
        new_private_file(path).map_err(at(path))?;
        let copied = Database::builder().set_cache_size(self.cache_bytes).create(path).map_err(StoreError::from)?;
        let tables = copy::copy_all(&snapshot.read, &copied)?;
        let audit_size = snapshot.next_audit_index()?;
        let manifest = Manifest {
            manifest_format: MANIFEST_FORMAT,
            backup_id,
            store_id: self.store_id,
            created_at: created_at.micros(),
            metergate: env!("CARGO_PKG_VERSION").to_owned(),
            store_format: FORMAT_VERSION,
            audit_size,
            audit_root: snapshot.audit_root(audit_size)?,
            tables,
        };
        drop(snapshot);
        let text = serde_json::to_string(&manifest)
            .map_err(|error| BackupError::NotWhole(format!("its manifest cannot be written: {error}")))?;
        let put = || -> Result<(), StoreError> {
            let mut write = copied.begin_write()?;
            write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
            write.open_table(tables::BACKUP_MANIFEST)?.insert(MANIFEST, text.as_bytes())?;
            Ok(write.commit()?)
        };
        put()?;
        copied.close().map_err(StoreError::from)?;
        File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
    }

    /// Whether this store goes on from a backup and has not recorded it yet.
    pub fn restored(&self) -> Result<Option<Restored>, StoreError> {
        let snapshot = self.snapshot()?;
        let meta = snapshot.read.open_table(tables::META)?;
        let bytes = meta.get(tables::META_RESTORED)?.map(|bytes| bytes.value().to_vec());
        let read = bytes.map(|bytes| serde_json::from_slice(&bytes));
        read.transpose().map_err(|_| StoreError::Damaged("what a restore has left cannot be read"))
    }
}

impl Snapshot {
    /// The backups that were made of this store, oldest first by name.
    pub fn backups(&self) -> Result<Vec<BackupRecord>, StoreError> {
        let table = match self.read.open_table(tables::BACKUPS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let rows = redb::ReadableTable::iter(&table)?;
        rows.map(|row| {
            let (name, bytes) = row?;
            records::decode_backup(name.value(), bytes.value())
        })
        .collect()
    }
}

/// Reads the whole backup: every key and value against its manifest, and the audit log against itself and its root.
pub fn verify_backup(path: &Path) -> Result<VerifiedBackup, BackupError> {
    let bytes = path.metadata().map_err(at(path))?.len();
    let not_whole = |reason: &str| BackupError::NotWhole(format!("{}: {reason}", path.display()));
    let opened = ReadOnlyDatabase::open(path).map_err(|error| not_whole(&format!("it is no store: {error}")))?;
    let read = opened.begin_read().map_err(StoreError::from)?;
    let manifest =
        read_manifest(&read)?.ok_or_else(|| not_whole("it has no manifest: it is no backup of metergate"))?;
    if manifest.manifest_format != MANIFEST_FORMAT || manifest.store_format > FORMAT_VERSION {
        return Err(not_whole("it is of a newer metergate: use that, or a newer one"));
    }
    let found = copy::digests(&read)?;
    if found != manifest.tables {
        let differs = |name: &&String| found.get(*name) != manifest.tables.get(*name);
        let names: Vec<&str> = manifest.tables.keys().chain(found.keys()).filter(differs).map(String::as_str).collect();
        return Err(not_whole(&format!("it is not as it was written in: {}", names.join(", "))));
    }
    let check = Snapshot::new(read, TenantNames::default(), Arc::default());
    // A store of before there was a tree has nothing to compare with.
    if found.contains_key("audit_nodes") {
        let check = check.check_audit(manifest.audit_size, None)?;
        if !check.faults.is_empty() || !check.missing.is_empty() || check.root != manifest.audit_root {
            return Err(not_whole("its audit log is not whole: see `metergate audit verify` of the store"));
        }
    }
    let rows = found.values().map(|table| table.rows).sum();
    let Manifest { backup_id, store_id, created_at, audit_size, audit_root, .. } = manifest;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let created_at = Timestamp::from_micros(created_at);
    let backup = BackupRecord { name, backup_id, created_at, bytes, rows, audit_size, audit_root };
    Ok(VerifiedBackup { backup, store_id })
}

pub(super) fn read_manifest(read: &ReadTransaction) -> Result<Option<Manifest>, BackupError> {
    let table = match read.open_table(tables::BACKUP_MANIFEST) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(StoreError::from(error).into()),
    };
    let bytes = table.get(MANIFEST).map_err(StoreError::from)?.map(|bytes| bytes.value().to_vec());
    let read = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
    read.map_err(|error| BackupError::NotWhole(format!("its manifest cannot be read: {error}")))
}

/// Puts a backup into `folder`, which is empty or is made, as its store, in an epoch of its own. The copy is verified before
/// it bears the store's name. Blocks its thread.
pub fn restore(backup: &Path, folder: &Path, epoch: uuid::Uuid) -> Result<VerifiedBackup, BackupError> {
    make_private_folder(folder).map_err(at(folder))?;
    for entry in folder.read_dir().map_err(at(folder))? {
        let name = entry.map_err(at(folder))?.file_name();
        if !MAY_BE_THERE.iter().any(|known| name == *known) && name.to_string_lossy() != unfinished_name() {
            let reason = format!("is not empty, it has {}: name another with --data-dir", name.display());
            return Err(BackupError::File { path: folder.display().to_string(), reason });
        }
    }
    let (path, unfinished) = (folder.join(FILE_NAME), folder.join(unfinished_name()));
    let _of_a_restore_that_broke_off = std::fs::remove_file(&unfinished);
    let restored = copy_file(backup, &unfinished).and_then(|()| {
        let verified = verify_backup(&unfinished)?;
        begin_epoch(&unfinished, &verified, epoch)?;
        publish(&unfinished, &path)?;
        Ok(verified)
    });
    if restored.is_err() {
        let _it_may_not_be_there = std::fs::remove_file(&unfinished);
    }
    restored
}

fn unfinished_name() -> String {
    format!("{FILE_NAME}.restoring")
}

fn copy_file(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = File::open(from).map_err(at(from))?;
    let mut target = new_private_file(to).map_err(at(to))?;
    io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(at(to))
}

fn begin_epoch(path: &Path, verified: &VerifiedBackup, epoch: uuid::Uuid) -> Result<(), BackupError> {
    let BackupRecord { backup_id, created_at, .. } = verified.backup;
    let restored = Restored { backup_id, created_at: created_at.micros(), epoch };
    let text = serde_json::to_vec(&restored).map_err(|error| BackupError::NotWhole(error.to_string()))?;
    let put = || -> Result<(), StoreError> {
        let store = Database::open(path)?;
        let mut write = store.begin_write()?;
        write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        write.delete_table(tables::BACKUP_MANIFEST)?;
        {
            let mut meta = write.open_table(tables::META)?;
            meta.insert(tables::META_EPOCH, epoch.as_bytes().as_slice())?;
            meta.insert(tables::META_RESTORED, text.as_slice())?;
        }
        write.commit()?;
        Ok(store.close()?)
    };
    put()?;
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

/// Gives a durable file its name, durably.
pub(super) fn publish(unfinished: &Path, path: &Path) -> Result<(), BackupError> {
    std::fs::rename(unfinished, path).map_err(at(path))?;
    let folder: PathBuf = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(at(&folder))
}

pub(super) fn new_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes a folder for its owner only, unless it is there.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
