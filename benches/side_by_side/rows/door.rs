//! S5, S6, S7: over HTTP, beside an empty handler on the same server stack.

use serde_json::{Value, json};

use super::run;
use crate::bench::{Bench, now};
use crate::load_generator::{Load, empty_handler, get, is_there, metergate, post, send};
use crate::program::{in_turn, median};
use crate::table::{Bar, Row};
use crate::traffic::{DAY, Traffic, Wanted, event_json, tenant};

const SECONDS: f64 = 5.0;
const TENANTS: u32 = 1_000;

/// Events of the traces, `size` a body, so many bodies.
pub fn events(bench: &Bench, bodies: usize, write: impl Fn(&[Value]) -> String, size: usize) -> Vec<String> {
    let wanted = Wanted { events: bodies * size, tenants: TENANTS, end: now(), span: DAY, v7: true, seed: 5 };
    let events: Vec<Value> = Traffic::new(&bench.templates, wanted).map(|happening| event_json(&happening)).collect();
    events.chunks(size).map(write).collect()
}

/// Ours, started anew. `each` is how many events a request records.
fn once(bench: &Bench, load: &Load, each: u64) -> Value {
    let folder = bench.folder();
    let (_server, address) = metergate(folder.path());
    if each == 0 {
        // Who asks has used something before: an unknown tenant is looked at as a new one, which is made for each answer.
        let event = |no| json!({ "tenant_id": tenant(no).as_str(), "event_type": "api_call" });
        post(&address, "/api/usage/events", &(0..TENANTS).map(event).collect());
    }
    let answer = send(load, folder.path(), &address, seconds(bench));
    if each > 0 {
        let summary = &get(&address, "/api/admin/usage?metric=all&period=daily")["summary"];
        let (counted, sent) = (summary["total_api_calls"].as_u64().unwrap(), answer["requests"].as_u64().unwrap());
        // wrk leaves without the answers that are on their way when its time is up.
        let most = (sent + u64::from(load.connections)) * each;
        assert!((sent * each..=most).contains(&counted), "{counted} events counted of {sent} requests");
    }
    answer
}

/// Ours and the empty handler in turn; for a path that it has not, ours alone.
fn measure(bench: &Bench, load: &Load, each: u64, empty_path: Option<&'static str>) -> [Vec<Value>; 2] {
    let mut empty = || {
        let Some(path) = empty_path else { return Value::Null };
        let Some((_server, address)) = empty_handler(bench) else { return Value::Null };
        let load = Load { path, bodies: load.bodies.clone(), ..*load };
        send(&load, bench.folder().path(), &address, seconds(bench))
    };
    in_turn(bench.rounds, [&mut || once(bench, load, each), &mut empty])
}

fn seconds(bench: &Bench) -> f64 {
    (SECONDS * bench.scale).max(1.0)
}

fn rows(bench: &Bench, id: &'static str, work: &str, [ours, empty]: &[Vec<Value>; 2], times: f64) {
    let n = median(ours, "requests").unwrap() as u64;
    let row = |work: String, figure: &str, unit, bar| Row::alone(id, work, median(ours, figure).unwrap(), unit, n, bar);
    let peer = "empty axum handler";
    bench.row(row(work.to_owned(), "rate", "/s", Bar::TimesPeer(times)).beside(peer, median(empty, "rate")));
    bench.row(row(format!("{work}, p50"), "p50_ms", "ms", Bar::None).beside(peer, median(empty, "p50_ms")));
    bench.row(row(format!("{work}, p99"), "p99_ms", "ms", Bar::AtMost(5.0)).beside(peer, median(empty, "p99_ms")));
}

/// One durable event a request.
pub fn s5(bench: &Bench) {
    if !is_there(bench) {
        return;
    }
    let bodies = events(bench, 10_000, |events| events[0].to_string(), 1);
    let load = Load { path: "/api/usage/events", content_type: "application/json", bodies, connections: 64 };
    let answers = measure(bench, &load, 1, Some(load.path));
    rows(bench, "S5", "POST one durable event, 64 connections", &answers, 0.6);
}

/// A check, and a durable reserve.
pub fn s6(bench: &Bench) {
    if !is_there(bench) {
        return;
    }
    let calls = bench.sized(20_000);
    for (path, function, times) in
        [("/api/quota/check", "check_tenant_quota", 0.85), ("/api/quota/reserve", "take_quota", 0.6)]
    {
        let items = json!([
            { "quota_type": "tokens", "amount": 1_200 }, { "quota_type": "api_calls", "amount": 1 },
            { "quota_type": "chat_messages", "amount": 1 },
        ]);
        let body = |no: u32| json!({ "tenant_id": tenant(no * 7_919 % TENANTS).as_str(), "items": items }).to_string();
        let load =
            Load { path, content_type: "application/json", bodies: (0..10_000).map(body).collect(), connections: 64 };
        let postgres = bench.postgres("postgres-function").map(|program| {
            program.with("name", function).with("clients", 16).with("tenants", TENANTS).with("calls", calls)
        });
        let answers = measure(bench, &load, 0, Some(path));
        let work = format!("POST {path}, 64 connections");
        rows(bench, "S6", &work, &answers, times);
        let (rate, n) = (median(&answers[0], "rate").unwrap(), median(&answers[0], "requests").unwrap());
        let postgres = run(postgres.as_ref());
        let row = Row::alone("S6", work, rate, "/s", n as u64, Bar::None);
        bench.row(row.beside("PostgreSQL function, 16 clients", postgres["rate"].as_f64()));
    }
}

/// Batches of 500, and streams of lines.
pub fn s7(bench: &Bench) {
    if !is_there(bench) {
        return;
    }
    let array = |events: &[Value]| Value::Array(events.to_vec()).to_string();
    let lines = |events: &[Value]| events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let batches = events(bench, 100, array, 500);
    let streams = events(bench, 20, lines, 5_000);
    for (work, content_type, bodies, each) in [
        ("POST batches of 500, JSON, 8 connections", "application/json", batches, 500),
        ("POST streams of 5,000 lines, NDJSON, 8 connections", "application/x-ndjson", streams, 5_000),
    ] {
        let load = Load { path: "/api/usage/events", content_type, bodies, connections: 8 };
        let json = content_type == "application/json";
        let [ours, empty] = measure(bench, &load, each, json.then_some("/batch/api/usage/events"));
        let n = median(&ours, "requests").unwrap() as u64 * each;
        let rate = median(&ours, "rate").unwrap() * each as f64;
        let row = |bar| Row::alone("S7", format!("{work}, events"), rate, "/s", n, bar);
        bench.row(row(Bar::AtLeast(400_000.0)));
        if json {
            let theirs = median(&empty, "rate").map(|rate| rate * each as f64);
            bench.row(row(Bar::None).beside("empty axum handler", theirs));
        }
        let p99 = median(&ours, "p99_ms").unwrap();
        bench.row(Row::alone("S7", format!("{work}, a request's p99"), p99, "ms", n, Bar::None));
    }
}
