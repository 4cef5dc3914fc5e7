//! Backups: makes, lists and finds them. What a backup is stands in [`crate::store`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::stopwatch;
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::backup::BackupRecord;
use crate::domain::time::Timestamp;
use crate::store::{BackupError, StoreError, make_private_folder};
use crate::writer::{Publication, WriteError, Writer};

pub use crate::store::{VerifiedBackup, restore, verify_backup};

/// The type of the record that a backup leaves in the audit log.
pub const EVENT_BACKUP_MADE: &str = "backup_made";
/// The type of the record that a restored store begins with.
pub const EVENT_STORE_RESTORED: &str = "store_restored";

/// Makes backups into one folder, and remembers them. Cheap to clone.
#[derive(Clone)]
pub struct Backups {
    writer: Arc<Writer>,
    folder: PathBuf,
}

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeBackupError {
    /// The copy.
    #[error(transparent)]
    Copy(#[from] BackupError),
    /// It was made, and could not be remembered.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBackup {
    /// What it holds.
    pub backup: BackupRecord,
    /// Its file.
    pub path: PathBuf,
    /// How long it took, writers going on.
    pub took: Duration,
    /// The store's size when it began and when it ended, in bytes: what writers replace meanwhile stays until the end.
    pub file_bytes: (u64, u64),
}

/// A backup as it is remembered, and whether its file is where it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBackup {
    /// What it holds.
    pub backup: BackupRecord,
    /// Whether the file is in the folder. One that is not may be elsewhere.
    pub present: bool,
}

impl Backups {
    pub(crate) const fn new(writer: Arc<Writer>, folder: PathBuf) -> Self {
        Self { writer, folder }
    }

    /// Where backups are made.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a backup of what is on disk now: everything that was acknowledged before is in it. One at a time; blocks its
    /// thread.
    pub fn make(&self, actor: &Actor) -> Result<MadeBackup, MakeBackupError> {
        let shared = self.writer.shared();
        let _alone = shared.copying.lock();
        let unusable = |error: std::io::Error| BackupError::File {
            path: self.folder.display().to_string(),
            reason: format!("{error}: set backup.folder to one that can be written"),
        };
        make_private_folder(&self.folder).map_err(unusable)?;
        let (backup_id, now) = (uuid::Uuid::from_bytes(crate::ids::random_bytes()), shared.clock.now());
        let started = (stopwatch(), shared.store.file_bytes());
        let mark = &backup_id.simple().to_string()[..8];
        let second: String = now.to_string().chars().filter(char::is_ascii_alphanumeric).take(15).collect();
        let name = format!("metergate-{second}Z-{mark}.redb");
        let backup = shared.store.back_up(&self.folder, &name, backup_id, now)?;
        let mut entry = AuditEntry::system(None, EVENT_BACKUP_MADE, "backup", AuditAction::Create);
        entry.entity_id = Some(backup.name.clone());
        entry.changes_summary = Some(format!("Backup of {} audit records, {} bytes", backup.audit_size, backup.bytes));
        actor.sign(&mut entry);
        self.writer.publish(Publication {
            backups: vec![backup.clone()],
            audit: Some(entry),
            ..Publication::default()
        })?;
        let path = self.folder.join(&name);
        Ok(MadeBackup { backup, path, took: started.0.elapsed(), file_bytes: (started.1, shared.store.file_bytes()) })
    }

    /// The backups that were made of this store, newest first.
    pub fn list(&self) -> Result<Vec<ListedBackup>, StoreError> {
        let mut backups = self.writer.shared().store.snapshot()?.backups()?;
        backups.sort_unstable_by_key(|backup| std::cmp::Reverse((backup.created_at, backup.backup_id)));
        let listed = |backup: BackupRecord| {
            let present = self.folder.join(&backup.name).is_file();
            ListedBackup { backup, present }
        };
        Ok(backups.into_iter().map(listed).collect())
    }

    /// Those made at or after `from` and before `to`: what was there then is in them, erased or not.
    pub fn made_between(&self, from: Option<Timestamp>, to: Timestamp) -> Result<Vec<ListedBackup>, StoreError> {
        let mut listed = self.list()?;
        listed
            .retain(|listed| listed.backup.created_at < to && from.is_none_or(|from| listed.backup.created_at >= from));
        Ok(listed)
    }

    /// The file of a remembered backup; `None` of an unknown name, or when it is gone.
    pub fn file_of(&self, name: &str) -> Result<Option<PathBuf>, StoreError> {
        let known = self.list()?.into_iter().find(|listed| listed.backup.name == name && listed.present);
        Ok(known.map(|listed| self.folder.join(listed.backup.name)))
    }

    /// Records that this store goes on from a backup. At the start.
    pub(crate) fn note_restore(&self) -> Result<(), MakeBackupError> {
        let store = &self.writer.shared().store;
        let Some(restored) = store.restored().map_err(BackupError::from)? else { return Ok(()) };
        let created_at = Timestamp::from_micros(restored.created_at);
        tracing::warn!(backup = %restored.backup_id, %created_at, "the store goes on from a backup: what came later is not in it");
        let mut entry = AuditEntry::system(None, EVENT_STORE_RESTORED, "store", AuditAction::Create);
        entry.entity_id = Some(restored.backup_id.to_string());
        let values = serde_json::json!({ "epoch": restored.epoch.to_string(), "backup_of": created_at.to_string() });
        entry.new_values = Some(values.to_string());
        entry.changes_summary = Some(format!("The store goes on from its backup of {created_at}"));
        self.writer.publish(Publication { ends_restore: true, audit: Some(entry), ..Publication::default() })?;
        Ok(())
    }
}
