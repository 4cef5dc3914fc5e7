//! Where a store's bytes are, so that a database that failed can be opened again over the same ones.
//!
//! redb refuses everything after one failed call until it is opened anew. A [`Medium`] outlives its databases: the file
//! stays open and locked throughout, so nobody else can take it between one database and the next.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
pub use redb::StorageBackend;

use super::StoreError;

/// What a database writes to: a file, or in tests whatever they let fail.
pub trait Medium: Send + Sync {
    /// The bytes for one more database. The one before is gone by then.
    fn backend(&self) -> io::Result<Box<dyn StorageBackend>>;
    /// Bytes that are free beside it; `None` where that cannot be told.
    fn free_bytes(&self) -> Option<u64>;
    /// Its size in bytes.
    fn bytes(&self) -> u64;
    /// Lets others have it: no database is asked for any more.
    fn release(&self) {}
    /// The file, where it is one.
    fn path(&self) -> Option<&Path> {
        None
    }
}

/// The most redb grows a file by at once: a region.
const GROWTH_MAX: u64 = 4 << 30;
/// The least: below this the disk is as good as full.
const GROWTH_MIN: u64 = 1 << 20;
/// Writes remembered until the next sync; of more, the whole file is written again.
const UNSYNCED_MAX: usize = 65_536;

/// A database in the making is not larger.
const UNFINISHED_MAX: u64 = 1 << 20;
/// The bytes of redb's header, and of the number that it begins with once it is whole.
const HEADER: usize = 4_096;
const MAGIC: usize = 9;

/// The store's file, locked for as long as this lives.
#[derive(Debug)]
pub struct FileMedium {
    file: Arc<LockedFile>,
    path: PathBuf,
}

#[derive(Debug)]
struct LockedFile {
    file: File,
    /// What was written since the last sync that succeeded.
    unsynced: Mutex<Vec<(u64, usize)>>,
}

impl FileMedium {
    /// Opens and locks the file, which must exist.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, path)
    }

    /// [`Self::open`] for a file that is going to have another name in its folder.
    pub(super) fn open_as(path: &Path, later: &Path) -> Result<Self, StoreError> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(StoreError::io)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse,
            TryLockError::Error(error) => StoreError::io(error),
        })?;
        Ok(Self { file: Arc::new(LockedFile { file, unsynced: Mutex::default() }), path: later.to_owned() })
    }
}

impl Medium for FileMedium {
    fn backend(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.file.settle()?;
        Ok(Box::new(FileBytes(Arc::clone(&self.file))))
    }

    fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.path)
    }

    fn bytes(&self) -> u64 {
        self.file.file.metadata().map_or(0, |file| file.len())
    }

    fn release(&self) {
        // What fails here is let go of when the process ends.
        let _ = self.file.file.unlock();
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

/// Bytes that are free to us on the file system that `path` is on.
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(path).ok().map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    #[cfg(not(unix))]
    return None::<u64>.filter(|_| path.exists());
}

impl LockedFile {
    /// After a failed sync the kernel shows what was written and holds it for clean, although it is not on the disk. So
    /// whatever was written since the last good sync is read, written again and synced: then what is seen is what is there.
    fn settle(&self) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock();
        if unsynced.is_empty() {
            return Ok(());
        }
        let length = self.file.metadata()?.len();
        let ranges = match unsynced.len() > UNSYNCED_MAX {
            true => (0..length).step_by(1 << 20).map(|offset| (offset, 1 << 20)).collect(),
            false => unsynced.clone(),
        };
        for (offset, size) in ranges {
            let mut bytes = vec![0; size.min(length.saturating_sub(offset) as usize)];
            read_at(&self.file, offset, &mut bytes)?;
            write_at(&self.file, offset, &bytes)?;
        }
        self.file.sync_all()?;
        unsynced.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct FileBytes(Arc<LockedFile>);

impl StorageBackend for FileBytes {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_at(&self.0.file, offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.file.sync_data()?;
        self.0.unsynced.lock().clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        {
            let mut unsynced = self.0.unsynced.lock();
            if unsynced.len() <= UNSYNCED_MAX {
                unsynced.push((offset, data.len()));
            }
        }
        write_at(&self.0.file, offset, data)
    }
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(unix)]
fn write_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => (offset, out) = (offset + read as u64, &mut out[read..]),
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, data, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => (offset, data) = (offset + written as u64, &data[written..]),
        }
    }
    Ok(())
}

/// Bytes in memory: for tests and benches. They survive the databases over them.
#[derive(Clone, Debug, Default)]
pub struct MemoryMedium(Arc<Mutex<Vec<u8>>>);

impl Medium for MemoryMedium {
    fn backend(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn bytes(&self) -> u64 {
        self.0.lock().len() as u64
    }
}

impl StorageBackend for MemoryMedium {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock();
        let found = (offset as usize).checked_add(out.len()).and_then(|end| bytes.get(offset as usize..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock();
        let found = (offset as usize).checked_add(data.len()).and_then(|end| bytes.get_mut(offset as usize..end));
        found.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        Ok(())
    }
}

/// What a growth of the file must leave room for, and what it was last refused for.
pub(super) struct Room {
    pub(super) medium: Box<dyn Medium>,
    /// Off while a database is opened: a full disk must not keep a store from being read.
    watches: AtomicBool,
    /// The growth that was refused last, in bytes; 0 for none since the database was opened.
    refused: AtomicU64,
    /// Whether any call has failed since the database was opened: redb refuses everything from there on.
    failed: AtomicBool,
}

impl Room {
    pub(super) fn new(medium: Box<dyn Medium>) -> Arc<Self> {
        Arc::new(Self {
            medium,
            watches: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// A database over the medium. The one before must be gone.
    pub(super) fn database(self: &Arc<Self>, cache_bytes: usize) -> Result<redb::Database, StoreError> {
        self.watches.store(false, Ordering::Release);
        let inner = self.medium.backend().map_err(StoreError::io)?;
        let backend = Watched { inner, room: Arc::clone(self) };
        let database = redb::Database::builder().set_cache_size(cache_bytes).create_with_backend(backend)?;
        self.refused.store(0, Ordering::Release);
        self.failed.store(false, Ordering::Release);
        self.watches.store(true, Ordering::Release);
        Ok(database)
    }

    /// Empties a medium on which a first start broke off before there was a database: redb refuses such a one for ever.
    /// It has no magic number yet, and nothing at all behind its header; anything else is left as it is.
    pub(super) fn clear_unfinished(&self) -> Result<(), StoreError> {
        let backend = self.medium.backend().map_err(StoreError::io)?;
        let length = backend.len().map_err(StoreError::io)?;
        if length == 0 || length > UNFINISHED_MAX {
            return Ok(());
        }
        let mut bytes = vec![0; length as usize];
        backend.read(0, &mut bytes).map_err(StoreError::io)?;
        let (header, rest) = bytes.split_at(bytes.len().min(HEADER));
        if header.iter().take(MAGIC).chain(rest).any(|byte| *byte != 0) {
            return Ok(());
        }
        tracing::warn!("a first start broke off before there was a store: it is made now");
        backend.set_len(0).and_then(|()| backend.sync_data()).map_err(StoreError::io)
    }

    /// Whether the database has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether this database was refused a growth: nothing that it had not committed by then is on disk.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire) > 0
    }

    /// The bytes that the file grows by when it next must, as redb does it: it doubles, up to a region.
    pub(super) fn next_growth(&self) -> u64 {
        self.medium.bytes().clamp(GROWTH_MIN, GROWTH_MAX)
    }

    fn may_grow(&self, step: u64) -> io::Result<()> {
        let lacks_room = |free| free < step.max(GROWTH_MIN);
        if !self.watches.load(Ordering::Acquire) || !self.medium.free_bytes().is_some_and(lacks_room) {
            return Ok(());
        }
        self.refused.store(step, Ordering::Release);
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("the store must grow by {step} bytes, which are not free"),
        ))
    }
}

/// Looks at the free space before the file grows.
struct Watched {
    inner: Box<dyn StorageBackend>,
    room: Arc<Room>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Watched {
    fn noted<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() {
            self.room.failed.store(true, Ordering::Release);
        }
        done
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.noted(self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let step = len.saturating_sub(self.inner.len()?);
        if step > 0 {
            self.noted(self.room.may_grow(step))?;
        }
        self.noted(self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.noted(self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_nothing_is_emptied() {
        let cleared = |change: fn(&mut Vec<u8>)| {
            let medium = MemoryMedium::default();
            change(&mut medium.0.lock());
            let before = medium.bytes();
            Room::new(Box::new(medium.clone())).clear_unfinished().unwrap();
            medium.bytes() != before
        };
        assert!(cleared(|bytes| bytes.resize(65_536, 0)));
        assert!(cleared(|bytes| (bytes.resize(65_536, 0), bytes[100] = 1).1), "a header without its magic number");
        assert!(!cleared(|bytes| (bytes.resize(65_536, 0), bytes[0] = b'r').1));
        assert!(!cleared(|bytes| (bytes.resize(65_536, 0), bytes[5_000] = 1).1));
        assert!(!cleared(|bytes| bytes.resize(2 << 20, 0)));
    }

    #[test]
    fn what_was_written_before_a_failed_sync_is_written_again_before_it_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        File::create(&path).unwrap();
        let medium = FileMedium::open(&path).unwrap();
        let bytes = medium.backend().unwrap();
        bytes.set_len(8_192).unwrap();
        bytes.write(4_096, &[7; 4_096]).unwrap();
        assert_eq!(medium.file.unsynced.lock().len(), 1);
        let again = medium.backend().unwrap();
        assert_eq!(medium.file.unsynced.lock().len(), 0, "synced by now");
        let mut read = [0; 4_096];
        again.read(4_096, &mut read).unwrap();
        assert_eq!(read, [7; 4_096]);
        assert!(matches!(FileMedium::open(&path), Err(StoreError::InUse)), "locked as long as the medium lives");
        drop((bytes, again, medium));
        assert!(FileMedium::open(&path).is_ok());
    }
}
