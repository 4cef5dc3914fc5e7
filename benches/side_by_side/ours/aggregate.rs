//! Aggregating: what is left to fold, then everything again from the events, while somebody records.

use std::path::Path;
use std::time::Instant;

use metergate::domain::event::UsageEvent;
use metergate::domain::time::Timestamp;
use serde_json::{Value, json};

use super::{all_accepted, check_totals, open, read_events, record_all, slowest_while};
use crate::bench::now;
use crate::traffic::DAY;
use crate::traffic::arguments::Arguments;

/// Over the events of the file.
pub fn aggregate(arguments: &Arguments) -> Value {
    let events = read_events(arguments);
    let (number, tokens) = (events.len(), events.iter().map(UsageEvent::tokens).sum::<u64>());
    let engine = open(Path::new(arguments.text("folder")));
    let tracker = engine.usage_tracker();
    let batches: Vec<_> = events.chunks(1_000).map(<[_]>::to_vec).collect();
    record_all(&engine, 3, batches.into_iter(), all_accepted);
    let pause = std::time::Duration::from_millis(700);
    let ((), idle_slowest, mut watched) = slowest_while(&engine, || std::thread::sleep(pause));
    let timed = |range: Option<(Timestamp, Timestamp)>| {
        slowest_while(&engine, || {
            let started = Instant::now();
            tracker.aggregate_usage_metrics(range).unwrap();
            started.elapsed().as_secs_f64()
        })
    };
    let (first, fold_slowest, watched_first) = timed(None);
    let all = (Timestamp::from_micros(now() - 3 * DAY), Timestamp::from_micros(now()));
    let (again, slowest, watched_again) = timed(Some(all));
    watched += watched_first + watched_again;
    // Each of the watcher's events has one token.
    check_totals(&engine, number as u64 + watched, tokens + watched);
    json!({
        "rate": number as f64 / first, "again_rate": number as f64 / again, "fold_ms": first * 1e3,
        "slowest_ms": slowest.max(fold_slowest), "idle_slowest_ms": idle_slowest,
    })
}
