//! The parts, one by one: nanoseconds an event (or a value), on one thread, in memory where they touch the store.

use std::hint::black_box;
use std::time::Instant;

use metergate::domain::compact_event::CompactEvent;
use metergate::domain::metrics::Rollup;
use metergate::domain::sketch::Sketch;
use metergate::domain::tenant::Tenant;
use metergate::domain::time::Timestamp;
use metergate::http::wire::event::EventDraft;
use metergate::rules::rollup::count_event;
use metergate::store::{Commit, Store, StoredEvent, prepare_runs};
use serde_json::{Map, Value, json};

use crate::bench::now;
use crate::traffic::arguments::Arguments;
use crate::traffic::{DAY, Templates, Traffic, Wanted, event_json, tenants, usage_event};

const COMMIT: usize = 1_000;
/// A generation: what one filing takes.
const FILED: usize = 50_000;

/// All of them, once each.
pub fn all(arguments: &Arguments) -> Value {
    let number: u32 = arguments.number("tenants");
    let (templates, names) = (Templates::load(), tenants(number));
    let wanted = Wanted { events: FILED, tenants: number, end: now(), span: DAY / 2, v7: true, seed: 9 };
    let happenings: Vec<_> = Traffic::new(&templates, wanted).collect();
    let stored: Vec<StoredEvent> = (1..)
        .zip(&happenings)
        .map(|(entry_id, happening)| {
            let mut event = usage_event(happening, &names);
            StoredEvent {
                tenant_no: happening.tenant_no,
                entry_id,
                created_at: Timestamp::from_micros(now()),
                event_timestamp: Timestamp::from_micros(happening.micros),
                event_id: event.event_id.take().unwrap(),
                event_id_given: true,
                event: CompactEvent::from_usage(event),
            }
        })
        .collect();
    let mut parts = Map::new();
    let mut timed = |name: &str, items: usize, work: &mut dyn FnMut()| {
        work();
        let started = Instant::now();
        work();
        parts.insert(name.to_owned(), json!(started.elapsed().as_secs_f64() * 1e9 / items as f64));
    };

    let bodies: Vec<String> =
        happenings.chunks(500).map(|batch| Value::Array(batch.iter().map(event_json).collect()).to_string()).collect();
    timed("read JSON, batches of 500", FILED, &mut || {
        for body in &bodies {
            let drafts = EventDraft::read_batch(body.as_bytes()).unwrap();
            drafts.into_iter().for_each(|draft| drop(black_box(draft.unwrap().finish().unwrap())));
        }
    });

    let mut seq = 0;
    let store = Store::in_memory([7; 32], uuid::Uuid::from_u128(7)).unwrap();
    let mut write = store.begin().unwrap();
    for (no, name) in (0..).zip(&names) {
        let tenant = Tenant::new(name.clone(), "pro", chrono_tz::UTC, Timestamp::from_micros(now()));
        write.put_tenant(no, &tenant).unwrap();
    }
    write.commit().unwrap();
    let commits: Vec<Vec<StoredEvent>> = stored.chunks(COMMIT).map(<[_]>::to_vec).collect();
    timed("journal append, 1,000 a commit", FILED, &mut || {
        for events in &commits {
            seq += 1;
            let (committed_at, first_entry_id) = (Timestamp::from_micros(now()), seq * COMMIT as u64);
            let events = events.clone();
            let commit =
                Commit { seq, committed_at, first_entry_id, entries: COMMIT as u64, events, operations: vec![] };
            let mut write = store.begin().unwrap();
            write.put_commit(&commit).unwrap();
            write.commit().unwrap();
        }
    });
    timed("journal read", 2 * FILED, &mut || {
        let each = |commit| {
            black_box::<Commit>(commit);
            std::ops::ControlFlow::Continue(())
        };
        store.snapshot().unwrap().commits_after(0, each).unwrap();
    });

    timed("filing: sort, encode, compress", FILED, &mut || drop(black_box(prepare_runs(&stored).unwrap())));
    let runs = prepare_runs(&stored).unwrap();
    let mut run = 0;
    timed("filing: the write", FILED, &mut || {
        run += 1;
        let mut write = store.begin().unwrap();
        runs.iter().for_each(|prepared| write.put_run(run, prepared).unwrap());
        write.commit().unwrap();
    });
    timed("segment read", FILED, &mut || {
        let snapshot = store.snapshot().unwrap();
        let mut seen = 0;
        runs.iter().for_each(|prepared| {
            snapshot
                .run_events(prepared.day, &[1], |event| {
                    black_box(event);
                    seen += 1;
                })
                .unwrap();
        });
        assert_eq!(seen, FILED);
    });

    let mut rollups = vec![Rollup::default(); number as usize];
    timed("roll-up", FILED, &mut || {
        stored.iter().for_each(|stored| count_event(&mut rollups[stored.tenant_no as usize], &stored.event, None));
    });
    let mut sketch = Sketch::default();
    timed("sketch, one value", FILED, &mut || {
        stored.iter().for_each(|stored| sketch.add(stored.event.api_response_time_ms().unwrap_or(0)));
    });
    timed("sketch, one merge", 1_000, &mut || {
        for _ in 0..1_000 {
            let mut sum = sketch.clone();
            sum.merge(&sketch);
            black_box(sum.percentile(99));
        }
    });
    Value::Object(parts)
}
