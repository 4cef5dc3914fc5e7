//! A disk in memory that remembers every call, and fails where it is told to.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use metergate::store::{Medium, StorageBackend};
use parking_lot::Mutex;

/// One call that changed the disk.
#[derive(Clone, Debug)]
pub enum Call {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Syncs that fail, by their number from 1 on.
    pub syncs: BTreeSet<u64>,
    /// Whether what a failed sync should have kept is there all the same.
    pub failed_syncs_keep: bool,
    /// Bytes that fit on it.
    pub capacity: Option<u64>,
    /// Whether it tells how much is free; else it only fails.
    pub tells_free: bool,
    /// Whether every call fails.
    pub dead: bool,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// As they were at the last sync, where failed syncs are to lose what came since.
    synced: Vec<u8>,
    calls: Vec<Call>,
    records: bool,
    syncs: u64,
    faults: Faults,
}

/// See the module; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// One with these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.0.lock().bytes = bytes;
        disk
    }

    /// Remembers calls from here on.
    pub fn recording(self) -> Self {
        self.0.lock().records = true;
        self
    }

    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.0.lock();
        let bytes = state.bytes.clone();
        (state.synced, state.faults) = (bytes, faults);
    }

    pub fn contents(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    /// How many calls there were.
    pub fn position(&self) -> usize {
        self.0.lock().calls.len()
    }

    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().calls.clone()
    }

    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.faults.dead { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }

    fn note(&mut self, call: impl FnOnce() -> Call) {
        if self.records {
            self.calls.push(call());
        }
    }
}

impl Medium for Disk {
    fn backend(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.0.lock().alive()?;
        Ok(Box::new(self.clone()))
    }

    fn free_bytes(&self) -> Option<u64> {
        let state = self.0.lock();
        let capacity = state.faults.capacity.filter(|_| state.faults.tells_free)?;
        Some(capacity.saturating_sub(state.bytes.len() as u64))
    }

    fn bytes(&self) -> u64 {
        self.0.lock().bytes.len() as u64
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let state = self.0.lock();
        state.alive()?;
        Ok(state.bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        state.alive()?;
        let found = state.bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        if state.faults.capacity.is_some_and(|capacity| len > capacity.max(state.bytes.len() as u64)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.bytes.resize(len as usize, 0);
        state.note(|| Call::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        state.syncs += 1;
        let number = state.syncs;
        if state.faults.syncs.contains(&number) {
            if !state.faults.failed_syncs_keep {
                let synced = state.synced.clone();
                state.bytes = synced;
            }
            return Err(io::Error::other(format!("sync {number} failed")));
        }
        if !state.faults.syncs.is_empty() {
            let bytes = state.bytes.clone();
            state.synced = bytes;
        }
        state.note(|| Call::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        let found = state.bytes.get_mut(offset as usize..offset as usize + data.len());
        found.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        state.note(|| Call::Write(offset, data.to_vec()));
        Ok(())
    }
}
