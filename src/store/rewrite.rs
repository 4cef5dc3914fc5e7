//! Writing the file anew without what was erased: redb frees pages without clearing them, so the bytes leave the file only
//! when everything else moves into another.
//!
//! First a copy is made while writers go on; then, with writers paused, it catches up and takes the store's name. A crash
//! leaves either file whole: the old one under its name, or the new one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase};

use super::backup::{self, BackupError};
use super::medium::{FileMedium, Room};
use super::{Handle, Readers, Store, StoreError, copy, tables};

/// The copy in the making.
const ENDING: &str = "rewritten";

/// A copy of the store that may take its place.
pub struct Rewrite {
    /// Closed when dropped; its file is removed unless it has the store's name by then.
    copy: Option<(Database, Arc<Room>)>,
    unfinished: PathBuf,
}

impl Drop for Rewrite {
    fn drop(&mut self) {
        self.copy.take();
        let _it_may_have_the_stores_name_by_now = std::fs::remove_file(&self.unfinished);
    }
}

/// Removes what a rewriting that broke off has left. Before the store is opened.
pub(super) fn forget_unfinished(store: &Path) {
    let _there_is_mostly_none = std::fs::remove_file(unfinished_of(store));
}

fn unfinished_of(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".");
    name.push(ENDING);
    PathBuf::from(name)
}

impl Store {
    /// Copies what the store holds now, while others write. `None` in memory, where there is no file. Blocks its thread.
    pub fn begin_rewrite(&self) -> Result<Option<Rewrite>, BackupError> {
        let room = self.room.load_full();
        let Some(path) = room.medium.path() else { return Ok(None) };
        let unfinished = unfinished_of(path);
        let _left_by_one_that_failed = std::fs::remove_file(&unfinished);
        let file = |error: std::io::Error| BackupError::File {
            path: unfinished.display().to_string(),
            reason: error.to_string(),
        };
        backup::new_private_file(&unfinished).map_err(file)?;
        let mut rewrite = Rewrite { copy: None, unfinished: unfinished.clone() };
        let room = Room::new(Box::new(FileMedium::open_as(&unfinished, path)?));
        let (copy, _) = rewrite.copy.insert((room.database(self.cache_bytes)?, room));
        copy::copy_all(&self.snapshot()?.read, copy)?;
        follow(self, copy)?;
        Ok(Some(rewrite))
    }

    /// Lets the copy catch up and take the store's place. Nobody may write meanwhile: it is the writer's thread that calls
    /// this. Readers go on with what they have. Fails without having changed anything, except where the file has its name
    /// already and the folder cannot be synced.
    pub fn finish_rewrite(&self, mut rewrite: Rewrite) -> Result<(), BackupError> {
        let old_room = self.room.load_full();
        let path = old_room.medium.path().ok_or(StoreError::Closed)?;
        let (copy, _) = rewrite.copy.as_ref().ok_or(StoreError::Closed)?;
        follow(self, copy)?;
        {
            let end = || -> Result<(), StoreError> {
                let mut write = copy.begin_write()?;
                write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
                write.open_table(tables::META)?.remove(tables::META_ERASURE_OPEN)?;
                Ok(write.commit()?)
            };
            end()?;
        }
        let mut db = self.db.write();
        db.open()?;
        let published = backup::publish(&rewrite.unfinished, path);
        let renamed = !rewrite.unfinished.exists();
        if renamed && let Some((copy, room)) = rewrite.copy.take() {
            self.room.store(room);
            // Those who read the old file do so to their end; it goes with the last of them.
            if let Handle::Open(old, readers) = std::mem::replace(&mut *db, Handle::Open(copy, Readers::default())) {
                self.retired.lock().push((old, readers));
            }
        }
        published
    }

    /// Files that were replaced and are still read by somebody. Lets go of those that nobody reads.
    pub fn retired_files(&self) -> usize {
        let mut retired = self.retired.lock();
        retired.retain(|(_, readers)| Arc::strong_count(readers) > 1);
        retired.len()
    }
}

fn follow(store: &Store, copy: &Database) -> Result<(), StoreError> {
    let snapshot = store.snapshot()?;
    let there = copy.begin_read()?;
    let mut write = copy.begin_write()?;
    write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
    copy::catch_up(&snapshot.read, &there, &write)?;
    Ok(write.commit()?)
}
