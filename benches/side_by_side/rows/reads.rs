//! S8, S10, S14: reading and starting over stores that were filled before.

use std::path::Path;

use serde_json::Value;

use super::run;
use crate::bench::Bench;
use crate::program::{Program, median};
use crate::table::{Bar, Row};

/// Fills a store with 30 days.
pub fn load(folder: &Path, events: usize, tenants: u32) -> Value {
    Program::ours("load")
        .with("folder", folder.display())
        .with("events", events)
        .with("tenants", tenants)
        .with("days", 30)
        .with("ids", "v7")
        .run()
}

fn over(folder: &Path, work: &str) -> Program {
    Program::ours(work).with("folder", folder.display())
}

/// One tenant's 30 days; the tenants grow with the events, so that rows are of equal size.
pub fn s8(bench: &Bench) {
    let file = bench.event_file(bench.sized(300_000), 300);
    let postgres =
        bench.postgres("postgres-usage").map(|program| program.with("events", file.display()).with("tenants", 300));
    let postgres = run(postgres.as_ref());
    let mut times = Vec::new();
    for (events, tenants) in [(100_000, 100), (1_000_000, 1_000), (10_000_000, 10_000)] {
        let (events, folder) = (bench.sized(events), bench.folder());
        load(folder.path(), events, tenants);
        let program = over(folder.path(), "usage").with("tenants", tenants);
        let answers: Vec<_> = (0..bench.rounds).map(|_| program.run()).collect();
        let (p50, p99) = (median(&answers, "p50_ms").unwrap(), median(&answers, "p99_ms").unwrap());
        let bar = if tenants == 10_000 { Bar::AtMost(0.3) } else { Bar::None };
        let work = format!("usage of a tenant, 30 days, {tenants} tenants, {events} events");
        let row = Row::alone("S8", format!("{work}, p50"), p50, "ms", events as u64, bar);
        bench.row(row.beside("PostgreSQL, two days of 1,000 events", postgres["p50_ms"].as_f64()));
        bench.row(Row::alone("S8", format!("{work}, p99"), p99, "ms", events as u64, Bar::None));
        times.push(p50);
    }
    let row = Row::alone(
        "S8",
        "the same, the most events",
        times[2],
        "ms",
        bench.sized(10_000_000) as u64,
        Bar::MostTimesPeer(1.3),
    );
    bench.row(row.beside("ours with a tenth of events", Some(times[1])));
}

/// After a stop, and after a kill.
pub fn s10(bench: &Bench) {
    let tenants = 10_000;
    for whole in [100_000, 1_000_000, 10_000_000] {
        let (loaded, folder) = (bench.sized(whole), bench.folder());
        let filled = load(folder.path(), loaded, tenants);
        let (mut events, mut tokens) = (filled["events"].as_u64().unwrap(), filled["tokens"].as_u64().unwrap());
        let bar = if whole == 10_000_000 { Bar::AtMost(1_000.0) } else { Bar::None };
        let start =
            |events: u64, tokens: u64| over(folder.path(), "start").with("events", events).with("tokens", tokens).run();
        let stopped: Vec<_> = (0..bench.rounds).map(|_| start(events, tokens)).collect();
        let mut killed = Vec::new();
        for seed in 0..bench.rounds {
            let more = 30_000;
            let dirty =
                over(folder.path(), "dirty").with("events", more).with("tenants", tenants).with("seed", 500 + seed);
            let (running, line) = dirty.start();
            tokens += serde_json::from_str::<Value>(&line).unwrap()["tokens"].as_u64().unwrap();
            events += more;
            // Kill -9.
            drop(running);
            killed.push(start(events, tokens));
        }
        for (after, answers) in [("a stop", &stopped), ("kill -9", &killed)] {
            let (ms, work) = (median(answers, "ms").unwrap(), format!("ready after {after}, {loaded} events"));
            bench.row(Row::alone("S10", work, ms, "ms", loaded as u64, bar));
        }
    }
}

/// The admin's first page.
pub fn s14(bench: &Bench) {
    for (tenants, most) in [(1_000, None), (10_000, Some(50.0)), (100_000, Some(500.0))] {
        // Each tenant on about every day.
        let events = bench.sized((tenants as usize * 60).max(100_000));
        let folder = bench.folder();
        load(folder.path(), events, tenants);
        let answers: Vec<_> = (0..bench.rounds).map(|_| over(folder.path(), "overview").run()).collect();
        let work = format!("overview, 30 days, top 10, exceeding, {tenants} tenants");
        let bar = most.map_or(Bar::None, Bar::AtMost);
        let first = median(&answers, "first_ms").unwrap();
        bench.row(Row::alone("S14", format!("{work}, the first"), first, "ms", events as u64, bar));
        let p50 = median(&answers, "p50_ms").unwrap();
        bench.row(Row::alone("S14", format!("{work}, p50"), p50, "ms", events as u64, Bar::None));
    }
}
