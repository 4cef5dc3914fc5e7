//! The jobs: remembered, caught up, never twice at once, and held back while the clock is in doubt; `/metrics`, `status`.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::path::Path;

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::event::UsageEvent;
use metergate::domain::job::JobResult;
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, Timestamp};
use metergate::jobs::{JobError, JobName, Jobs};
use metergate::tracker::MaintainError;
use serde_json::json;

use support::{Server, wait_for};

const AGGREGATE: JobName = JobName::AggregateUsageMetrics;
const CLEANUP: JobName = JobName::CleanupOldRealtimeEvents;

fn open(folder: &Path, now: Timestamp) -> (Metergate, Jobs, Clock) {
    let clock = Clock::manual(now);
    let engine = Metergate::open_at(EngineSettings::new(folder), |_| clock.clone()).unwrap();
    let times = |job| if job == AGGREGATE { "5 * * * *" } else { "20 3 * * *" };
    let jobs = Jobs::new(engine.writer(), |job| times(job).parse().unwrap());
    (engine, jobs, clock)
}

fn noon() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn record_at(engine: &Metergate, time: Timestamp) {
    let mut event = UsageEvent::new("acme".parse().unwrap(), "api_call");
    event.event_timestamp = Some(time);
    engine.usage_tracker().record_blocking(vec![event]).unwrap();
}

#[test]
fn a_run_is_remembered_over_a_restart_and_a_missed_one_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, jobs, clock) = open(folder.path(), noon());
    assert_eq!(jobs.due().unwrap(), JobName::ALL, "what never ran is due");
    record_at(&engine, noon());
    assert_eq!(jobs.catch_up().unwrap(), JobName::ALL);
    assert_eq!(jobs.due().unwrap(), []);
    clock.advance(MICROS_PER_HOUR);
    assert_eq!(jobs.due().unwrap(), [AGGREGATE]);
    engine.close();

    let (engine, jobs, _clock) = open(folder.path(), noon().plus_micros(10 * MICROS_PER_HOUR));
    let last = jobs.status().unwrap()[0].last.clone().unwrap();
    assert_eq!((last.job.as_str(), last.result, last.started), (AGGREGATE.name(), JobResult::Success, noon()));
    assert_eq!((last.rows, last.last_success, last.failures), (3, Some(noon()), 0));
    assert_eq!(jobs.catch_up().unwrap(), [AGGREGATE]);
    assert_eq!(jobs.status().unwrap()[0].last.as_ref().unwrap().started, engine.now());
    engine.close();
}

#[test]
fn after_a_long_pause_retention_waits_for_a_confirmed_clock_and_then_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, jobs, clock) = open(folder.path(), noon());
    for _ in 0..4 {
        record_at(&engine, engine.now());
        clock.advance(MICROS_PER_DAY);
    }
    jobs.catch_up().unwrap();
    engine.close();

    let later = noon().plus_micros(35 * MICROS_PER_DAY);
    for restart in 0..2 {
        let (engine, jobs, _clock) = open(folder.path(), later.plus_micros(restart * MICROS_PER_HOUR));
        let refused = jobs.run_due(CLEANUP).unwrap_err();
        assert_eq!(refused, JobError::Failed(MaintainError::ClockUnconfirmed), "start {restart}");
        assert!(jobs.run_due(AGGREGATE).is_ok(), "nothing else waits");
        let last = jobs.status().unwrap()[1].last.clone().unwrap();
        assert_eq!((last.result, last.failures), (JobResult::Failure, restart as u64 + 1));
        assert!(jobs.alarms().iter().any(|alarm| alarm.code == "clock_unconfirmed"));
        engine.close();
    }

    let (engine, jobs, _clock) = open(folder.path(), later.plus_micros(3 * MICROS_PER_HOUR));
    assert!(jobs.confirm_clock().unwrap());
    assert!(!jobs.confirm_clock().unwrap(), "once is enough");
    assert_eq!(jobs.run_due(CLEANUP).unwrap().rows, 4, "every missed day is caught up");
    assert!(jobs.alarms().is_empty());
    engine.close();
    let (engine, jobs, _clock) = open(folder.path(), later.plus_micros(4 * MICROS_PER_HOUR));
    assert!(jobs.alarms().is_empty(), "the confirmation is remembered");
    engine.close();
}

#[test]
fn a_pause_of_two_days_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, jobs, _clock) = open(folder.path(), noon());
    jobs.catch_up().unwrap();
    engine.close();
    let (engine, jobs, _clock) = open(folder.path(), noon().plus_micros(2 * MICROS_PER_DAY));
    assert!(jobs.run_due(CLEANUP).is_ok());
    engine.close();
}

#[test]
fn the_schedule_runs_a_job_every_second_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Metergate::open(folder.path()).unwrap();
    let jobs = Jobs::new(engine.writer(), |_| "* * * * * *".parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let scheduled = runtime.block_on(jobs.schedule()).unwrap();
    let started = || jobs.status().unwrap()[0].last.clone().map(|last| last.started);
    let first = wait_for("the first run", 20, started);
    let second = wait_for("a second run", 20, || started().filter(|later| *later > first));
    assert!(second.micros_since(first) > 0 && jobs.status().unwrap()[0].next.is_some());
    runtime.block_on(scheduled.stop());
    assert!(jobs.status().unwrap()[0].next.is_none(), "a stopped schedule promises nothing");
    engine.close();
}

#[test]
fn jobs_metrics_and_status_over_http_and_the_command_line() {
    let server = Server::start();
    let event = json!({"tenant_id": "acme", "event_type": "api_call", "event_id": "one"});
    server.record(&event);
    assert_eq!(server.post("/api/usage/events", &event).expect(200)["duplicates"], 1);
    server.post("/api/admin/jobs", &json!({"job": "aggregate_usage_metrics"})).expect(200);
    let jobs = wait_for("both jobs ran", 20, || {
        let jobs = server.get("/api/admin/jobs").expect(200);
        jobs["jobs"].as_array().unwrap().iter().all(|job| job["result"] == "success").then_some(jobs)
    });
    assert!(jobs["jobs"][0]["next_run"].is_string() && jobs["alarms"] == json!([]), "{jobs}");
    let confirmed = server.post("/api/admin/jobs", &json!({"job": "confirm_clock"})).expect(200);
    assert_eq!(confirmed["was_waiting"], false);

    let text = server.get("/metrics").text;
    for line in [
        "metergate_events_total{outcome=\"recorded\"} 1",
        "metergate_events_total{outcome=\"duplicate\"} 1",
        "metergate_tenants 1",
        "metergate_writer_ready 1",
        "metergate_clock_unconfirmed 0",
        "metergate_http_requests_total{method=\"POST\",route=\"/api/usage/events\",status=\"2xx\"} 2",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("acme"), "no tenant is a label");
    is_the_table_of_metrics(&text);

    for (arguments, shown) in [
        (&["status"][..], "events today (UTC)"),
        (&["jobs"], "aggregate_usage_metrics"),
        (&["jobs", "run", "aggregate_usage_metrics"], "rows written"),
        (&["jobs", "confirm-clock"], "nothing was waiting"),
    ] {
        let arguments = [arguments, &["--server", &server.url]].concat();
        let out = support::cli_ok(&arguments);
        assert!(out.contains(shown), "{arguments:?}: {out}");
    }
    let status = server.get("/api/admin/status").expect(200);
    assert_eq!((&status["ready"], &status["tenants"], &status["events_today"]), (&json!(true), &json!(1), &json!(1)));
}

/// What `/metrics` answers is the table of metrics, no more and no less: names, types, texts and labels.
fn is_the_table_of_metrics(text: &str) {
    let table = metergate::http::metrics_table();
    let families: Vec<String> = text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect();
    let expected: Vec<String> = table
        .iter()
        .flat_map(|info| [format!("# HELP {} {}", info.name, info.help), format!("# TYPE {} {}", info.name, info.kind)])
        .collect();
    assert_eq!(families, expected, "/metrics against src/http/metrics_table.rs");
    let mut sampled = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split([' ', '{']).next().unwrap();
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is = |name: &str| table.iter().find(|info| info.name == name).copied();
        let info = bare.and_then(is).or(is(name)).unwrap_or_else(|| panic!("{line}"));
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
        let labels: Vec<&str> = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0)).collect();
        let labels: Vec<&str> = labels.into_iter().filter(|label| *label != "le").collect();
        assert_eq!(labels, info.labels, "{line}");
        sampled.insert(info.name);
    }
    // This server has no ceilings and no upstreams; those of servers that have are in tests/alerts.rs and tests/gateway.
    let absent =
        |name: &str| ["metergate_platform_", "metergate_gateway_upstream_"].iter().any(|of| name.starts_with(of));
    let told = |name: &str| sampled.contains(name) || absent(name);
    let silent: Vec<_> = table.iter().filter(|info| !told(info.name)).map(|info| info.name).collect();
    assert!(silent.is_empty(), "no samples of {silent:?}");
}

#[test]
fn metrics_ask_for_the_key_unless_a_setting_opens_them() {
    let mut server = Server::stopped();
    let bare =
        |server: &Server| ureq::get(format!("{}/metrics", server.url)).call().map(|answer| answer.status().as_u16());
    server.start_again();
    assert!(matches!(bare(&server), Err(ureq::Error::StatusCode(401))));
    server.stop();
    std::fs::write(server.data_dir().join("metergate.toml"), "[metrics]\nopen = true\n").unwrap();
    server.start_again();
    assert!(matches!(bare(&server), Ok(200)));
}
