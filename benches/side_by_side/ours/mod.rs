//! What a child of the harness does: one piece of our own work, in a process of its own.

mod aggregate;
mod decide;
mod load;
mod pages;
mod read;
mod record;
mod retention;
mod slow_disk;
mod watch;

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::tenant::TenantId;
use metergate::domain::time::{PeriodType, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;

use crate::bench::{far_plan, now};
use crate::traffic::arguments::Arguments;
use crate::traffic::{DAY, Happening, tenants, usage_event};

/// Does it and gives its answer.
pub fn run(work: &str, arguments: &Arguments) -> Value {
    match work {
        "decide" => decide::one_by_one(arguments),
        "decide-hot" => decide::hot_tenant(arguments),
        "record" => record::batches(arguments),
        "record-repeats" => record::with_repeats(arguments),
        "record-singles" => record::singles(arguments),
        "load" => load::load(arguments),
        "dirty" => load::dirty(arguments),
        "start" => read::start(arguments),
        "usage" => read::usage(arguments),
        "overview" => read::overview(arguments),
        "aggregate" => aggregate::aggregate(arguments),
        "retention" => retention::days(arguments),
        "reserve-settle" => record::reserve_and_settle(arguments),
        other => panic!("there is no work called `{other}`"),
    }
}

/// Everything as it comes, but for the plan.
fn settings(folder: &Path) -> EngineSettings {
    std::fs::create_dir_all(folder).unwrap();
    let (default_plan, plans) = far_plan(folder);
    EngineSettings { default_plan, plans_file: Some(plans), ..EngineSettings::new(folder) }
}

/// The engine over a folder, at a moment that stands still.
fn open(folder: &Path) -> Metergate {
    Metergate::open_at(settings(folder), |_| Clock::manual(Timestamp::from_micros(now()))).unwrap()
}

/// The events of the file that the harness wrote, made before anything is timed.
fn read_events(arguments: &Arguments) -> Vec<UsageEvent> {
    let file = std::fs::File::open(arguments.text("events")).unwrap();
    let lines = std::io::BufReader::new(file).lines();
    let happenings: Vec<Happening> = lines.map(|line| line.unwrap().parse().unwrap()).collect();
    let most = happenings.iter().map(|happening| happening.tenant_no).max().unwrap_or(0);
    let names: Vec<TenantId> = tenants(most + 1);
    happenings.iter().map(|happening| usage_event(happening, &names)).collect()
}

/// Records batches from so many callers, each of which waits for its own; gives each batch's nanoseconds.
fn record_all<I>(engine: &Metergate, callers: usize, batches: I, expect: impl Fn(&[EventOutcome]) + Sync) -> Vec<u64>
where
    I: Iterator<Item = Vec<UsageEvent>> + Send,
{
    let (batches, tracker) = (Mutex::new(batches), engine.usage_tracker());
    std::thread::scope(|scope| {
        let call = || {
            let mut times = Vec::new();
            loop {
                let Some(batch) = batches.lock().next() else { return times };
                let begun = Instant::now();
                let outcomes = tracker.record_blocking(batch).unwrap();
                times.push(begun.elapsed().as_nanos() as u64);
                expect(&outcomes);
            }
        };
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Registers tenants, each by an event without tokens: with its audit record, that is not what is measured.
fn register(engine: &Metergate, names: impl IntoIterator<Item = TenantId>) -> u64 {
    let mut events = names.into_iter().map(|name| UsageEvent::new(name, "api_call"));
    let mut registered = 0;
    loop {
        let batch: Vec<_> = events.by_ref().take(10_000).collect();
        if batch.is_empty() {
            return registered;
        }
        registered += batch.len() as u64;
        all_accepted(&engine.usage_tracker().record_blocking(batch).unwrap());
    }
}

/// The tenants that events name.
fn tenants_of(events: &[UsageEvent]) -> std::collections::BTreeSet<TenantId> {
    events.iter().map(|event| event.tenant_id.clone()).collect()
}

/// Panics unless all are accepted.
fn all_accepted(outcomes: &[EventOutcome]) {
    assert!(outcomes.iter().all(|outcome| *outcome == EventOutcome::Accepted), "{:?}", outcomes.first());
}

/// Panics unless the engine counts exactly these, over the 61 days before now.
fn check_totals(engine: &Metergate, events: u64, tokens: u64) {
    let (from, to) = (Timestamp::from_micros(now() - 61 * DAY), engine.now().plus_micros(DAY));
    let totals = engine.usage_tracker().get_multi_tenant_stats(PeriodType::Daily, from, to).unwrap();
    assert_eq!((totals.total_api_calls, totals.total_tokens), (events, tokens), "events and tokens counted");
}
