//! `--growth`: what a decision, a record, a read, a start and a removal cost as events and tenants grow.

use super::{in_a_folder, reads::load};
use crate::bench::Bench;
use crate::program::Program;
use crate::table::{Bar, Row};

/// One row for each size and cost; what grows faster than it must is a defect.
pub fn growth(bench: &Bench) {
    for tenants in [10, 1_000, 100_000] {
        let rounds = bench.sized(1_000_000);
        let decide = Program::ours("decide").with("tenants", tenants).with("rounds", rounds).run();
        let work = format!("a decision, {tenants} tenants");
        bench.row(Row::alone("grow", work, decide["ns"].as_f64().unwrap(), "ns", rounds as u64, Bar::None));
        for events in [10_000, 100_000, 1_000_000, 10_000_000] {
            let events = bench.sized(events);
            let folder = bench.folder();
            let filled = load(folder.path(), events, tenants);
            let over = |work: &str| Program::ours(work).with("folder", folder.path().display());
            let of = format!("{events} events, {tenants} tenants");
            let row = |work: &str, figure: f64, unit| {
                bench.row(Row::alone("grow", format!("{work}, {of}"), figure, unit, events as u64, Bar::None));
            };
            row("a record, in batches of 1,000", 1e9 / filled["rate"].as_f64().unwrap(), "ns");
            let read = over("usage").with("tenants", tenants).run();
            row("usage of a tenant, 30 days, p50", read["p50_ms"].as_f64().unwrap(), "ms");
            row("rows in that answer", read["rows"].as_f64().unwrap(), "");
            let start = over("start").with("events", &filled["events"]).with("tokens", &filled["tokens"]).run();
            row("a start", start["ms"].as_f64().unwrap(), "ms");
            drop(folder);
            let days = Program::ours("retention").with("events", events.div_ceil(30)).with("tenants", tenants);
            let removal = in_a_folder(bench, Some(&days.with("days", 33)));
            row("retention of a day of 30", removal["removal_ms"].as_f64().unwrap(), "ms");
            row("slowest record meanwhile", removal["slowest"]["ms"].as_f64().unwrap(), "ms");
        }
    }
}
