//! S9, S12: what happens in the background, and how long it makes a caller wait.

use serde_json::Value;

use super::{in_a_folder, run};
use crate::bench::Bench;
use crate::program::{Program, in_turn, median};
use crate::table::{Bar, Row};

/// Aggregating, and again.
pub fn s9(bench: &Bench) {
    let tenants = 1_000;
    for whole in [100_000, 1_000_000, 3_000_000] {
        let (events, of_peer) = (bench.sized(whole), bench.sized(whole.min(300_000)));
        let bar = |bar| if whole == 3_000_000 { bar } else { Bar::None };
        let ours = Program::ours("aggregate").with("events", bench.event_file(events, tenants).display());
        let postgres = bench.postgres("postgres-aggregate");
        let postgres = postgres.map(|program| program.with("events", bench.event_file(of_peer, tenants).display()));
        let [ours, postgres] =
            in_turn(bench.rounds, [&mut || in_a_folder(bench, Some(&ours)), &mut || run(postgres.as_ref())]);
        let row = |work: &str, figure: &str, unit, bar| {
            let work = format!("{work}, {events} events of two days");
            Row::alone("S9", work, median(&ours, figure).unwrap(), unit, events as u64, bar)
        };
        let peer = "PostgreSQL INSERT..SELECT";
        bench.row(row("aggregate", "rate", "/s", bar(Bar::AtLeast(2e6))).beside(peer, median(&postgres, "rate")));
        bench.row(
            row("aggregate again", "again_rate", "/s", bar(Bar::AtLeast(2e6)))
                .beside(peer, median(&postgres, "again_rate")),
        );
        let work = format!("slowest record meanwhile, {events} events of two days");
        pause_rows(bench, "S9", &work, &ours, events as u64, bar(Bar::AtMost(20.0)));
    }
}

/// The slowest record, and what it waited for.
fn pause_rows(bench: &Bench, id: &'static str, work: &str, answers: &[Value], n: u64, bar: Bar) {
    let ms = |answer: &Value| answer["slowest"]["ms"].as_f64().unwrap();
    let mut answers: Vec<&Value> = answers.iter().collect();
    answers.sort_unstable_by(|one, other| ms(one).total_cmp(&ms(other)));
    let middle = answers[answers.len() / 2];
    let idle = middle["idle"]["ms"].as_f64();
    bench.row(Row::alone(id, work, ms(middle), "ms", n, bar).beside("ours while nothing else runs", idle));
    for (part, figure) in
        [("the disk's syncs", "sync_ms"), ("no core for the writer", "no_core_ms"), ("the writer at work", "work_ms")]
    {
        let work = format!("of it: {part}");
        let row = Row::alone(id, work, middle["slowest"][figure].as_f64().unwrap(), "ms", n, Bar::None);
        bench.row(row.beside("ours while nothing else runs", middle["idle"][figure].as_f64()));
    }
}

/// A day in, a day out, for 60 days.
pub fn s12(bench: &Bench) {
    let events = bench.sized(333_000);
    let program = Program::ours("retention").with("events", events).with("tenants", 10_000).with("days", 60);
    let answer = in_a_folder(bench, Some(&program));
    let n = 60 * events as u64;
    let row = |work: &str, figure: &str, bar| Row::alone("S12", work, answer[figure].as_f64().unwrap(), "ms", n, bar);
    let work = "retention, slowest record while a day of 30 is removed";
    pause_rows(bench, "S12", work, std::slice::from_ref(&answer), n, Bar::AtMost(10.0));
    bench.row(row("retention, the run itself", "removal_ms", Bar::None));
    let on = |day: u64| {
        let days = answer["days"].as_array().unwrap();
        days.iter().find(|of| of["day"] == day).and_then(|of| of["events_mb"].as_f64()).unwrap()
    };
    // The most of any tenth day from day 30 on.
    let most = [40, 50, 60].map(on).into_iter().fold(0.0, f64::max);
    let row = Row::alone(
        "S12",
        "allocated pages, the most after day 30, metrics rows apart",
        most,
        "MB",
        n,
        Bar::MostTimesPeer(1.1),
    );
    bench.row(row.beside("ours on day 30", Some(on(30))));
}
