//! Crashes and faults: the whole engine over a disk that loses, tears, refuses and lies, against a model that knows what
//! was acknowledged.
//!
//! Every failure names its seed, and `METERGATE_SEED=N` runs that one alone; `METERGATE_LONG=1` runs many more.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

#[path = "../support/bars.rs"]
mod bars;
mod crash_images;
mod dead_disk;
mod disk;
mod failing_syncs;
mod flipped_bytes;
mod folder;
mod full_disk;
mod images;
mod model;
#[path = "../support/random.rs"]
mod random;
mod steps;

use std::path::{Path, PathBuf};
use std::time::Duration;

use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::time::Timestamp;
use metergate::{Metergate, OpenError};

use disk::Disk;
use folder::FOLDER;

/// Opening a store tens of thousands of times is mostly allocating.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: &str = "2026-11-24T12:00:00Z";

fn settings(folder: &Path) -> EngineSettings {
    let prices: PathBuf = FOLDER.path().join("prices.toml");
    EngineSettings { prices_file: Some(prices), cache_bytes: 1 << 20, ..EngineSettings::new(folder) }
}

fn start() -> Timestamp {
    START.parse().unwrap()
}

/// The engine over this disk, at this time; the clock is the test's.
fn open(disk: &Disk, now: Timestamp) -> Result<(Metergate, Clock), OpenError> {
    let clock = Clock::manual(now);
    let engine = Metergate::open_on(settings(FOLDER.path()), Box::new(disk.clone()), |_| clock.clone())?;
    Ok((engine, clock))
}

/// Waits until the store is open again.
fn until_ready(engine: &Metergate) {
    for _ in 0..20_000 {
        if engine.is_ready().is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the store is not open again: {:?}", engine.is_ready());
}

/// The seeds to run: `count` of them, ten times as many in the long version, or the one that is asked for.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let asked = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match asked("METERGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None if is_long() => 0..count * 10,
        None => 0..count,
    }
}

fn is_long() -> bool {
    std::env::var("METERGATE_LONG").is_ok_and(|value| value == "1")
}
