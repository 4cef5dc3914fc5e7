//! Random sequences of recording, erasing, pruning and crashing: a verification raises no false alarm and misses nothing.
//!
//! The disk under the store keeps what was synced and loses any part of the rest. A sequence is its seed: a failure prints
//! it, and `METERGATE_SEED=N` runs that one alone. `METERGATE_LONG=1` runs 20 times as many, however long it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::{ReadableTable, StorageBackend};

use super::{AuditCheck, AuditCut, Medium, Store, records, tables};
use crate::domain::audit::{AuditAction, AuditEntry, AuditRecord};
use crate::domain::time::Timestamp;
use crate::rules::erasure::{Subject, erased_by, erasure_entry};
use crate::rules::merkle::Hash;

#[path = "../../tests/support/bars.rs"]
mod bars;

/// The bar of a run in CI, and how long it may take there.
const SEQUENCES: u64 = 10_000;
const TIME_MAX: Duration = Duration::from_secs(60);
const ACTORS: [&str; 4] = ["ann", "bob", "cid", "dee"];

/// A seeded generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// What was written, or the length that was set.
#[derive(Clone, Debug)]
enum Change {
    Written(u64, Vec<u8>),
    Length(u64),
}

fn put(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length as usize, 0),
        Change::Written(at, written) => {
            let (at, end) = (*at as usize, *at as usize + written.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(written);
        }
    }
}

#[derive(Debug, Default)]
struct Disk {
    synced: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<Change>,
    /// Changes and syncs to come until the power fails, and what was on the disk then.
    until_crash: Option<u64>,
    image: Option<Vec<u8>>,
    random: u64,
}

impl Disk {
    fn tick(&mut self) {
        match &mut self.until_crash {
            Some(0) if self.image.is_none() => self.image = Some(self.torn()),
            Some(left) => *left = left.saturating_sub(1),
            None => {}
        }
    }

    /// What was synced, and any of what was not.
    fn torn(&self) -> Vec<u8> {
        let mut random = Random(self.random);
        let mut image = self.synced.clone();
        let all = random.below(3);
        for change in &self.unsynced {
            // Lengths are kept in order; of writes all, none or some, and of one perhaps its begin.
            match change {
                Change::Length(_) if all > 0 => put(&mut image, change),
                Change::Written(at, bytes) if all == 2 || all == 1 && random.below(2) == 0 => {
                    let kept =
                        if random.below(4) == 0 { random.below(bytes.len() as u64) as usize } else { bytes.len() };
                    put(&mut image, &Change::Written(*at, bytes[..kept].to_vec()));
                }
                _ => {}
            }
        }
        image
    }
}

#[derive(Clone, Debug, Default)]
struct Backend(Arc<Mutex<Disk>>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let disk = self.0.lock();
        let at = offset as usize;
        let bytes = disk.now.get(at..at + out.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock();
        disk.tick();
        let change = Change::Length(len);
        put(&mut disk.now, &change);
        disk.unsynced.push(change);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock();
        disk.tick();
        let changes = std::mem::take(&mut disk.unsynced);
        changes.iter().for_each(|change| put(&mut disk.synced, change));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock();
        disk.tick();
        let change = Change::Written(offset, data.to_vec());
        put(&mut disk.now, &change);
        disk.unsynced.push(change);
        Ok(())
    }
}

impl Medium for Backend {
    fn backend(&self) -> Result<Box<dyn StorageBackend>, std::io::Error> {
        Ok(Box::new(self.clone()))
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn bytes(&self) -> u64 {
        self.0.lock().now.len() as u64
    }
}

/// One sequence: a store, its disk, and what an auditor has kept of it.
struct Sequence {
    random: Random,
    backend: Backend,
    store: Store,
    /// Sizes and roots that were durable.
    kept: Vec<(u64, Hash)>,
    clock: i64,
    crashes: u64,
    tampered: u64,
}

fn open(backend: &Backend) -> Store {
    Store::over(Box::new(backend.clone()), 1 << 20, [7; 32], uuid::Uuid::nil()).unwrap()
}

impl Sequence {
    fn new(seed: u64, empty: &[u8]) -> Self {
        let disk = Disk { synced: empty.to_vec(), now: empty.to_vec(), random: seed, ..Disk::default() };
        let backend = Backend(Arc::new(Mutex::new(disk)));
        let store = open(&backend);
        Self { random: Random(seed), backend, store, kept: Vec::new(), clock: 0, crashes: 0, tampered: 0 }
    }

    fn size(&self) -> u64 {
        self.store.snapshot().unwrap().next_audit_index().unwrap()
    }

    /// Gives how often the power failed, and how often something was tampered with.
    fn run(&mut self) -> [u64; 2] {
        self.record();
        for _ in 0..self.random.below(8) + 2 {
            // Some of the steps lose their power in their midst; nobody knows then whether the last commit is on the disk.
            if self.random.below(4) == 0 {
                let mut disk = self.backend.0.lock();
                disk.until_crash = Some(self.random.below(24));
                disk.random = self.random.next();
            }
            match self.random.below(10) {
                0..4 => self.record(),
                4..7 => self.erase(),
                7..9 => self.prune(),
                _ => self.reopen(),
            }
            if self.backend.0.lock().until_crash.is_some() {
                self.crash();
            }
        }
        self.finish();
        [self.crashes, self.tampered]
    }

    fn entries(&mut self, count: u64) -> Vec<AuditEntry> {
        let entry = |random: &mut Random| {
            let tenant_id = ["acme", "other"][random.below(2) as usize].parse().unwrap();
            let mut entry = AuditEntry::system(Some(tenant_id), "kb_uploaded", "knowledge_base", AuditAction::Create);
            entry.actor_id = Some(ACTORS[random.below(4) as usize].to_owned());
            entry
        };
        (0..count).map(|_| entry(&mut self.random)).collect()
    }

    fn numbered(&mut self, entries: Vec<AuditEntry>) -> Vec<(AuditRecord, u64)> {
        let first = self.size();
        let mut number = |(place, entry)| {
            self.clock += 1;
            let index = first + place as u64;
            let event_id = uuid::Uuid::from_u128(u128::from(index) << 64 | u128::from(self.random.next()));
            (AuditRecord { index, event_id, timestamp: Timestamp::from_seconds(self.clock), entry }, 1)
        };
        entries.into_iter().enumerate().map(&mut number).collect()
    }

    fn record(&mut self) {
        let count = self.random.below(5) + 1;
        let entries = self.entries(count);
        let records = self.numbered(entries);
        let mut write = self.store.begin().unwrap();
        write.put_audit(&records).unwrap();
        write.commit().unwrap();
        self.keep();
    }

    /// A root that is durable for sure: power may fail later, not before.
    fn keep(&mut self) {
        if self.backend.0.lock().until_crash.is_none() {
            let size = self.size();
            self.kept.push((size, self.store.snapshot().unwrap().audit_root(size).unwrap()));
        }
    }

    fn subject(&mut self) -> Subject {
        match self.random.below(5) {
            4 => Subject::Tenant("other".parse().unwrap()),
            actor => Subject::Actor { id: ACTORS[actor as usize].to_owned(), tenant_id: None },
        }
    }

    fn erase(&mut self) {
        let subject = self.subject();
        self.erase_all(&subject);
        if self.backend.0.lock().until_crash.is_none() {
            let left = self.store.snapshot().unwrap().audit_records(0, 1_000).unwrap();
            assert!(left.iter().all(|record| !subject.concerns(&record.entry)), "something of {subject:?} is left");
        }
    }

    fn erase_all(&mut self, subject: &Subject) {
        let records = self.store.snapshot().unwrap().audit_records(0, 1_000).unwrap();
        let found = records.iter().filter(|record| subject.concerns(&record.entry));
        let found: Vec<u64> = found.map(|record| record.index).collect();
        let piece = self.random.below(4) as usize + 1;
        for indices in found.chunks(piece) {
            let entry = erasure_entry(uuid::Uuid::nil(), subject.kind(), indices, 0);
            let records = self.numbered(vec![entry]);
            let mut write = self.store.begin().unwrap();
            write.put_audit(&records).unwrap();
            write.erase_audit(indices).unwrap();
            write.put_erasure_open().unwrap();
            write.commit().unwrap();
        }
        self.keep();
    }

    fn prune(&mut self) {
        let snapshot = self.store.snapshot().unwrap();
        let cut = snapshot.audit_cut().unwrap();
        let min_index = (cut.min_index + self.random.below(4)).min(self.size());
        drop(snapshot);
        let cut = AuditCut { min_index, ..cut };
        let mut write = self.store.begin().unwrap();
        write.put_audit_cut(&cut).unwrap();
        write.commit().unwrap();
        let steps = self.random.below(4);
        for _ in 0..steps {
            let limit = self.random.below(3) as usize + 1;
            let mut write = self.store.begin().unwrap();
            write.free_audit_below(min_index, limit).unwrap();
            write.commit().unwrap();
        }
    }

    fn reopen(&mut self) {
        self.store.close();
        self.store = open(&self.backend);
    }

    fn crash(&mut self) {
        self.crashes += 1;
        let image = {
            let mut disk = self.backend.0.lock();
            let torn = disk.image.take();
            // The power fails between two steps where it has not failed in one.
            torn.unwrap_or_else(|| disk.torn())
        };
        let disk = Disk { synced: image.clone(), now: image, random: self.random.next(), ..Disk::default() };
        self.store.close();
        self.backend = Backend(Arc::new(Mutex::new(disk)));
        self.store = open(&self.backend);
        self.check();
    }

    /// The whole log against itself and against a kept root: whole, whatever happened. Gives the root of now.
    fn check(&mut self) -> Hash {
        let kept = self.kept.get(self.random.below(self.kept.len() as u64) as usize).copied();
        let check = self.verify(kept.map(|(size, _)| size));
        assert_eq!((check.faults.as_slice(), check.missing.as_slice()), (&[][..], &[][..]), "a false alarm");
        assert_eq!(check.records + check.freed + check.erased, check.size);
        assert_eq!(check.root_at_kept, kept.map(|(_, root)| root), "a kept root");
        check.root
    }

    fn verify(&self, kept: Option<u64>) -> AuditCheck {
        let snapshot = self.store.snapshot().unwrap();
        snapshot.check_audit(snapshot.next_audit_index().unwrap(), kept).unwrap()
    }

    /// Nothing false by now; then one thing is tampered with, and found.
    fn finish(&mut self) {
        let payloads: Vec<(u64, Vec<u8>)> = self.stored();
        let subject = self.subject();
        self.backend.0.lock().until_crash = None;
        self.erase_all(&subject);
        let root = self.check();
        let after = self.stored();
        let erased = payloads.iter().find(|(index, _)| after.iter().all(|(left, _)| left != index));
        let min_index = self.store.snapshot().unwrap().audit_cut().unwrap().min_index;
        let above: Vec<&(u64, Vec<u8>)> = after.iter().filter(|(index, _)| *index >= min_index).collect();
        let says = |bytes: &[u8]| erased_by(&records::decode_audit(bytes).unwrap().entry).is_some();
        let any = |random: &mut Random, all: &[&(u64, Vec<u8>)]| {
            all.get(random.below(all.len() as u64) as usize).map(|found| (*found).clone())
        };
        let size = self.size();
        let erasures: Vec<_> = above.iter().filter(|(_, bytes)| says(bytes)).copied().collect();
        let kind = self.random.below(7);
        let what = match kind {
            0 => any(&mut self.random, &above).map(|(index, _)| {
                self.tamper(|write| drop(write.open_table(tables::AUDIT).unwrap().remove(index).unwrap()));
                "a record removed"
            }),
            1 => any(&mut self.random, &above).map(|(index, mut bytes)| {
                let place = self.random.below(bytes.len() as u64) as usize;
                bytes[place] ^= 1;
                self.tamper(|write| {
                    drop(write.open_table(tables::AUDIT).unwrap().insert(index, bytes.as_slice()).unwrap())
                });
                "a bit flipped"
            }),
            2 => erased.cloned().map(|(index, bytes)| {
                self.tamper(|write| {
                    drop(write.open_table(tables::AUDIT).unwrap().insert(index, bytes.as_slice()).unwrap())
                });
                "an erased record put back"
            }),
            3 => any(&mut self.random, &erasures).map(|(index, _)| {
                self.tamper(|write| drop(write.open_table(tables::AUDIT).unwrap().remove(index).unwrap()));
                "the record of an erasure removed"
            }),
            4 => any(&mut self.random, &erasures).map(|(index, bytes)| {
                // Whoever can write the store widens an erasure, to remove another record under its name.
                let mut record = records::decode_audit(&bytes).unwrap();
                record.entry = erasure_entry(uuid::Uuid::nil(), "actor", &(0..index).collect::<Vec<_>>(), 0);
                let forged = records::encode_audit(&record, &[7; 32]).unwrap();
                let leaf = records::audit_leaf(&record, &forged);
                self.tamper(|write| {
                    drop(write.open_table(tables::AUDIT).unwrap().insert(index, forged.as_slice()).unwrap());
                    drop(write.open_table(tables::AUDIT_LEAVES).unwrap().insert(index, leaf.as_slice()).unwrap());
                });
                "an erasure widened"
            }),
            5 => {
                self.tamper(|write| {
                    drop(write.open_table(tables::AUDIT).unwrap().remove(size - 1).unwrap());
                    drop(write.open_table(tables::AUDIT_LEAVES).unwrap().remove(size - 1).unwrap());
                });
                Some("the tail cut off")
            }
            _ => {
                let at = self.random.below(size);
                self.tamper(|write| {
                    let mut leaves = write.open_table(tables::AUDIT_LEAVES).unwrap();
                    let mut leaf = leaves.get(at).unwrap().unwrap().value().to_vec();
                    leaf[30] ^= 1;
                    leaves.insert(at, leaf.as_slice()).unwrap();
                });
                Some("a leaf changed")
            }
        };
        if let Some(what) = what {
            self.tampered += 1;
            let check = self.verify(Some(size));
            let found = !check.faults.is_empty() || !check.missing.is_empty() || check.root_at_kept != Some(root);
            assert!(found, "missed: {what}, {check:?}");
        }
    }

    fn stored(&self) -> Vec<(u64, Vec<u8>)> {
        let snapshot = self.store.snapshot().unwrap();
        let indices = 0..snapshot.next_audit_index().unwrap();
        indices.filter_map(|index| Some((index, snapshot.audit_payload(index).unwrap()?))).collect()
    }

    fn tamper(&self, change: impl FnOnce(&redb::WriteTransaction)) {
        let db = self.store.db.read();
        let write = db.open().unwrap().begin_write().unwrap();
        change(&write);
        write.commit().unwrap();
    }
}

/// A store that nothing was written to, as its disk has it: sequences begin with it.
fn empty_disk() -> Vec<u8> {
    let backend = Backend::default();
    open(&backend).close();
    std::mem::take(&mut backend.0.lock().now)
}

#[test]
fn erasing_pruning_and_crashing_raise_no_false_alarm_and_hide_nothing() {
    let empty = empty_disk();
    if let Some(seed) = std::env::var("METERGATE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Sequence::new(seed, &empty).run();
        return;
    }
    let long = std::env::var_os("METERGATE_LONG").is_some();
    let (wanted, started) = (if long { 20 * SEQUENCES } else { SEQUENCES }, Instant::now());
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let (crashes, tampered) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        while long || started.elapsed() < TIME_MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= wanted {
                return;
            }
            let told = TellSeed(seed);
            let counts = Sequence::new(seed, &empty).run();
            std::mem::forget(told);
            [&crashes, &tampered].into_iter().zip(counts).for_each(|(sum, count)| {
                sum.fetch_add(count, Ordering::Relaxed);
            });
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let (done, took) = (done.into_inner(), started.elapsed().as_secs());
    let (crashes, tampered) = (crashes.into_inner(), tampered.into_inner());
    bars::tell(
        "A2",
        &format!(
            "{done} of {wanted} sequences of erasing, pruning and crashing, {crashes} crashes without a false alarm, \
             {tampered} changes without a miss, in {took} s"
        ),
    );
    assert!(crashes > done / 4 && tampered > done / 4, "{crashes} crashes and {tampered} changes are too few");
    assert!(done > 100, "only {done} sequences in {took} s");
}

/// Tells which sequence failed.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        eprintln!("the sequence of METERGATE_SEED={} failed", self.0);
    }
}
