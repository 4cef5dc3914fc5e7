//! What the engine counts of itself, for `/metrics`: plain atomics, read whenever somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it came to since the process started.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, and one for what is above them all.
    buckets: [AtomicU64; Histogram::BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// The upper ends of the buckets, in microseconds.
    pub const BOUNDS: [u64; 12] =
        [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

    /// Notes one duration.
    pub fn note(&self, duration: Duration) {
        let micros = duration.as_micros().min(u128::from(u64::MAX)) as u64;
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many were at most as long as each bound, then how many there were.
    pub fn cumulative(&self) -> [u64; Histogram::BOUNDS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|bucket| {
            sum += self.buckets[bucket].load(Ordering::Relaxed);
            sum
        })
    }

    /// All of them together, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.micros.load(Ordering::Relaxed)
    }
}

/// What the engine did since it was opened.
#[derive(Debug, Default)]
pub struct Meter {
    /// Events that were counted.
    pub recorded: Counter,
    /// Repeats.
    pub duplicates: Counter,
    /// Known ids with other content.
    pub conflicts: Counter,
    /// Events that were not taken.
    pub rejected: Counter,
    /// Audit entries that sampling left out.
    pub sampled_out: Counter,
    /// Reservations and enforced amounts that were granted.
    pub granted: Counter,
    /// Those that were denied.
    pub denied: Counter,
    /// Write transactions, each with its sync: how many, and how long.
    pub commits: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_that_it_fits_in() {
        let histogram = Histogram::default();
        for micros in [250, 251, 10_000_000] {
            histogram.note(Duration::from_micros(micros));
        }
        let counts = histogram.cumulative();
        assert_eq!((counts[0], counts[1], counts[11], counts[12]), (1, 2, 2, 3));
        assert_eq!(histogram.sum_micros(), 10_000_501);
    }
}
