//! S11 and the table of memory: what a tenant and a million events take, and whether it stops growing.

use super::door::events;
use super::{in_a_folder, reads::load};
use crate::bench::Bench;
use crate::load_generator::{Load, is_there, metergate, send};
use crate::memory::resident_mb;
use crate::program::Program;
use crate::table::{Bar, Row};

/// The most that a server took, under load, over a store that was filled before.
fn under_load(bench: &Bench, events_stored: usize, tenants: u32) -> f64 {
    let folder = bench.folder();
    load(&folder.path().join("data"), events_stored, tenants);
    let (server, address) = metergate(folder.path());
    let array = |events: &[serde_json::Value]| serde_json::Value::Array(events.to_vec()).to_string();
    let batches = events(bench, 100, array, 500);
    let content_type = "application/json";
    let load = Load { path: "/api/usage/events", content_type, bodies: batches, connections: 8 };
    send(&load, folder.path(), &address, (10.0 * bench.scale).max(2.0));
    resident_mb(&server.0.id().to_string(), "VmHWM")
}

/// 10,000 tenants and 10 million events, and smaller.
pub fn s11(bench: &Bench) {
    if !is_there(bench) {
        return;
    }
    for (whole, most) in [(100_000, None), (1_000_000, None), (10_000_000, Some(180.0))] {
        let events = bench.sized(whole);
        let mb = under_load(bench, events, 10_000);
        let work = format!("most resident memory under batches of 500, 10,000 tenants, {events} events stored");
        bench.row(Row::alone("S11", work, mb, "MB", events as u64, most.map_or(Bar::None, Bar::AtMost)));
    }
}

/// `--memory`: per tenant, per million events, and 60 simulated days of which 30 are kept.
pub fn soak(bench: &Bench) {
    let resident = |events: usize, tenants: u32| {
        let folder = bench.folder();
        let filled = load(folder.path(), events, tenants);
        let start = Program::ours("start").with("folder", folder.path().display()).with("events", &filled["events"]);
        start.with("tokens", &filled["tokens"]).run()["rss_mb"].as_f64().unwrap()
    };
    let (base, million) = (bench.sized(1_000_000), 1e6);
    let (few, many) = (resident(base, 1_000), resident(base, 100_000));
    let a_tenant = (many - few) / 99_000.0 * 1e3;
    bench.row(Row::alone("mem", "a tenant after a start", a_tenant, "kB", base as u64, Bar::None));
    let events = bench.sized(10_000_000);
    let a_million = (resident(events, 1_000) - few) / ((events - base) as f64 / million);
    bench.row(Row::alone("mem", "a million events after a start", a_million, "MB", events as u64, Bar::None));

    let each = bench.sized(100_000);
    let program = Program::ours("retention").with("events", each).with("tenants", 1_000).with("days", 60);
    let answer = in_a_folder(bench, Some(&program));
    let days = answer["days"].as_array().unwrap();
    let on = |number: u64| days.iter().find(|day| day["day"] == number).unwrap();
    for day in days {
        // Before day 30 it grows; then memory and pages stop. redb doubles its file, and has done so by day 40.
        for (figure, name, full) in
            [("file_mb", "file", 40), ("events_mb", "allocated pages without rows", 30), ("rss_mb", "resident", 30)]
        {
            let work = format!("soak, day {}, {name}", day["day"]);
            let bar = if day["day"].as_u64() > Some(full) { Bar::MostTimesPeer(1.15) } else { Bar::None };
            let row = Row::alone("mem", work, day[figure].as_f64().unwrap(), "MB", 60 * each as u64, bar);
            bench.row(row.beside(&format!("ours on day {full}"), on(full)[figure].as_f64()));
        }
    }
}
