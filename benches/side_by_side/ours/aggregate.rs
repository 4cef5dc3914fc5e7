//! Aggregating: what is left to fold, then everything again from the events, while somebody records.

use std::path::Path;
use std::time::Instant;

use metergate::domain::time::Timestamp;
use serde_json::{Value, json};

use super::{all_accepted, open, read_events, record_all, slowest_while};
use crate::bench::now;
use crate::traffic::DAY;
use crate::traffic::arguments::Arguments;

/// Over the events of the file.
pub fn aggregate(arguments: &Arguments) -> Value {
    let events = read_events(arguments);
    let number = events.len();
    let engine = open(Path::new(arguments.text("folder")));
    let tracker = engine.usage_tracker();
    let batches: Vec<_> = events.chunks(1_000).map(<[_]>::to_vec).collect();
    record_all(&engine, 3, batches.into_iter(), all_accepted);
    let mut before = 0.0;
    slowest_while(&engine, || std::thread::sleep(std::time::Duration::from_millis(300)));
    let ((), idle, _) = slowest_while(&engine, || std::thread::sleep(std::time::Duration::from_millis(700)));
    f64::max(before, idle).clone_into(&mut before);
    let timed = |range: Option<(Timestamp, Timestamp)>| {
        slowest_while(&engine, || {
            let started = Instant::now();
            tracker.aggregate_usage_metrics(range).unwrap();
            started.elapsed().as_secs_f64()
        })
    };
    let (first, fold_slowest, _) = timed(None);
    let all = (Timestamp::from_micros(now() - 3 * DAY), Timestamp::from_micros(now()));
    let (again, slowest, _) = timed(Some(all));
    json!({
        "rate": number as f64 / first, "again_rate": number as f64 / again, "fold_ms": first * 1e3,
        "slowest_ms": slowest.max(fold_slowest), "idle_slowest_ms": before,
    })
}
