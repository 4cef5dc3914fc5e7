//! The engine in process: durable records, callers one by one, a start, and what an event weighs at rest.
//!
//! `cargo bench --bench engine -- [EVENTS [TENANTS]] [record]` (default 2,000,000 and 1,000; `record` stops after that). The events are made up from published medians and tails:
//! 1,000 tenants, five models, log-normal tokens, UUIDv7 ids, times within the last two days. A raw file with append and
//! fdatasync of the same number of bytes is measured beside it: the disk's own limit on this machine.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::event::{EventId, EventOutcome, UsageEvent};
use metergate::domain::money::Money;
use metergate::domain::tenant::TenantId;
use metergate::domain::time::{PeriodType, Timestamp};

const BATCH: usize = 1_000;

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.replace('_', "").parse::<usize>().ok());
    let events = numbers.next().unwrap_or(2_000_000) / BATCH * BATCH;
    let tenants = numbers.next().unwrap_or(1_000);
    println!("{events} events, {tenants} tenants, {BATCH} a batch");
    let folder = tempfile::tempdir().unwrap();
    let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    let open = || Metergate::open_at(EngineSettings::new(folder.path()), |_| Clock::manual(now)).unwrap();

    let engine = open();
    let tracker = engine.usage_tracker();
    let mut traffic = Traffic::new(tenants, now);
    let batches: Vec<Vec<UsageEvent>> = (0..events / BATCH).map(|_| traffic.batch(BATCH, events)).collect();
    let repeats = batches[0].clone();
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    // Four submissions stay in flight, as four callers would keep them.
    let mut in_flight = std::collections::VecDeque::new();
    for batch in batches {
        let sent = Instant::now();
        in_flight.push_back((sent, tracker.record(batch).unwrap()));
        if in_flight.len() == 4 {
            let (sent, pending) = in_flight.pop_front().unwrap();
            pending.wait().unwrap();
            slowest = slowest.max(sent.elapsed());
        }
    }
    in_flight.into_iter().for_each(|(_, pending)| drop(pending.wait().unwrap()));
    row("record, durable", rate(events, started.elapsed()), &format!("slowest batch {:.1} ms", ms(slowest)));

    let started = Instant::now();
    tracker.aggregate_usage_metrics(None).unwrap();
    row("file and fold the rest", format!("{:.0} ms", ms(started.elapsed())), "");

    if std::env::args().any(|argument| argument == "record") {
        return;
    }
    let outcomes = tracker.record_blocking(repeats.clone()).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == EventOutcome::Duplicate));
    let started = Instant::now();
    for _ in 0..20 {
        tracker.record_blocking(repeats.clone()).unwrap();
    }
    row("repeats of filed events", rate(20 * BATCH, started.elapsed()), "one batch again and again");

    callers_one_by_one(&engine, 64);
    callers_one_by_one(&engine, 256);

    let tenant: TenantId = "tenant-7".parse().unwrap();
    let from = now.plus_micros(-30 * 86_400_000_000);
    let started = Instant::now();
    for _ in 0..1_000 {
        tracker.get_tenant_usage(&tenant, from, now, PeriodType::Daily).unwrap();
    }
    row("usage of a tenant, 30 days", format!("{:.0} us", started.elapsed().as_secs_f64() * 1e3), "");

    engine.close();
    let size = std::fs::metadata(folder.path().join("metergate.redb")).unwrap().len();
    row(
        "file",
        format!("{:.1} MB", size as f64 / 1e6),
        &format!("{:.0} B an event, free pages included", size as f64 / events as f64),
    );

    let started = Instant::now();
    let engine = open();
    row("start", format!("{:.0} ms", ms(started.elapsed())), "after a stop");
    engine.close();
    raw_append(folder.path(), events);
}

fn row(what: &str, figure: String, note: &str) {
    println!("{what:<28} {figure:>16}   {note}");
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn rate(events: usize, time: Duration) -> String {
    format!("{:.0} k/s", events as f64 / time.as_secs_f64() / 1e3)
}

/// So many threads, each recording one event and waiting for it, for two seconds.
fn callers_one_by_one(engine: &Metergate, callers: usize) {
    let tracker = engine.usage_tracker();
    let done = AtomicU64::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for caller in 0..callers {
            let (tracker, done) = (tracker.clone(), &done);
            let tenant: TenantId = format!("tenant-{}", caller % 1_000).parse().unwrap();
            scope.spawn(move || {
                while started.elapsed() < Duration::from_secs(2) {
                    let event = UsageEvent { input_tokens: Some(12), ..UsageEvent::new(tenant.clone(), "api_call") };
                    tracker.record_blocking(vec![event]).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let done = done.into_inner() as usize;
    row(&format!("record, {callers} callers"), rate(done, started.elapsed()), "one event a call, durable");
}

/// The limit: the same number of journal bytes, appended and synced batch by batch.
fn raw_append(folder: &std::path::Path, events: usize) {
    let block = vec![0x5au8; 38 * BATCH];
    let mut file = std::fs::File::create(folder.join("raw")).unwrap();
    let started = Instant::now();
    for _ in 0..events / BATCH {
        file.write_all(&block).unwrap();
        file.sync_data().unwrap();
    }
    row("raw append + fdatasync", rate(events, started.elapsed()), "38 B an event, the disk's limit");
}

/// Made-up traffic from a seeded generator.
struct Traffic {
    state: u64,
    now: Timestamp,
    made: usize,
    tenants: Vec<TenantId>,
}

impl Traffic {
    fn new(tenants: usize, now: Timestamp) -> Self {
        let tenants = (0..tenants).map(|number| format!("tenant-{number}").parse().unwrap()).collect();
        Self { state: 42, now, made: 0, tenants }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Around `median`, with a long tail: the product of three uniform numbers.
    fn around(&mut self, median: u64) -> u64 {
        let spread = (0..3).fold(8 * median as u128, |value, _| value * u128::from(self.next() % 1_000 + 1) / 1_000);
        spread as u64 + 1
    }

    fn batch(&mut self, size: usize, total: usize) -> Vec<UsageEvent> {
        (0..size).map(|_| self.event(total)).collect()
    }

    fn event(&mut self, total: usize) -> UsageEvent {
        self.made += 1;
        // In order over two days, to the millisecond.
        let span = 2 * 86_400_000i64;
        let millis = span - span * self.made as i64 / total as i64;
        let time = self.now.plus_micros(-millis * 1_000);
        let model = (self.next() % 5) as usize;
        // A few tenants make most of the traffic.
        let share = (self.next() % 1_000) * (self.next() % 1_000) / 1_000;
        let tenant = self.tenants[share as usize * self.tenants.len() / 1_000].clone();
        let (input, output) = (self.around(1_020), self.around(129));
        let random: [u8; 10] = std::array::from_fn(|_| self.next() as u8);
        let id = uuid::Builder::from_unix_timestamp_millis((time.micros() / 1_000) as u64, &random).into_uuid();
        UsageEvent {
            event_id: Some(EventId::Uuid(id)),
            event_timestamp: Some(time),
            api_method: Some("POST".into()),
            api_endpoint: Some(["/v1/chat/completions", "/v1/embeddings"][usize::from(model == 4)].into()),
            api_status_code: Some(if self.next().is_multiple_of(100) { 500 } else { 200 }),
            api_response_time_ms: Some((output * 9 + self.next() % 200) as u32),
            model: Some(["gpt-large", "gpt-small", "claude", "mistral", "embed"][model].into()),
            input_tokens: Some(input),
            output_tokens: Some(output),
            cost_usd: Some(Money::from_femtos(u128::from(input * 150 + output * 600) * 1_000_000)),
            ..UsageEvent::new(tenant, ["chat_message", "embedding"][usize::from(model == 4)])
        }
    }
}
