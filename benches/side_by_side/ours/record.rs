//! Recording durably: batches, with repeats, one by one; and a whole request's reserve and settle.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::quota::{Item, QuotaType};
use metergate::domain::time::Timestamp;
use metergate::enforcer::ReserveRequest;
use serde_json::{Value, json};

use super::slow_disk::SlowDisk;
use super::{all_accepted, check_totals, open, pages, read_events, record_all, register, settings, tenants_of};
use crate::bench::now;
use crate::traffic::arguments::{Arguments, percentiles};
use crate::traffic::{Random, tenant};

fn tokens_of(events: &[UsageEvent]) -> u64 {
    events.iter().map(UsageEvent::tokens).sum()
}

fn in_batches(events: Vec<UsageEvent>, size: usize) -> Vec<Vec<UsageEvent>> {
    let mut events = events.into_iter();
    std::iter::from_fn(|| Some(events.by_ref().take(size).collect::<Vec<_>>()).filter(|batch| !batch.is_empty()))
        .collect()
}

/// `batch` events a commit from `callers` callers.
pub fn batches(arguments: &Arguments) -> Value {
    let events = read_events(arguments);
    let (number, tokens) = (events.len(), tokens_of(&events));
    let folder = Path::new(arguments.text("folder"));
    let engine = open(folder);
    let registered = register(&engine, tenants_of(&events));
    let batches = in_batches(events, arguments.number("batch"));
    let started = Instant::now();
    let mut times = record_all(&engine, arguments.number("callers"), batches.into_iter(), all_accepted);
    let seconds = started.elapsed().as_secs_f64();
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    check_totals(&engine, number as u64 + registered, tokens);
    engine.close();
    let [p50, p99, _, most] = percentiles(&mut times);
    let bytes = pages::of(folder).events as f64 / number as f64;
    json!({ "rate": number as f64 / seconds, "p50_ms": p50, "p99_ms": p99, "max_ms": most, "bytes_per_event": bytes })
}

/// The first `base` events are filed; of the rest one in a hundred is one of those once more.
pub fn with_repeats(arguments: &Arguments) -> Value {
    let mut events = read_events(arguments);
    let (number, tokens) = (events.len(), tokens_of(&events));
    let (base, size): (usize, usize) = (arguments.number("base"), arguments.number("batch"));
    let callers = arguments.number("callers");
    let fresh = events.split_off(base);
    let engine = open(Path::new(arguments.text("folder")));
    record_all(&engine, callers, in_batches(events.clone(), size).into_iter(), all_accepted);
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    let (repeats, mut random) = (size / 100, Random(7));
    let mut batches = in_batches(fresh, size - repeats);
    for batch in &mut batches {
        batch.extend((0..repeats).map(|_| events[(random.next() % base as u64) as usize].clone()));
    }
    let offered: usize = batches.iter().map(Vec::len).sum();
    let started = Instant::now();
    record_all(&engine, callers, batches.into_iter(), |outcomes| {
        let (first, repeated) = outcomes.split_at(outcomes.len() - repeats);
        all_accepted(first);
        assert!(repeated.iter().all(|outcome| *outcome == EventOutcome::Duplicate));
    });
    let seconds = started.elapsed().as_secs_f64();
    check_totals(&engine, number as u64, tokens);
    json!({ "rate": offered as f64 / seconds })
}

/// One event a call from so many callers at once.
pub fn singles(arguments: &Arguments) -> Value {
    let events = read_events(arguments);
    let (number, tokens) = (events.len(), tokens_of(&events));
    let callers: usize = arguments.number("callers");
    let engine = open(Path::new(arguments.text("folder")));
    let registered = register(&engine, tenants_of(&events));
    let parts = in_batches(events, number.div_ceil(callers));
    let barrier = Barrier::new(parts.len() + 1);
    let (mut times, seconds) = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let (tracker, barrier) = (engine.usage_tracker(), &barrier);
                scope.spawn(move || {
                    let mut times = Vec::with_capacity(part.len());
                    barrier.wait();
                    for event in part {
                        let begun = Instant::now();
                        all_accepted(&tracker.record_blocking(vec![event]).unwrap());
                        times.push(begun.elapsed().as_nanos() as u64);
                    }
                    times
                })
            })
            .collect();
        barrier.wait();
        let started = Instant::now();
        let times: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (times, started.elapsed().as_secs_f64())
    });
    check_totals(&engine, number as u64 + registered, tokens);
    let [p50, p99, p999, most] = percentiles(&mut times);
    json!({ "rate": number as f64 / seconds, "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "max_ms": most })
}

/// What a request pays in all: reserve before its first byte, settle after its last.
pub fn reserve_and_settle(arguments: &Arguments) -> Value {
    let (callers, requests): (u32, u32) = (arguments.number("callers"), arguments.number("requests"));
    let settings = settings(Path::new(arguments.text("folder")));
    let (sync, clock) =
        (Duration::from_millis(arguments.number("sync_ms")), |_| Clock::manual(Timestamp::from_micros(now())));
    let engine = match sync.is_zero() {
        true => Metergate::open_at(settings, clock).unwrap(),
        false => {
            let disk = SlowDisk::new(&settings.data_dir, sync);
            Metergate::open_on(settings, Box::new(disk), clock).unwrap()
        }
    };
    let enforcer = engine.quota_enforcer();
    let registered = register(&engine, (0..callers).map(tenant));
    let call = |caller: u32| {
        let once = |_| {
            let begun = Instant::now();
            let granted = enforcer
                .reserve_blocking(ReserveRequest {
                    tenant_id: tenant(caller),
                    items: vec![Item { quota_type: QuotaType::Tokens, amount: 2_000 }],
                    ttl_seconds: None,
                    reservation_id: None,
                    request_id: None,
                })
                .unwrap();
            let id = granted.reservation.unwrap().reservation_id;
            let mut event = UsageEvent::new(tenant(caller), "chat_message");
            event.tokens_consumed = Some(1_000);
            all_accepted(&enforcer.settle_blocking(Some(&tenant(caller)), &id, vec![event]).unwrap().outcomes);
            begun.elapsed().as_nanos() as u64
        };
        (0..requests / callers).map(once).collect::<Vec<_>>()
    };
    let started = Instant::now();
    let mut times: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|caller| scope.spawn(move || call(caller))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    let settled = times.len() as u64;
    check_totals(&engine, settled + registered, settled * 1_000);
    let [p50, p99, p999, most] = percentiles(&mut times);
    json!({ "rate": rate, "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "max_ms": most })
}
