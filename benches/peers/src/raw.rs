//! The disk's own limit: the same bytes appended to a file and synced, batch by batch.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::arguments::{Arguments, percentiles};

/// `batches` of `bytes` each.
pub fn append(arguments: &Arguments) -> Value {
    let block = vec![0x5a; arguments.number("bytes")];
    let (batches, events): (u64, u64) = (arguments.number("batches"), arguments.number("events"));
    let mut file = std::fs::File::create(Path::new(arguments.text("folder")).join("raw")).expect("a new file");
    let mut times = Vec::with_capacity(batches as usize);
    let started = Instant::now();
    for _ in 0..batches {
        let begun = Instant::now();
        file.write_all(&block).expect("room on the disk");
        file.sync_data().expect("a sync");
        times.push(begun.elapsed().as_nanos() as u64);
    }
    let [p50, p99, _, most] = percentiles(&mut times);
    json!({ "rate": events as f64 / started.elapsed().as_secs_f64(), "p50_ms": p50, "p99_ms": p99, "max_ms": most })
}
