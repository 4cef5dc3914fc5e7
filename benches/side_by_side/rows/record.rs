//! S2, S3, S4, S15: recording, durably, in process.

use super::{in_a_folder, run};
use crate::bench::Bench;
use crate::program::{Program, in_turn, median};
use crate::table::{Bar, Row};

const BATCH: usize = 1_000;
/// Callers that record batches: the prototype's four submissions in flight.
const CALLERS: usize = 4;
/// Bytes an event that the raw append writes: those of the prototype's journal.
const RAW_BYTES: usize = 38;

fn ours_in_batches(bench: &Bench, events: usize, tenants: u32) -> Program {
    let file = bench.event_file(events, tenants);
    Program::ours("record").with("events", file.display()).with("batch", BATCH).with("callers", CALLERS)
}

/// In batches of a thousand.
pub fn s2(bench: &Bench) {
    let tenants = 1_000;
    for whole in [100_000, 1_000_000, 3_000_000] {
        let at_the_bar = whole == 3_000_000;
        let bar = |bar| if at_the_bar { bar } else { Bar::None };
        let (events, of_peers) = (bench.sized(whole), bench.sized(whole.min(300_000)));
        let ours = ours_in_batches(bench, events, tenants);
        // The slow peers record the first part of the same events: theirs is a rate, too.
        let file = bench.event_file(of_peers, tenants);
        let batched = |program: Program| program.with("events", file.display()).with("batch", BATCH);
        let sqlite = bench.peer("sqlite").map(batched);
        let postgres = bench.postgres("postgres-bulk").map(batched);
        let raw = bench.peer("raw").map(|program| {
            program.with("bytes", RAW_BYTES * BATCH).with("batches", events / BATCH).with("events", events)
        });
        let [ours, raw, sqlite, postgres] = in_turn(
            bench.rounds,
            [
                &mut || in_a_folder(bench, Some(&ours)),
                &mut || in_a_folder(bench, raw.as_ref()),
                &mut || in_a_folder(bench, sqlite.as_ref()),
                &mut || run(postgres.as_ref()),
            ],
        );
        let rate = median(&ours, "rate").unwrap();
        let row = |bar| {
            let work = format!("record, {BATCH} a commit, {tenants} tenants, {CALLERS} callers, {events} events");
            Row::alone("S2", work, rate, "/s", events as u64, bar)
        };
        bench.row(row(bar(Bar::AtLeast(1.4e6))));
        bench.row(row(bar(Bar::TimesPeer(15.0))).beside("SQLite, WAL, FULL", median(&sqlite, "rate")));
        bench.row(row(Bar::None).beside("PostgreSQL, COPY", median(&postgres, "rate")));
        bench.row(row(bar(Bar::TimesPeer(0.3))).beside("raw append + fdatasync", median(&raw, "rate")));
        if at_the_bar {
            let slowest = median(&ours, "p99_ms").unwrap();
            bench.row(Row::alone("S2", "a batch's p99", slowest, "ms", events as u64, Bar::None));
            with_repeats(bench, events, tenants, rate);
        }
    }
    let events = bench.sized(3_000_000);
    let many = ours_in_batches(bench, events, 100_000);
    let answers: Vec<_> = (0..bench.rounds).map(|_| in_a_folder(bench, Some(&many))).collect();
    let rate = median(&answers, "rate").unwrap();
    bench.row(Row::alone("S2", "the same with 100,000 tenants", rate, "/s", events as u64, Bar::AtLeast(1.1e6)));
}

/// Beside a run without repeats over equally many filed events.
fn with_repeats(bench: &Bench, events: usize, tenants: u32, plain: f64) {
    let program = Program::ours("record-repeats")
        .with("events", bench.event_file(events, tenants).display())
        .with("batch", BATCH)
        .with("callers", CALLERS)
        .with("base", events / 3 / BATCH * BATCH);
    let answers: Vec<_> = (0..bench.rounds).map(|_| in_a_folder(bench, Some(&program))).collect();
    let row = Row::alone(
        "S2",
        "the same, 1 % repeats of filed events",
        median(&answers, "rate").unwrap(),
        "/s",
        events as u64,
        Bar::TimesPeer(0.8),
    );
    bench.row(row.beside("ours without repeats", Some(plain)));
}

/// One event a call.
pub fn s3(bench: &Bench) {
    let tenants = 1_000;
    let of_peer = bench.sized(40_000);
    let postgres = bench.postgres("postgres-singles");
    let postgres = postgres
        .map(|program| program.with("events", bench.event_file(of_peer, tenants).display()).with("clients", 16));
    let raw = bench
        .peer("raw")
        .map(|program| program.with("bytes", 4_096).with("batches", of_peer / 2).with("events", of_peer / 2));
    for (callers, least) in [(1, None), (64, Some(180_000.0)), (256, Some(500_000.0))] {
        let events = if callers == 1 { bench.sized(20_000) } else { bench.sized(1_000_000) };
        let file = bench.event_file(events, tenants);
        let ours = Program::ours("record-singles").with("events", file.display()).with("callers", callers);
        let [ours, raw, postgres] = in_turn(
            bench.rounds,
            [&mut || in_a_folder(bench, Some(&ours)), &mut || in_a_folder(bench, raw.as_ref()), &mut || {
                run(postgres.as_ref())
            }],
        );
        let row = |work: &str, figure: &str, unit, bar| {
            let work = format!("record, one a call, {callers} callers{work}");
            Row::alone("S3", work, median(&ours, figure).unwrap(), unit, events as u64, bar)
        };
        bench.row(row("", "rate", "/s", least.map_or(Bar::None, Bar::AtLeast)));
        bench.row(row("", "rate", "/s", Bar::None).beside("raw fdatasync one by one", median(&raw, "rate")));
        bench.row(row("", "rate", "/s", Bar::None).beside("PostgreSQL INSERT, 16 clients", median(&postgres, "rate")));
        let most = if callers == 1 { Bar::None } else { Bar::AtMost(2.0) };
        bench.row(row(", acknowledged, p50", "p50_ms", "ms", Bar::None));
        bench.row(row(", acknowledged, p99", "p99_ms", "ms", most).beside("PostgreSQL", median(&postgres, "p99_ms")));
    }
}

/// What an event weighs at rest.
pub fn s4(bench: &Bench) {
    let peers = bench.sized(300_000);
    let file = bench.event_file(peers, 1_000);
    let batched = |program: Program| program.with("events", file.display()).with("batch", BATCH);
    let sqlite = in_a_folder(bench, bench.peer("sqlite").map(batched).as_ref());
    let postgres = run(bench.postgres("postgres-bulk").map(batched).as_ref());
    for (ids, most) in [("v7", 26.0), ("v4", 32.0)] {
        for whole in [100_000, 1_000_000, 3_000_000] {
            let events = bench.sized(whole);
            let at_the_bar = whole == 3_000_000;
            let program = Program::ours("load").with("events", events).with("tenants", 1_000).with("days", 30);
            let answer = in_a_folder(bench, Some(&program.with("ids", ids)));
            let bar = if at_the_bar { Bar::AtMost(most) } else { Bar::None };
            let bytes = answer["bytes_per_event"].as_f64().unwrap();
            let row = |bar| {
                let work = format!("bytes an event in allocated pages, 30 days, {events} events, UUID{ids}");
                Row::alone("S4", work, bytes, "B", events as u64, bar)
            };
            bench.row(row(bar));
            if at_the_bar {
                bench.row(row(Bar::None).beside("SQLite", sqlite["bytes_per_event"].as_f64()));
                bench.row(row(Bar::None).beside("PostgreSQL", postgres["bytes_per_event"].as_f64()));
                for (figure, work, bar) in [
                    ("bytes_per_tenant_day", "a tenant's row of a day", Bar::AtMost(250.0)),
                    ("with_hourly", "all rows of a tenant and day, hourly ones (kept 90 days) among them", Bar::None),
                ] {
                    bench.row(Row::alone("S4", work, answer[figure].as_f64().unwrap(), "B", events as u64, bar));
                }
            }
        }
    }
}

/// Reserve and settle, 64 callers, on disks of several speeds.
pub fn s15(bench: &Bench) {
    for (sync_ms, bar) in [(0, Bar::None), (2, Bar::AtMost(10.0)), (20, Bar::None)] {
        let requests = bench.sized(if sync_ms == 20 { 12_800 } else { 64_000 });
        let program = Program::ours("reserve-settle").with("callers", 64).with("requests", requests);
        let program = program.with("sync_ms", sync_ms);
        let answers: Vec<_> = (0..bench.rounds).map(|_| in_a_folder(bench, Some(&program))).collect();
        let disk = if sync_ms == 0 { "this disk".to_owned() } else { format!("+ {sync_ms} ms a sync") };
        for (figure, bar) in [("p50_ms", Bar::None), ("p99_ms", bar)] {
            let work = format!("reserve + settle, 64 callers, {disk}, {}", figure.trim_end_matches("_ms"));
            bench.row(Row::alone("S15", work, median(&answers, figure).unwrap(), "ms", requests as u64, bar));
        }
    }
}
