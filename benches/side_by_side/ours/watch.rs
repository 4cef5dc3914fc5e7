//! Somebody who records one event after the other while something else happens, and what the slowest of them waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::domain::event::UsageEvent;
use serde_json::{Value, json};

use super::slow_disk::SlowDisk;
use super::{all_accepted, settings};
use crate::traffic::tenant;

/// An engine whose disk and writer are watched.
pub struct Watched {
    /// The engine.
    pub engine: Metergate,
    synced: Arc<AtomicU64>,
    /// Of the writer's thread: nanoseconds on a core, nanoseconds for which none was free.
    writer: PathBuf,
}

/// One record that took long, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    /// From call to answer.
    pub ms: f64,
    /// Of it the disk's syncs.
    pub sync_ms: f64,
    /// Of it the writer had no core, or worked on one; both are the kernel's word (schedstat), and what a hypervisor takes
    /// from a core counts as work.
    pub no_core_ms: f64,
    /// See `no_core_ms`.
    pub work_ms: f64,
}

impl Pause {
    /// The slower one.
    pub fn max(self, other: Self) -> Self {
        if other.ms > self.ms { other } else { self }
    }

    /// With what it waited for.
    pub fn to_json(self) -> Value {
        json!({ "ms": self.ms, "sync_ms": self.sync_ms, "no_core_ms": self.no_core_ms, "work_ms": self.work_ms })
    }
}

fn writer_thread() -> Option<PathBuf> {
    let mut threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    threads.find(|thread| std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "writer"))
}

impl Watched {
    /// Over a folder, by a clock of the caller's.
    pub fn open(folder: &Path, clock: &Clock) -> Self {
        let settings = settings(folder);
        let disk = SlowDisk::new(&settings.data_dir, Duration::ZERO);
        let synced = disk.synced();
        let engine = Metergate::open_on(settings, Box::new(disk), |_| clock.clone()).unwrap();
        // A thread takes its name when it first runs.
        let writer = std::iter::repeat_with(writer_thread).flatten().next().unwrap();
        Self { engine, synced, writer: writer.join("schedstat") }
    }

    fn now(&self) -> [f64; 3] {
        let writer = std::fs::read_to_string(&self.writer).unwrap();
        let mut figures = writer.split_whitespace().map(|figure| figure.parse::<f64>().unwrap());
        let (work, no_core) = (figures.next().unwrap(), figures.next().unwrap());
        [self.synced.load(Ordering::Relaxed) as f64, no_core, work]
    }

    /// Records single events of one token while the work is done; gives the slowest answer, and how many.
    pub fn while_doing<T>(&self, work: impl FnOnce() -> T) -> (T, Pause, u64) {
        let stop = AtomicBool::new(false);
        let watch = || {
            let tracker = self.engine.usage_tracker();
            let (mut slowest, mut recorded) = (Pause::default(), 0);
            while !stop.load(Ordering::Relaxed) {
                let event = UsageEvent { tokens_consumed: Some(1), ..UsageEvent::new(tenant(0), "api_call") };
                let (before, begun) = (self.now(), Instant::now());
                all_accepted(&tracker.record_blocking(vec![event]).unwrap());
                let ms = begun.elapsed().as_secs_f64() * 1e3;
                recorded += 1;
                if ms > slowest.ms {
                    let after = self.now();
                    let [sync_ms, no_core_ms, work_ms] = [0, 1, 2].map(|of| (after[of] - before[of]) / 1e6);
                    slowest = Pause { ms, sync_ms, no_core_ms, work_ms };
                }
            }
            (slowest, recorded)
        };
        std::thread::scope(|scope| {
            let watcher = scope.spawn(watch);
            let done = work();
            stop.store(true, Ordering::Relaxed);
            let (slowest, recorded) = watcher.join().unwrap();
            (done, slowest, recorded)
        })
    }
}
