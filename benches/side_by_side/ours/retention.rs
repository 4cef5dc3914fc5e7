//! Days that pass: each is recorded, aggregated, and its oldest day removed; somebody records meanwhile.

use std::path::Path;
use std::time::Instant;

use metergate::clock::Clock;
use metergate::domain::time::Timestamp;
use serde_json::{Value, json};

use super::load::Batches;
use super::watch::{Pause, Watched};
use super::{all_accepted, check_totals, pages, record_all};
use crate::bench::now;
use crate::traffic::arguments::Arguments;
use crate::traffic::{DAY, Templates, Traffic, Wanted, tenants};

/// `days` days of `events` each under 30-day retention. The first is so far back that the last is today.
pub fn days(arguments: &Arguments) -> Value {
    let folder = Path::new(arguments.text("folder"));
    let (days, events, number): (i64, usize, u32) =
        (arguments.number("days"), arguments.number("events"), arguments.number("tenants"));
    let (templates, names) = (Templates::load(), tenants(number));
    let midnight = now() - now() % DAY - days * DAY;
    let clock = Clock::manual(Timestamp::from_micros(midnight));
    let open = || Watched::open(folder, &clock);
    let mut watched = open();
    let (mut slowest, mut idle, mut removal_ms, mut removed, mut tokens) =
        (Pause::default(), Pause::default(), 0.0f64, 0, 0);
    let (mut recorded, mut each_day) = (0, Vec::new());
    for day in 0..days {
        let end = midnight + (day + 1) * DAY;
        clock.set(Timestamp::from_micros(end));
        let wanted = Wanted { events, tenants: number, end, span: DAY, v7: true, seed: 1_000 + day as u64 };
        let engine = &watched.engine;
        record_all(engine, 3, Batches::new(Traffic::new(&templates, wanted), &names, &mut tokens), all_accepted);
        let tracker = engine.usage_tracker();
        tracker.aggregate_usage_metrics(None).unwrap();
        let pause = std::time::Duration::from_millis(50);
        let ((), slowest_idle, recorded_idle) = watched.while_doing(|| std::thread::sleep(pause));
        idle = idle.max(slowest_idle);
        let ((cleanup, ms), pause, recorded_removal) = watched.while_doing(|| {
            let started = Instant::now();
            (tracker.cleanup_old_realtime_events().unwrap(), started.elapsed().as_secs_f64() * 1e3)
        });
        recorded += recorded_idle + recorded_removal;
        if cleanup.rows_removed > 0 {
            (slowest, removal_ms) = (slowest.max(pause), removal_ms.max(ms));
            removed += cleanup.rows_removed;
        }
        if day % 10 == 9 || day + 1 == days {
            watched.engine.close();
            drop(watched);
            let (pages, file) =
                (pages::of(folder), std::fs::metadata(folder.join(metergate::store::FILE_NAME)).unwrap().len());
            each_day.push(json!({
                "day": day + 1, "events_mb": pages.events as f64 / 1e6, "metrics_mb": pages.metrics as f64 / 1e6,
                "file_mb": file as f64 / 1e6, "rss_mb": crate::memory::resident_mb("self", "VmRSS"),
            }));
            watched = open();
        }
    }
    // Rows outlive their events. Each of the watcher's events has one token.
    check_totals(&watched.engine, days as u64 * events as u64 + recorded, tokens + recorded);
    json!({
        "slowest": slowest.to_json(), "idle": idle.to_json(), "removal_ms": removal_ms, "removed": removed, "days": each_day,
    })
}
