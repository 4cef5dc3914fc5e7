//! Defects that were found by reading the engine against its specification; each stays fixed.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::quota::QuotaType;
use metergate::domain::tenant::{TenantChange, TenantId, TenantPut};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, Timestamp};
use metergate::tenants::Actor;

const NOON: &str = "2026-11-24T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// An engine on a clock that the test owns.
fn open(folder: &Path, now: Timestamp) -> (Metergate, Clock) {
    let clock = Clock::manual(now);
    let engine = Metergate::open_at(EngineSettings::new(folder), |_| clock.clone()).unwrap();
    (engine, clock)
}

fn event(tenant_id: &str, id: &str, time: Timestamp, tokens: u64) -> UsageEvent {
    UsageEvent {
        event_id: Some(id.parse().unwrap()),
        event_timestamp: Some(time),
        input_tokens: Some(tokens),
        ..UsageEvent::new(tenant(tenant_id), "api_call")
    }
}

#[test]
fn a_repeat_is_recognised_after_its_day_was_merged_more_than_once() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let tracker = engine.usage_tracker();
    for n in 0..40 {
        let one = event("acme", &format!("e{n}"), now, 1);
        assert_eq!(tracker.record_blocking(vec![one]).unwrap(), [EventOutcome::Accepted]);
        // Each aggregation files one run; more than a few runs of a day are merged behind it.
        tracker.aggregate_usage_metrics(None).unwrap();
        // Holds until the merge behind the filing is over.
        tracker.verify().unwrap();
        for earlier in 0..=n {
            let again = event("acme", &format!("e{earlier}"), now, 1);
            assert_eq!(tracker.record_blocking(vec![again]).unwrap(), [EventOutcome::Duplicate], "e{earlier} after e{n}");
        }
    }
}

#[test]
fn a_late_clean_up_forgets_no_id_of_a_later_day() {
    let folder = tempfile::tempdir().unwrap();
    let start = at(NOON);
    let (engine, clock) = open(folder.path(), start);
    let tracker = engine.usage_tracker();
    for day in 0..70 {
        tracker.record_blocking(vec![event("acme", &format!("d{day}"), clock.now(), 1)]).unwrap();
        clock.advance(MICROS_PER_DAY);
    }
    // Nobody has cleaned up for seventy days.
    tracker.aggregate_usage_metrics(None).unwrap();
    for run in 0..5 {
        assert_eq!(tracker.cleanup_old_realtime_events().unwrap().rows_removed, 1);
        for day in 41..70 {
            let again = event("acme", &format!("d{day}"), start.plus_micros(day * MICROS_PER_DAY), 1);
            assert_eq!(tracker.record_blocking(vec![again]).unwrap(), [EventOutcome::Duplicate], "d{day} after run {run}");
        }
    }
}

#[test]
fn a_zone_that_is_given_soon_after_the_first_event_does_not_move_the_window_at_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let early = at("2026-11-24T01:00:00Z");
    engine.usage_tracker().record_blocking(vec![event("acme", "early", early, 9_000)]).unwrap();
    let put = TenantChange::Put(TenantPut { zone: Some(chrono_tz::America::Santiago), ..TenantPut::default() });
    engine.tenants().change_blocking(&tenant("acme"), put, &Actor("admin".to_owned())).unwrap();
    let used = |engine: &Metergate| {
        let status = engine.quota_enforcer().get_quota_status(&tenant("acme")).unwrap();
        let tokens = status.primary(QuotaType::Tokens).unwrap();
        (tokens.used, tokens.resets_at)
    };
    let before = used(&engine);
    assert_eq!(before, (9_000, at("2026-11-25T00:00:00Z")));
    let crashed = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), crashed.path().join(entry.file_name())).unwrap();
    }
    let (after, _clock) = open(crashed.path(), now);
    assert_eq!(used(&after), before);
    engine.close();
    let (after, _clock) = open(folder.path(), now.plus_micros(MICROS_PER_HOUR));
    assert_eq!(used(&after), before);
}
