//! When something counts: days are UTC and half-open, a late event finds its hour, and writing rows again changes nothing.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use chrono::{DateTime, Duration, TimeZone, Utc};
use chrono_tz::Asia::Kathmandu;
use serde_json::{Value, json};

use support::{NEVER_SAME, Server, count, midnight_days_ago, period_rows, rfc3339, without};

const PERIODS: [&str; 3] = ["hourly", "daily", "monthly"];

#[test]
fn midnight_belongs_to_the_new_day() {
    let server = Server::start();
    let midnight = midnight_days_ago(2);
    let last = midnight - Duration::milliseconds(1);
    server.record(&json!([at("t", last, 3), at("t", midnight, 5)]));
    for aggregated in [false, true] {
        for period in ["daily", "hourly"] {
            let rows = period_rows(&server, "t", period);
            let tokens: Vec<_> = rows.iter().map(|row| count(row, "total_tokens_used")).collect();
            assert_eq!(tokens, [5, 3], "{period}, aggregated: {aggregated}");
            assert_eq!(time(&rows[0], "period_start"), midnight, "{period}");
            assert_eq!(time(&rows[1], "period_end"), midnight, "{period}: half-open");
        }
        server.aggregate();
    }
}

#[test]
fn hours_days_and_months_agree() {
    let server = Server::start();
    let events: Vec<Value> = (0..200u64)
        .map(|place| {
            // Every 37 minutes over five days, with all kinds of status.
            let mut event = at("t", midnight_days_ago(6) + Duration::minutes(place as i64 * 37), place * 11 + 1);
            event["api_status_code"] = json!([200, 200, 302, 429, 500][place as usize % 5]);
            event["cost_usd"] = json!(0.01);
            event
        })
        .collect();
    server.record(&json!(events));
    for aggregated in [false, true] {
        for column in [
            "api_calls_total",
            "api_calls_successful",
            "api_calls_failed",
            "api_calls_rate_limited",
            "total_tokens_used",
        ] {
            let [hours, days, months] = PERIODS
                .map(|period| period_rows(&server, "t", period).iter().map(|row| count(row, column)).sum::<u64>());
            assert_eq!((hours, days), (days, months), "{column}, aggregated: {aggregated}");
        }
        server.aggregate();
    }
    let tokens: u64 = period_rows(&server, "t", "monthly").iter().map(|row| count(row, "total_tokens_used")).sum();
    assert_eq!(tokens, (0..200).map(|place| place * 11 + 1).sum::<u64>());
}

#[test]
fn an_event_a_day_late_finds_its_hour_even_when_that_is_aggregated() {
    let mut server = Server::start();
    let hour = midnight_days_ago(1) + Duration::hours(7);
    server.record(&json!([at("t", hour, 10), at("t", hour + Duration::minutes(59), 20)]));
    server.aggregate();
    assert_eq!(hour_row(&server, "t", hour), (2, 30));
    server.record(&at("t", hour + Duration::minutes(30), 7));
    assert_eq!(hour_row(&server, "t", hour), (3, 37), "at once");
    server.aggregate();
    assert_eq!(hour_row(&server, "t", hour), (3, 37), "after the next run");
    server.record(&at("t", hour + Duration::minutes(31), 1));
    server.restart();
    assert_eq!(hour_row(&server, "t", hour), (4, 38), "after a restart without a run");
    assert_eq!(count(&server.quota("t", "tokens"), "used"), 0, "and is charged to its own day");
}

#[test]
fn aggregating_again_writes_the_same_rows() {
    let mut server = Server::start();
    let events: Vec<Value> =
        (0..50).map(|place| at("t", midnight_days_ago(3) + Duration::minutes(place * 61), 9)).collect();
    server.record(&json!(events));
    server.aggregate();
    let rows = |server: &Server| PERIODS.map(|period| without(NEVER_SAME, &period_rows(server, "t", period)));
    let first = rows(&server);
    assert_eq!(first[1].len(), 3, "{:?}", first[1]);
    server.aggregate();
    assert_eq!(rows(&server), first, "aggregated twice");
    server.restart();
    server.aggregate();
    assert_eq!(rows(&server), first, "and after a restart");
}

#[test]
fn an_event_without_a_time_happened_now() {
    let server = Server::start();
    let before = Utc::now() - Duration::milliseconds(1);
    server.record(&json!({"tenant_id": "t", "event_type": "api_call", "event_id": "now"}));
    let body = server.get("/api/usage/t/events").expect(200);
    let events = body["events"].as_array().unwrap_or_else(|| panic!("`events` in {body}"));
    assert_eq!((events.len(), &events[0]["event_id"]), (1, &json!("now")), "{body}");
    let happened = time(&events[0], "event_timestamp");
    assert!(before <= happened && happened <= Utc::now(), "{happened}");
}

#[test]
fn raw_events_are_listed_newest_first_by_pages_without_a_gap() {
    let server = Server::start();
    let start = midnight_days_ago(1);
    // Seven share each second, so that a page ends among equal times.
    let events: Vec<Value> = (0..100i64)
        .map(|place| {
            let mut event = at("t", start + Duration::seconds(place / 7), place as u64);
            event["event_id"] = json!(format!("e{place}"));
            event["event_type"] = json!(if place % 2 == 0 { "api_call" } else { "search" });
            event
        })
        .collect();
    server.record(&json!(events));
    for (filter, expected) in [("", 100), ("&event_type=search", 50)] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let body = server.get(&format!("/api/usage/t/events?limit=9{filter}{cursor}")).expect(200);
            let page = body["events"].as_array().expect("events");
            assert!(page.len() <= 9, "{body}");
            seen.extend(
                page.iter()
                    .map(|event| (time(event, "event_timestamp"), event["event_id"].as_str().unwrap().to_owned())),
            );
            let Some(next) = body["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            assert!(seen.len() <= 100, "it goes on without an end");
        }
        assert!(seen.is_sorted_by(|newer, older| newer.0 >= older.0), "newest first");
        let mut ids: Vec<_> = seen.into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), expected, "{filter:?}: each once");
    }
}

#[test]
fn a_quota_day_follows_its_zone_and_a_usage_day_follows_utc() {
    let server = Server::start();
    server.put_tenant("kathmandu", &json!({"plan": "trial", "zone": "Asia/Kathmandu"}));
    let denied = server.reserve("kathmandu", &[("tokens", 10_001)]).expect(429);
    let resets_at = time(&denied["denied_by"][0], "resets_at");
    assert_eq!(resets_at.format("%H:%M:%S").to_string(), "18:15:00", "midnight at UTC+05:45");

    // The local day's first instant and the one before: only the first is charged to the quota day.
    let today = Utc::now().with_timezone(&Kathmandu).date_naive().and_hms_opt(0, 0, 0).unwrap();
    let local_midnight = Kathmandu.from_local_datetime(&today).unwrap().with_timezone(&Utc);
    assert_eq!(resets_at - local_midnight, Duration::days(1));
    server.record(&json!([
        at("kathmandu", local_midnight - Duration::milliseconds(1), 1_000),
        at("kathmandu", local_midnight, 30),
    ]));
    assert_eq!(count(&server.quota("kathmandu", "tokens"), "used"), 30);
    // The denial above made a row of today, without events.
    let mut rows = period_rows(&server, "kathmandu", "daily");
    rows.retain(|row| count(row, "api_calls_total") > 0);
    assert_eq!(rows.len(), 1, "18:14 and 18:15 are one UTC day: {rows:?}");
    assert_eq!(count(&rows[0], "total_tokens_used"), 1_030);
    assert_eq!(time(&rows[0], "period_start").format("%H:%M:%S").to_string(), "00:00:00");
}

/// An event of so many tokens at this time.
fn at(tenant: &str, time: DateTime<Utc>, tokens: u64) -> Value {
    json!({"tenant_id": tenant, "event_type": "api_call", "event_timestamp": rfc3339(time), "tokens_consumed": tokens})
}

/// (calls, tokens) of the tenant's row of this hour; its day's and month's rows must agree, as they are its only ones.
#[track_caller]
fn hour_row(server: &Server, tenant: &str, hour: DateTime<Utc>) -> (u64, u64) {
    let [hourly, daily, monthly] = PERIODS.map(|period| {
        let rows = period_rows(server, tenant, period);
        assert_eq!(rows.len(), 1, "{period}: {rows:?}");
        (time(&rows[0], "period_start"), count(&rows[0], "api_calls_total"), count(&rows[0], "total_tokens_used"))
    });
    assert_eq!((hourly.0, daily.1, daily.2, monthly.1, monthly.2), (hour, hourly.1, hourly.2, hourly.1, hourly.2));
    (hourly.1, hourly.2)
}

#[track_caller]
fn time(row: &Value, column: &str) -> DateTime<Utc> {
    let text = row[column].as_str().unwrap_or_else(|| panic!("`{column}` is no text in {row}"));
    text.parse().unwrap_or_else(|error| panic!("{column} {text}: {error}"))
}
