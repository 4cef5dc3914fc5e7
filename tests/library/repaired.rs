//! Defects that were found by reading the engine against its specification; each stays fixed.

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::config::EngineSettings;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::quota::QuotaType;
use metergate::domain::tenant::{TenantChange, TenantPut};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, Timestamp};
use metergate::tenants::Actor;

use super::{NOON, at, open, tenant};

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
            assert_eq!(
                tracker.record_blocking(vec![again]).unwrap(),
                [EventOutcome::Duplicate],
                "e{earlier} after e{n}"
            );
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
            assert_eq!(
                tracker.record_blocking(vec![again]).unwrap(),
                [EventOutcome::Duplicate],
                "d{day} after run {run}"
            );
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
    engine.tenants().change_blocking(&tenant("acme"), put, &Actor::named("admin")).unwrap();
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

#[test]
fn an_aggregation_ends_while_events_go_on_arriving() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let tracker = engine.usage_tracker();
    // So that there is something to aggregate, however late the threads begin.
    tracker.record_blocking(vec![event("acme", "first", now, 1)]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (tracker, stop) = (engine.usage_tracker(), &stop);
            scope.spawn(move || {
                let mut batch = 0u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let events = (0..10_000).map(|n| {
                        let time = now.plus_micros(-(n as i64) * 1_000_000);
                        event("acme", &format!("{thread}-{batch}-{n}"), time, 1)
                    });
                    tracker.record_blocking(events.collect()).unwrap();
                    batch += 1;
                }
            });
        }
        for _ in 0..3 {
            tracker.aggregate_usage_metrics(None).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let (from, to) = (now.plus_micros(-MICROS_PER_DAY), now.plus_micros(MICROS_PER_DAY));
    let month = metergate::domain::time::PeriodType::Monthly;
    let month_start = month.containing(from).start();
    let before = tracker.get_tenant_usage(&tenant("acme"), month_start, to, month).unwrap();
    tracker.aggregate_usage_metrics(Some((from, to))).unwrap();
    assert_eq!(tracker.get_tenant_usage(&tenant("acme"), month_start, to, month).unwrap(), before);
    assert_eq!(tracker.verify().unwrap().differences, []);
}

#[test]
fn closed_hours_of_a_zone_off_the_hour_say_what_was_left_of_the_quota_day() {
    let folder = tempfile::tempdir().unwrap();
    let start = at("2026-11-23T18:00:00Z");
    let (engine, clock) = open(folder.path(), start);
    let put = TenantChange::Put(TenantPut { zone: Some(chrono_tz::Asia::Kathmandu), ..TenantPut::default() });
    engine.tenants().change_blocking(&tenant("acme"), put, &Actor::named("admin")).unwrap();
    clock.advance(6 * MICROS_PER_HOUR);
    let tracker = engine.usage_tracker();
    // The quota day begins at 18:15 UTC: 100 before it, 10 and 1 in it.
    let events = [("2026-11-23T18:14:59Z", 100), ("2026-11-23T18:15:00Z", 10), ("2026-11-23T20:30:00Z", 1)];
    let events = events.map(|(time, tokens)| event("acme", time, at(time), tokens));
    tracker.record_blocking(events.to_vec()).unwrap();
    for round in ["unfiled", "filed"] {
        let hourly = metergate::domain::time::PeriodType::Hourly;
        let rows = tracker.get_tenant_usage(&tenant("acme"), start, clock.now(), hourly).unwrap();
        let left: Vec<_> = rows.iter().map(|row| row.quota_remaining).collect();
        assert_eq!(left, [Some(9_989), Some(9_990)], "{round}, newest first");
        tracker.aggregate_usage_metrics(None).unwrap();
    }
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_acknowledged_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let accepted = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (tracker, accepted) = (engine.usage_tracker(), &accepted);
            scope.spawn(move || {
                for batch in 0u64.. {
                    let events = (0..500)
                        .map(|n| event("acme", &format!("{thread}-{batch}-{n}"), now.plus_micros(-(n * 7_000_000)), 1));
                    let Ok(outcomes) = tracker.record_blocking(events.collect()) else { return };
                    assert!(outcomes.iter().all(|outcome| *outcome == EventOutcome::Accepted));
                    accepted.fetch_add(500, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        while accepted.load(std::sync::atomic::Ordering::Relaxed) < 20_000 {
            std::thread::yield_now();
        }
        engine.close();
    });
    let (again, _clock) = open(folder.path(), now);
    let month = metergate::domain::time::PeriodType::Monthly;
    let rows = again.usage_tracker().get_tenant_usage(&tenant("acme"), at("2026-11-01T00:00:00Z"), now, month).unwrap();
    let stored: u64 = rows.iter().map(|row| row.api_calls_total).sum();
    assert_eq!(stored, accepted.into_inner(), "what was not acknowledged was refused");
    assert_eq!(again.usage_tracker().verify().unwrap().differences, []);
}

#[test]
fn late_events_of_folded_hours_count_towards_the_busiest_second() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let tracker = engine.usage_tracker();
    let hours = [1, 2, 25].map(|hours| now.plus_micros(-hours * MICROS_PER_HOUR));
    for round in 0..3 {
        let events = hours.iter().flat_map(|&hour| {
            (0..=round).map(move |n| event("acme", &format!("{hour}-{round}-{n}"), hour.plus_micros(n), 1))
        });
        tracker.record_blocking(events.collect()).unwrap();
        tracker.aggregate_usage_metrics(None).unwrap();
    }
    let hourly = metergate::domain::time::PeriodType::Hourly;
    let rows = tracker.get_tenant_usage(&tenant("acme"), now.plus_micros(-2 * MICROS_PER_DAY), now, hourly).unwrap();
    let peaks: Vec<_> = rows.iter().map(|row| (row.api_calls_total, row.peak_qps)).collect();
    assert_eq!(peaks, [(6, 6.0), (6, 6.0), (6, 6.0)]);
    assert_eq!(tracker.verify().unwrap().differences, []);
}

#[test]
fn a_longer_retention_brings_back_nothing_that_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let start = at(NOON);
    let clock = Clock::manual(start);
    let open = |realtime_days: u32| {
        let settings = EngineSettings { realtime_days, ..EngineSettings::new(folder.path()) };
        Metergate::open_at(settings, |_| clock.clone()).unwrap()
    };
    let engine = open(5);
    let tracker = engine.usage_tracker();
    tracker.record_blocking(vec![event("acme", "once", start, 1)]).unwrap();
    for _ in 0..12 {
        clock.advance(MICROS_PER_DAY);
        tracker.aggregate_usage_metrics(None).unwrap();
        tracker.cleanup_old_realtime_events().unwrap();
    }
    engine.close();
    let outcomes = open(30).usage_tracker().record_blocking(vec![event("acme", "once", start, 1)]).unwrap();
    assert!(matches!(&outcomes[..], [EventOutcome::Rejected(no)] if no.code == "timestamp_too_old"), "{outcomes:?}");
}

#[test]
fn ids_that_differ_in_their_clock_alone_are_two_events_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let ids = |from: u32, to: u32| (from..to).map(|n| format!("0192f3c4-{n:04x}-7000-8000-000000000000"));
    let record = |engine: &Metergate, from, to| {
        let events = ids(from, to).map(|id| event("acme", &id, now, 1)).collect();
        engine.usage_tracker().record_blocking(events).unwrap()
    };
    let (engine, _clock) = open(folder.path(), now);
    assert_eq!(record(&engine, 0, 10), vec![EventOutcome::Accepted; 10], "in one batch");
    assert_eq!(record(&engine, 10, 20), vec![EventOutcome::Accepted; 10], "beside unfiled ones");
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    assert_eq!(record(&engine, 20, 30), vec![EventOutcome::Accepted; 10], "beside filed ones");
    assert_eq!(record(&engine, 0, 30), vec![EventOutcome::Duplicate; 30]);
    engine.close();
    drop(engine);
    let (engine, _clock) = open(folder.path(), now);
    assert_eq!(record(&engine, 30, 40), vec![EventOutcome::Accepted; 10], "after a restart");
    assert_eq!(record(&engine, 0, 40), vec![EventOutcome::Duplicate; 40]);
}
