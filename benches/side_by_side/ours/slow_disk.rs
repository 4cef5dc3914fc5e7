//! The store's file on a disk whose syncs are timed, or take longer: one fdatasync of 0.1 ms, as here, is unusually quick.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metergate::store::{FileMedium, Medium, StorageBackend};

/// A file that is synced as ever, and then some.
pub struct SlowDisk {
    file: FileMedium,
    sync: Duration,
    synced: Arc<AtomicU64>,
}

impl SlowDisk {
    /// Over the store's file, which is made if it is absent.
    pub fn new(folder: &Path, sync: Duration) -> Self {
        let path = folder.join(metergate::store::FILE_NAME);
        std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        Self { file: FileMedium::open(&path).unwrap(), sync, synced: Arc::default() }
    }

    /// Nanoseconds that all syncs took so far.
    pub fn synced(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.synced)
    }
}

impl Medium for SlowDisk {
    fn backend(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(SlowBytes { bytes: self.file.backend()?, sync: self.sync, synced: self.synced() }))
    }

    fn free_bytes(&self) -> Option<u64> {
        self.file.free_bytes()
    }

    fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    fn release(&self) {
        self.file.release();
    }

    fn path(&self) -> Option<&Path> {
        self.file.path()
    }
}

#[derive(Debug)]
struct SlowBytes {
    bytes: Box<dyn StorageBackend>,
    sync: Duration,
    synced: Arc<AtomicU64>,
}

impl StorageBackend for SlowBytes {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let begun = Instant::now();
        self.bytes.sync_data()?;
        if !self.sync.is_zero() {
            std::thread::sleep(self.sync);
        }
        self.synced.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.bytes.close()
    }
}
