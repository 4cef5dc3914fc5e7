//! The parts of the engine by themselves, on one thread, in memory where they touch the store: `cargo bench --bench parts`.
//!
//! Each is measured over the events of one filing, so that a rate is in events a second. What they do together, and beside
//! the peers, is measured by `side_by_side`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures stops at the first thing that is wrong")]
// Shared with the harness, and not all of it is needed here.
#![allow(dead_code, unused_imports)]

#[path = "side_by_side/ours/decide.rs"]
mod decide;
#[path = "traffic/mod.rs"]
mod traffic;

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use metergate::clock::Clock;
use metergate::domain::compact_event::CompactEvent;
use metergate::domain::metrics::Rollup;
use metergate::domain::sketch::Sketch;
use metergate::domain::tenant::{Tenant, TenantId};
use metergate::domain::time::Timestamp;
use metergate::http::wire::event::EventDraft;
use metergate::rules::rollup::count_event;
use metergate::store::{Commit, Store, StoredEvent, prepare_runs};
use serde_json::Value;
use traffic::{DAY, Happening, Templates, Traffic, Wanted, event_json, tenants, usage_event};

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TENANTS: u32 = 1_000;
const COMMIT: usize = 1_000;
/// What one filing takes.
const FILED: usize = 50_000;
/// 2026-11-24T12:00:00Z
const NOW: i64 = 1_795_521_600_000_000;

struct Work {
    names: Vec<TenantId>,
    happenings: Vec<Happening>,
    stored: Vec<StoredEvent>,
}

impl Work {
    fn new() -> Self {
        let (templates, names) = (Templates::load(), tenants(TENANTS));
        let wanted = Wanted { events: FILED, tenants: TENANTS, end: NOW, span: DAY / 2, v7: true, seed: 9 };
        let happenings: Vec<_> = Traffic::new(&templates, wanted).collect();
        let stored = (1..)
            .zip(&happenings)
            .map(|(entry_id, happening)| {
                let mut event = usage_event(happening, &names);
                StoredEvent {
                    tenant_no: happening.tenant_no,
                    entry_id,
                    created_at: Timestamp::from_micros(NOW),
                    event_timestamp: Timestamp::from_micros(happening.micros),
                    event_id: event.event_id.take().unwrap(),
                    event_id_given: true,
                    event: CompactEvent::from_usage(event),
                }
            })
            .collect();
        Self { names, happenings, stored }
    }

    /// In memory, with the tenants.
    fn store(&self) -> Store {
        let store = Store::in_memory([7; 32], uuid::Uuid::from_u128(7)).unwrap();
        let mut write = store.begin().unwrap();
        for (no, name) in (0..).zip(&self.names) {
            let tenant = Tenant::new(name.clone(), "pro", chrono_tz::UTC, Timestamp::from_micros(NOW));
            write.put_tenant(no, &tenant).unwrap();
        }
        write.commit().unwrap();
        store
    }

    fn commits(&self) -> Vec<Commit> {
        let commit = |(seq, events): (u64, &[StoredEvent])| Commit {
            seq,
            committed_at: Timestamp::from_micros(NOW),
            first_entry_id: seq * COMMIT as u64,
            entries: COMMIT as u64,
            events: events.to_vec(),
            operations: Vec::new(),
        };
        (1..).zip(self.stored.chunks(COMMIT)).map(commit).collect()
    }
}

fn append(store: &Store, commits: &[Commit]) {
    for commit in commits {
        let mut write = store.begin().unwrap();
        write.put_commit(commit).unwrap();
        write.commit().unwrap();
    }
}

fn decision(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision");
    group.throughput(Throughput::Elements(1));
    for number in [10, 1_000, 100_000] {
        let gate = decide::Gate::at(Clock::system(Timestamp::default()), number, u128::MAX / 2);
        let mut round = 0;
        group.bench_function(format!("four limits, {number} tenants"), |bencher| {
            bencher.iter(|| {
                round += 1;
                assert!(gate.take(round));
            });
        });
    }
}

fn codec(criterion: &mut Criterion) {
    let work = Work::new();
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(FILED as u64)).sample_size(20);
    let batch = |happenings: &[Happening]| Value::Array(happenings.iter().map(event_json).collect()).to_string();
    let bodies: Vec<String> = work.happenings.chunks(500).map(batch).collect();
    group.bench_function("read JSON, batches of 500", |bencher| {
        bencher.iter(|| {
            for body in &bodies {
                let drafts = EventDraft::read_batch(body.as_bytes()).unwrap();
                drafts.into_iter().for_each(|draft| drop(black_box(draft.unwrap().finish().unwrap())));
            }
        });
    });
    let commits = work.commits();
    group.bench_function("journal append, 1,000 a commit", |bencher| {
        bencher.iter_batched(|| work.store(), |store| append(&store, &commits), BatchSize::PerIteration);
    });
    let journaled = work.store();
    append(&journaled, &commits);
    group.bench_function("journal read", |bencher| {
        let each = |commit| {
            black_box::<Commit>(commit);
            ControlFlow::Continue(())
        };
        bencher.iter(|| journaled.snapshot().unwrap().commits_after(0, each).unwrap());
    });
}

fn filing(criterion: &mut Criterion) {
    let work = Work::new();
    let mut group = criterion.benchmark_group("filing");
    group.throughput(Throughput::Elements(FILED as u64)).sample_size(20);
    group.bench_function("sort, encode, compress", |bencher| {
        bencher.iter(|| black_box(prepare_runs(&work.stored).unwrap()));
    });
    let runs = prepare_runs(&work.stored).unwrap();
    let file = |store: &Store| {
        let mut write = store.begin().unwrap();
        runs.iter().for_each(|prepared| write.put_run(1, prepared).unwrap());
        write.commit().unwrap();
    };
    group.bench_function("the write", |bencher| {
        bencher.iter_batched(|| work.store(), |store| file(&store), BatchSize::PerIteration);
    });
    let store = work.store();
    file(&store);
    group.bench_function("segment read", |bencher| {
        bencher.iter(|| {
            let (snapshot, mut seen) = (store.snapshot().unwrap(), 0);
            let mut each = |event| {
                black_box::<StoredEvent>(event);
                seen += 1;
            };
            runs.iter()
                .for_each(|prepared| snapshot.run_events(prepared.day, &[1], &(0..=u32::MAX), &mut each).unwrap());
            assert_eq!(seen, FILED);
        });
    });
}

fn rollup(criterion: &mut Criterion) {
    let work = Work::new();
    let mut group = criterion.benchmark_group("rollup");
    group.throughput(Throughput::Elements(FILED as u64)).sample_size(50);
    let mut rollups = vec![Rollup::default(); TENANTS as usize];
    group.bench_function("events into their tenants' hours", |bencher| {
        bencher.iter(|| {
            let count = |stored: &StoredEvent| {
                count_event(&mut rollups[stored.tenant_no as usize], &stored.event, None);
            };
            work.stored.iter().for_each(count);
        });
    });
}

fn sketch(criterion: &mut Criterion) {
    let work = Work::new();
    let mut group = criterion.benchmark_group("sketch");
    let values: Vec<u32> = work.stored.iter().filter_map(|stored| stored.event.api_response_time_ms()).collect();
    let mut sketch = Sketch::default();
    group.throughput(Throughput::Elements(values.len() as u64)).sample_size(50);
    group.bench_function("add", |bencher| bencher.iter(|| values.iter().for_each(|value| sketch.add(*value))));
    group.throughput(Throughput::Elements(1));
    group.bench_function("merge and take a percentile", |bencher| {
        bencher.iter(|| {
            let mut sum = sketch.clone();
            sum.merge(&sketch);
            black_box(sum.percentile(99))
        });
    });
}

criterion_group!(parts, decision, codec, filing, rollup, sketch);
criterion_main!(parts);
