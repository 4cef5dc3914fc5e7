//! The engine as a library: what is acknowledged is counted, once, and is still there after a stop or a crash.

use metergate::Metergate;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::metrics::UsageMetrics;
use metergate::domain::quota::{Item, QuotaType};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_SECOND, PeriodType, Timestamp};
use metergate::enforcer::ReserveRequest;
use metergate::tracker::{ConsumerMetric, EventQuery};

use super::{NOON, at, crash_copy, open, tenant};

fn event(tenant_id: &str, id: &str, time: Timestamp, tokens: u64) -> UsageEvent {
    UsageEvent {
        event_id: Some(id.parse().unwrap()),
        event_timestamp: Some(time),
        input_tokens: Some(tokens),
        api_response_time_ms: Some((tokens % 900) as u32),
        ..UsageEvent::new(tenant(tenant_id), "api_call")
    }
}

fn all_rows(engine: &Metergate, tenant_id: &str) -> Vec<UsageMetrics> {
    let (from, to) = (Timestamp::default(), at("2027-01-01T00:00:00Z"));
    let tracker = engine.usage_tracker();
    let rows = PeriodType::ALL.map(|period| tracker.get_tenant_usage(&tenant(tenant_id), from, to, period).unwrap());
    rows.concat()
}

#[test]
fn usage_is_exact_at_once_and_the_same_after_filing_folding_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let tracker = engine.usage_tracker();
    // Three days, two tenants, some seconds busier than others, and the events of a second spread over two batches.
    let events = |half: u64| {
        (0..4_000u64).filter(move |n| n % 2 == half).map(move |n| {
            let time = now.plus_micros(-((n / 7) as i64 * 60 * MICROS_PER_SECOND) - (n % 3) as i64 * 1_000);
            event(if n % 5 == 0 { "small" } else { "large" }, &format!("e{n}"), time, n)
        })
    };
    let accepted = tracker.record_blocking(events(0).collect()).unwrap();
    assert!(accepted.iter().all(|outcome| *outcome == EventOutcome::Accepted));
    let first_half = all_rows(&engine, "large");
    tracker.aggregate_usage_metrics(None).unwrap();
    assert_eq!(all_rows(&engine, "large"), first_half, "folding changes nothing");

    tracker.record_blocking(events(1).collect()).unwrap();
    let (large, small) = (all_rows(&engine, "large"), all_rows(&engine, "small"));
    let tokens: u64 = (0..4_000).sum();
    let months = |rows: &[UsageMetrics]| {
        let monthly = rows.iter().filter(|row| row.period.period_type == PeriodType::Monthly);
        monthly.map(|row| row.total_tokens_used).sum::<u64>()
    };
    assert_eq!(months(&large) + months(&small), tokens);

    let written = tracker.aggregate_usage_metrics(None).unwrap().rows_written;
    assert!(written > 0);
    assert_eq!(all_rows(&engine, "large"), large);
    assert_eq!(tracker.aggregate_usage_metrics(None).unwrap().rows_written, 0, "twice changes nothing");
    let range = Some((now.plus_micros(-3 * MICROS_PER_DAY), now));
    assert_eq!(tracker.aggregate_usage_metrics(range).unwrap().rows_written, 0, "recomputing gives the same rows");
    assert_eq!(tracker.verify().unwrap().differences, []);

    engine.close();
    drop(engine);
    let (engine, _clock) = open(folder.path(), now);
    assert_eq!(all_rows(&engine, "large"), large);
    assert_eq!(all_rows(&engine, "small"), small);
    assert_eq!(engine.usage_tracker().verify().unwrap().differences, []);
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged_and_repeats_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let tracker = engine.usage_tracker();
    let batch = |from: u64, to: u64| -> Vec<UsageEvent> {
        (from..to)
            .map(|n| event("acme", &format!("e{n}"), now.plus_micros(-(n as i64) * MICROS_PER_SECOND), n))
            .collect()
    };
    tracker.record_blocking(batch(0, 500)).unwrap();
    tracker.aggregate_usage_metrics(None).unwrap();
    tracker.record_blocking(batch(500, 900)).unwrap();
    let reserve = ReserveRequest {
        tenant_id: tenant("acme"),
        items: vec![Item { quota_type: QuotaType::Tokens, amount: 7 }],
        ttl_seconds: Some(600),
        reservation_id: Some("r1".to_owned()),
        request_id: None,
    };
    let denied = engine.quota_enforcer().reserve_blocking(reserve.clone()).unwrap();
    assert!(!denied.decision.allowed, "404,550 tokens against a day's 10,000");
    engine.quota_enforcer().set_custom_quota(&tenant("acme"), QuotaType::Tokens, Some(1_000_000)).unwrap();
    assert!(engine.quota_enforcer().reserve_blocking(reserve.clone()).unwrap().decision.allowed);
    let before = (all_rows(&engine, "acme"), engine.quota_enforcer().get_quota_status(&tenant("acme")).unwrap());

    let crashed = crash_copy(folder.path());
    let (after, _clock) = open(crashed.path(), now);
    let status = after.quota_enforcer().get_quota_status(&tenant("acme")).unwrap();
    let tokens = status.primary(QuotaType::Tokens).unwrap();
    assert_eq!((tokens.limit, tokens.used, tokens.held), (Some(1_000_000), (0..900).sum::<u128>(), 7));
    assert_eq!(status, before.1);
    let mut rows = all_rows(&after, "acme");
    // The denial was on its way: it is durable within a second, not at once.
    rows.iter_mut().zip(&before.0).for_each(|(row, known)| {
        (row.quota_exceeded_count, row.updated_at) = (known.quota_exceeded_count, known.updated_at);
    });
    assert_eq!(rows, before.0);

    let outcomes = after.usage_tracker().record_blocking(batch(0, 1_000)).unwrap();
    let count = |wanted: &EventOutcome| outcomes.iter().filter(|outcome| *outcome == wanted).count();
    assert_eq!((count(&EventOutcome::Duplicate), count(&EventOutcome::Accepted)), (900, 100));
    let mut other = event("acme", "e3", now, 3);
    other.model = Some("another".into());
    assert_eq!(after.usage_tracker().record_blocking(vec![other]).unwrap(), [EventOutcome::Conflict]);
    assert_eq!(after.usage_tracker().verify().unwrap().differences, []);
}

#[test]
fn retention_removes_a_bounded_span_keeps_the_rows_and_forgets_the_ids() {
    let folder = tempfile::tempdir().unwrap();
    let start = at(NOON);
    let (engine, clock) = open(folder.path(), start);
    let tracker = engine.usage_tracker();
    let acme = tenant("acme");
    for day in 0..3 {
        let time = clock.now();
        tracker.record_blocking((0..10).map(|n| event("acme", &format!("d{day}-{n}"), time, 100)).collect()).unwrap();
        clock.advance(MICROS_PER_DAY);
    }
    let rows = all_rows(&engine, "acme");
    clock.advance(365 * MICROS_PER_DAY);
    assert_eq!(tracker.cleanup_old_realtime_events().unwrap().rows_removed, 0, "nothing is aggregated yet");
    tracker.aggregate_usage_metrics(None).unwrap();
    let first = tracker.cleanup_old_realtime_events().unwrap();
    assert_eq!((first.rows_removed, first.cut), (10, start.plus_micros(MICROS_PER_DAY)));
    let query =
        EventQuery { from: Timestamp::default(), to: Timestamp::MAX, event_type: None, limit: 100, after: None };
    assert_eq!(tracker.get_tenant_events(&acme, &query).unwrap().events.len(), 20);
    let daily = |engine: &Metergate| {
        let rows = all_rows(engine, "acme").into_iter();
        rows.filter(|row| row.period.period_type != PeriodType::Hourly)
            .map(|row| (row.period, row.total_tokens_used))
            .collect::<Vec<_>>()
    };
    let kept = daily(&engine);
    assert_eq!(kept.len(), rows.iter().filter(|row| row.period.period_type != PeriodType::Hourly).count());
    let mut removed = 10;
    for _ in 0..5 {
        removed += tracker.cleanup_old_realtime_events().unwrap().rows_removed;
    }
    assert_eq!(removed, 30);
    assert_eq!(tracker.get_tenant_events(&acme, &query).unwrap().events.len(), 0);
    assert_eq!(daily(&engine), kept, "rows outlive their events");
    let range = Some((start.plus_micros(-MICROS_PER_DAY), start.plus_micros(4 * MICROS_PER_DAY)));
    assert_eq!(tracker.aggregate_usage_metrics(range).unwrap().rows_written, 0, "what was taken is not recomputed");
    assert_eq!(daily(&engine), kept);
}

#[test]
fn pages_neither_skip_nor_repeat_while_events_arrive_and_are_filed() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let tracker = engine.usage_tracker();
    let acme = tenant("acme");
    let time = |n: i64| now.plus_micros(-(n / 3) * MICROS_PER_HOUR);
    tracker.record_blocking((0..100).map(|n| event("acme", &format!("e{n}"), time(n), 1)).collect()).unwrap();
    let mut query =
        EventQuery { from: Timestamp::default(), to: Timestamp::MAX, event_type: None, limit: 7, after: None };
    let mut seen = Vec::new();
    loop {
        let page = tracker.get_tenant_events(&acme, &query).unwrap();
        seen.extend(page.events.iter().map(|event| event.event_id.to_string()));
        let round = seen.len();
        tracker.record_blocking(vec![event("acme", &format!("late{round}"), time(round as i64), 1)]).unwrap();
        if round % 14 == 0 {
            tracker.aggregate_usage_metrics(None).unwrap();
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.iter().all(|id| id.starts_with('e')));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100);
}

#[test]
fn top_consumers_are_tenants_over_the_range_and_nothing_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let now = at(NOON);
    let (engine, _clock) = open(folder.path(), now);
    let tracker = engine.usage_tracker();
    let events = (0..300u64).flat_map(|n| {
        (0..3).map(move |day| {
            event(&format!("t{n:03}"), &format!("{n}-{day}"), now.plus_micros(-day * MICROS_PER_DAY), n / 2)
        })
    });
    tracker.record_blocking(events.collect()).unwrap();
    let (from, to) = (now.plus_micros(-30 * MICROS_PER_DAY), now);
    for round in 0..2 {
        let stats = tracker.get_multi_tenant_stats(PeriodType::Daily, from, to).unwrap();
        assert_eq!((stats.total_tenants, stats.total_api_calls), (300, 900), "round {round}");
        assert_eq!(stats.total_tokens, (0..300u64).map(|n| n / 2 * 3).sum::<u64>());
        let top = tracker.get_top_consumers(ConsumerMetric::Tokens, PeriodType::Daily, from, to, 3).unwrap();
        let names: Vec<_> = top.iter().map(|tenant| (tenant.tenant_id.as_str(), tenant.tokens)).collect();
        assert_eq!(names, [("t298", 447), ("t299", 447), ("t296", 444)], "ties by id");
        tracker.aggregate_usage_metrics(None).unwrap();
    }
}
