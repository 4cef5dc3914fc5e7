//! Quota days and months follow the clocks of the tenant's zone, through the whole engine; usage rows stay UTC.

use metergate::domain::quota::{QuotaType, Window};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_SECOND, PeriodType};

use crate::{at, crash_copy, event, event_at, open, put_override, put_zone, record, reserve, rows, state, tokens};

/// Zone, an instant in the day, the end of that day, the end of the day after it.
const NIGHTS: [(&str, &str, &str, &str); 8] = [
    // Midnight is skipped: the new day begins at 01:00 and has 23 hours.
    ("America/Santiago", "2026-09-06T03:50:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"),
    // 24:00 goes back to 23:00: the Saturday has 25 hours.
    ("America/Santiago", "2026-04-05T03:30:00Z", "2026-04-05T04:00:00Z", "2026-04-06T04:00:00Z"),
    ("Africa/Cairo", "2026-04-23T21:50:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
    ("Africa/Cairo", "2026-10-29T21:30:00Z", "2026-10-29T22:00:00Z", "2026-10-30T22:00:00Z"),
    ("America/Havana", "2026-03-08T04:50:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
    // Midnight happens twice: the earlier one begins the day, which has 25 hours.
    ("America/Havana", "2026-11-01T03:50:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
    ("Asia/Kathmandu", "2026-11-24T18:05:00Z", "2026-11-24T18:15:00Z", "2026-11-25T18:15:00Z"),
    // A leap day, as the tenant of UTC lives it.
    ("UTC", "2028-02-29T23:50:00Z", "2028-03-01T00:00:00Z", "2028-03-02T00:00:00Z"),
];

#[test]
fn the_quota_is_whole_again_at_each_local_midnight_and_not_before() {
    for (zone, before, midnight, next_midnight) in NIGHTS {
        let folder = tempfile::tempdir().unwrap();
        let (engine, clock) = open(folder.path(), at(before));
        put_zone(&engine, "local", zone);
        record(&engine, vec![event("local", 9_000)]);
        assert!(reserve(&engine, "local", 1_000, 3_600).allowed, "{zone}");
        let denied = reserve(&engine, "local", 1, 60);
        assert_eq!(denied.denied_by[0].state.resets_at, at(midnight), "{zone} at {before}");

        clock.set(at(midnight).plus_micros(-1));
        assert!(!reserve(&engine, "local", 1, 60).allowed, "{zone}: not yet");
        clock.set(at(midnight));
        let granted = reserve(&engine, "local", 10_000, 3_600);
        assert!(granted.allowed, "{zone}: yesterday's use and holds do not count: {granted:?}");
        let denied = reserve(&engine, "local", 1, 60);
        assert_eq!(denied.denied_by[0].state.resets_at, at(next_midnight), "{zone}: the day after");
    }
}

#[test]
fn an_hour_that_happens_twice_belongs_to_one_quota_day_and_to_its_own_utc_hours() {
    let folder = tempfile::tempdir().unwrap();
    // Havana: 00:30 happens at 04:30Z and again at 05:30Z.
    let (engine, clock) = open(folder.path(), at("2026-11-01T04:30:00Z"));
    put_zone(&engine, "havana", "America/Havana");
    record(&engine, vec![event_at("havana", at("2026-11-01T03:59:59.999Z"), 1_000), event("havana", 4_000)]);
    clock.set(at("2026-11-01T05:30:00Z"));
    record(&engine, vec![event("havana", 5_000)]);
    assert_eq!(tokens(&engine, "havana"), (Some(10_000), 9_000, 0), "the event before midnight is yesterday's");
    let hours: Vec<_> = rows(&engine, "havana", PeriodType::Hourly)
        .iter()
        .map(|row| (row.period.start(), row.total_tokens_used))
        .collect();
    let expected = [("03", 1_000), ("04", 4_000), ("05", 5_000)];
    assert_eq!(hours, expected.map(|(hour, tokens)| (at(&format!("2026-11-01T{hour}:00:00Z")), tokens)));
    let days = rows(&engine, "havana", PeriodType::Daily);
    assert_eq!(days.iter().map(|row| row.total_tokens_used).collect::<Vec<_>>(), [10_000], "one UTC day");
}

#[test]
fn what_was_left_at_the_end_of_a_closed_period_follows_the_quota_day_of_a_zone_off_the_hour() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at("2026-11-24T18:20:00Z"));
    // The quota day begins at 18:15Z: inside an hour.
    put_zone(&engine, "kathmandu", "Asia/Kathmandu");
    let time = |text: &str| at(&format!("2026-11-24T{text}Z"));
    record(
        &engine,
        vec![
            event_at("kathmandu", time("17:30:00"), 100),
            event_at("kathmandu", time("18:14:59.999"), 1_000),
            event_at("kathmandu", time("18:15:00"), 30),
        ],
    );
    clock.set(at("2026-11-25T19:00:00Z"));
    record(&engine, vec![event_at("kathmandu", time("23:10:00"), 7)]);
    let left = |period| -> Vec<_> {
        let rows = rows(&engine, "kathmandu", period);
        rows.iter().map(|row| (row.period.start(), row.quota_limit, row.quota_remaining)).collect()
    };
    for round in ["live", "folded"] {
        let hours = left(PeriodType::Hourly);
        let expected = [("17:00:00", 9_900), ("18:00:00", 9_970), ("23:00:00", 9_963)];
        assert_eq!(hours, expected.map(|(hour, left)| (time(hour), Some(10_000), Some(left))), "{round}");
        assert_eq!(left(PeriodType::Daily), [(time("00:00:00"), Some(10_000), Some(9_963))], "{round}");
        engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    }
}

#[test]
fn a_change_of_zone_waits_for_the_end_of_the_day_even_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _clock) = open(folder.path(), at("2026-11-24T12:00:00Z"));
    record(&engine, vec![event("mover", 10_000)]);
    put_zone(&engine, "mover", "Asia/Kathmandu");
    let midnight_utc = at("2026-11-25T00:00:00Z");
    assert_eq!(state(&engine, "mover", QuotaType::Tokens, Window::Day).resets_at, midnight_utc);
    engine.close();
    drop(engine);

    let (engine, clock) = open(folder.path(), at("2026-11-24T18:20:00Z"));
    assert!(!reserve(&engine, "mover", 1, 60).allowed, "a new zone gives no new day");
    assert_eq!(state(&engine, "mover", QuotaType::Tokens, Window::Day).resets_at, midnight_utc);
    clock.set(midnight_utc);
    assert!(reserve(&engine, "mover", 10_000, 60).allowed);
    let resets_at = state(&engine, "mover", QuotaType::Tokens, Window::Day).resets_at;
    assert_eq!(resets_at, at("2026-11-25T18:15:00Z"), "from here on the day is Kathmandu's");
}

#[test]
fn a_month_ends_with_the_last_day_of_the_zone() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at("2028-02-29T22:00:00Z"));
    for (name, zone) in [("utc", "UTC"), ("santiago", "America/Santiago")] {
        put_zone(&engine, name, zone);
        put_override(&engine, name, Window::Day, None, None);
        put_override(&engine, name, Window::Month, Some(1_000), None);
        record(&engine, vec![event_at(name, at("2028-02-29T21:59:59Z"), 600)]);
        record(&engine, vec![event_at(name, at("2028-02-15T00:00:00Z"), 400)]);
        assert!(!reserve(&engine, name, 1, 60).allowed, "{name}");
    }
    clock.set(at("2028-03-01T00:00:00Z"));
    assert!(reserve(&engine, "utc", 1_000, 60).allowed);
    let denied = reserve(&engine, "santiago", 1, 60);
    assert!(!denied.allowed, "it is still February there");
    assert_eq!(denied.denied_by[0].state.resets_at, at("2028-03-01T03:00:00Z"));
    clock.set(at("2028-03-01T03:00:00Z"));
    assert!(reserve(&engine, "santiago", 1_000, 60).allowed);
    assert_eq!(state(&engine, "santiago", QuotaType::Tokens, Window::Month).resets_at, at("2028-04-01T03:00:00Z"));
}

#[test]
fn a_leap_day_is_a_day_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at("2028-02-28T23:59:59.999Z"));
    record(&engine, vec![event("leap", 1)]);
    clock.set(at("2028-02-29T12:00:00Z"));
    record(&engine, vec![event("leap", 10)]);
    clock.set(at("2028-03-01T00:00:00Z"));
    record(&engine, vec![event_at("leap", at("2028-02-29T23:59:59.999999Z"), 20), event("leap", 100)]);
    for round in ["live", "folded"] {
        let days: Vec<_> = rows(&engine, "leap", PeriodType::Daily)
            .iter()
            .map(|row| (row.period.start().to_string(), row.total_tokens_used))
            .collect();
        let expected = [("2028-02-28", 1), ("2028-02-29", 30), ("2028-03-01", 100)];
        assert_eq!(days, expected.map(|(day, tokens)| (format!("{day}T00:00:00Z"), tokens)), "{round}");
        let months: Vec<_> =
            rows(&engine, "leap", PeriodType::Monthly).iter().map(|row| row.total_tokens_used).collect();
        assert_eq!(months, [31, 100], "{round}");
        engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    }
    assert_eq!(tokens(&engine, "leap"), (Some(10_000), 100, 0));
}

#[test]
fn an_event_just_ahead_of_local_midnight_is_charged_to_the_day_that_comes() {
    let folder = tempfile::tempdir().unwrap();
    let midnight = at("2026-09-06T04:00:00Z");
    let (engine, clock) = open(folder.path(), midnight.plus_micros(-10 * MICROS_PER_SECOND));
    put_zone(&engine, "early", "America/Santiago");
    record(&engine, vec![event_at("early", midnight, 9_000)]);
    assert_eq!(tokens(&engine, "early").1, 0);
    clock.set(midnight);
    assert_eq!(tokens(&engine, "early").1, 9_000);
    clock.advance(MICROS_PER_DAY);
    assert_eq!(tokens(&engine, "early").1, 0);
}

#[test]
fn after_a_crash_windows_end_by_the_zones_that_were_in_force_then() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at("2026-11-24T10:00:00Z"));
    record(&engine, vec![event("mover", 100)]);
    // The counters are saved while the zone is UTC; what follows is in the journal alone.
    engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    clock.set(at("2026-11-25T02:00:00Z"));
    record(&engine, vec![event("mover", 3_000)]);
    put_zone(&engine, "mover", "America/New_York");
    // Midnight in New York, which ends no day that began in UTC.
    clock.set(at("2026-11-25T06:00:00Z"));
    record(&engine, vec![event("mover", 10)]);
    assert!(reserve(&engine, "mover", 2_000, 3_600).allowed);
    let expected = (Some(10_000), 3_010, 2_000);
    assert_eq!(tokens(&engine, "mover"), expected);
    let crashed = crash_copy(folder.path());
    let (again, clock) = open(crashed.path(), at("2026-11-25T06:00:00Z"));
    assert_eq!(tokens(&again, "mover"), expected, "the journal was replayed by the zone of its time");
    clock.set(at("2026-11-26T00:00:00Z"));
    let state = state(&again, "mover", QuotaType::Tokens, Window::Day);
    assert_eq!((state.used, state.resets_at), (0, at("2026-11-26T05:00:00Z")), "and then the day is New York's");
}
