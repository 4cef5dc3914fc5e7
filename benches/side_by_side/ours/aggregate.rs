//! Aggregating: what is left to fold, then everything again from the events, while somebody records.

use std::path::Path;
use std::time::Instant;

use metergate::clock::Clock;
use metergate::domain::event::UsageEvent;
use metergate::domain::time::Timestamp;
use serde_json::{Value, json};

use super::watch::Watched;
use super::{all_accepted, check_totals, read_events, record_all};
use crate::bench::now;
use crate::traffic::DAY;
use crate::traffic::arguments::Arguments;

/// Over the events of the file.
pub fn aggregate(arguments: &Arguments) -> Value {
    let events = read_events(arguments);
    let (number, tokens) = (events.len(), events.iter().map(UsageEvent::tokens).sum::<u64>());
    let clock = Clock::manual(Timestamp::from_micros(now()));
    let watched = Watched::open(Path::new(arguments.text("folder")), &clock);
    let engine = &watched.engine;
    let tracker = engine.usage_tracker();
    let batches: Vec<_> = events.chunks(1_000).map(<[_]>::to_vec).collect();
    record_all(engine, 3, batches.into_iter(), all_accepted);
    let pause = std::time::Duration::from_millis(700);
    let ((), idle, recorded_idle) = watched.while_doing(|| std::thread::sleep(pause));
    let timed = |range: Option<(Timestamp, Timestamp)>| {
        watched.while_doing(|| {
            let started = Instant::now();
            tracker.aggregate_usage_metrics(range).unwrap();
            started.elapsed().as_secs_f64()
        })
    };
    let (first, fold_slowest, recorded_first) = timed(None);
    let all = (Timestamp::from_micros(now() - 3 * DAY), Timestamp::from_micros(now()));
    let (again, slowest, recorded_again) = timed(Some(all));
    let recorded = recorded_idle + recorded_first + recorded_again;
    // Each of the watcher's events has one token.
    check_totals(engine, number as u64 + recorded, tokens + recorded);
    json!({
        "rate": number as f64 / first, "again_rate": number as f64 / again, "fold_ms": first * 1e3,
        "slowest": slowest.max(fold_slowest).to_json(), "idle": idle.to_json(),
    })
}
