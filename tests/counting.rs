//! What counts as what: every column of a metrics row, read back from a server that was given the events.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use chrono::{DateTime, Datelike, Duration, Utc};
use serde_json::{Value, json};

use support::{Server, count, dollars, midnight_days_ago, number, period_rows, rfc3339, wait_for};

/// The columns that a table of cases speaks of.
const STATUS_COLUMNS: [&str; 4] =
    ["api_calls_total", "api_calls_successful", "api_calls_failed", "api_calls_rate_limited"];

#[test]
fn a_status_is_a_success_a_failure_a_rate_limit_or_neither() {
    let server = Server::start();
    let at = rfc3339(midnight_days_ago(1));
    for (tenant, status, counted, charged) in [
        ("s200", json!(200), [1, 1, 0, 0], 1),
        ("s204", json!(204), [1, 1, 0, 0], 1),
        ("s299", json!(299), [1, 1, 0, 0], 1),
        ("none", Value::Null, [1, 1, 0, 0], 1),
        ("s302", json!(302), [1, 0, 0, 0], 1),
        ("s101", json!(101), [1, 0, 0, 0], 1),
        ("s400", json!(400), [1, 0, 1, 0], 1),
        ("s429", json!(429), [1, 0, 0, 1], 0),
        ("s499", json!(499), [1, 0, 1, 0], 1),
        ("s500", json!(500), [1, 0, 1, 0], 1),
    ] {
        let mut event = json!({"tenant_id": tenant, "event_type": "api_call", "event_timestamp": at});
        if !status.is_null() {
            event["api_status_code"] = status;
        }
        server.record(&event);
        let row = only_row(&server, tenant, "daily");
        assert_eq!(STATUS_COLUMNS.map(|column| count(&row, column)), counted, "{tenant}: {row}");
        assert_eq!(count(&row, "error_count"), counted[2], "{tenant}");
        assert_eq!(number(&row, "error_rate"), counted[2] as f64 * 100.0, "{tenant}");
        // The minute follows acceptance, not the event's own time.
        assert_eq!(count(&server.quota(tenant, "api_calls"), "used"), charged, "{tenant}");
    }
}

#[test]
fn a_chat_message_is_sent_or_received() {
    let server = Server::start();
    for (tenant, more, sent, received, charged) in [
        ("none", json!({}), 1, 0, 1),
        ("post", json!({"api_method": "POST"}), 1, 0, 1),
        ("get", json!({"api_method": "GET"}), 0, 1, 0),
        ("response", json!({"api_method": "POST", "metadata": {"is_response": true}}), 0, 1, 0),
        ("failed", json!({"api_method": "POST", "api_status_code": 500}), 1, 0, 0),
    ] {
        server.record(&event(tenant, "chat_message", &more));
        let row = only_row(&server, tenant, "daily");
        let counted = (count(&row, "chat_messages_sent"), count(&row, "chat_messages_received"));
        assert_eq!(counted, (sent, received), "{tenant}: {row}");
        assert_eq!(count(&server.quota(tenant, "chat_messages"), "used"), charged, "{tenant}");
    }
}

#[test]
fn sessions_are_counted_once_in_each_hour_day_and_month() {
    let server = Server::start();
    let (earlier, later) = two_days_of_one_month();
    let mut events = Vec::new();
    for (day, hour, session) in
        [(earlier, 10, "s1"), (earlier, 10, "s1"), (earlier, 11, "s1"), (earlier, 11, "s2"), (later, 9, "s1")]
    {
        let at = rfc3339(day + Duration::hours(hour));
        events.push(
            json!({"tenant_id": "t", "event_type": "chat_message", "chat_session_id": session, "event_timestamp": at}),
        );
    }
    // A session of another kind of event is no chat session.
    let at = rfc3339(later + Duration::hours(9));
    events.push(json!({"tenant_id": "t", "event_type": "api_call", "chat_session_id": "s3", "event_timestamp": at}));
    server.record(&json!(events));
    for aggregated in [false, true] {
        let sessions = |period| {
            let rows = period_rows(&server, "t", period);
            rows.iter().map(|row| count(row, "chat_sessions_created")).collect::<Vec<_>>()
        };
        assert_eq!(
            (sessions("hourly"), sessions("daily"), sessions("monthly")),
            (vec![1, 2, 1], vec![1, 2], vec![2]),
            "newest first, aggregated: {aggregated}"
        );
        server.aggregate();
    }
}

#[test]
fn embeddings_searches_and_documents_are_counted_apart() {
    let server = Server::start();
    server.record(&json!([
        event("t", "embedding", &json!({"tokens_consumed": 70})),
        event("t", "embedding", &json!({"tokens_consumed": 70, "embedding_tokens": 30})),
        event("t", "embedding", &json!({"tokens_consumed": 5, "api_status_code": 500})),
        event("t", "search", &json!({"search_query_tokens": 12, "search_result_count": 3})),
        event("t", "kb_ingest", &json!({"api_status_code": 201})),
        event("t", "kb_ingest", &json!({})),
        event("t", "kb_ingest", &json!({"api_status_code": 422})),
        event(
            "t",
            "of_my_own",
            &json!({"input_tokens": 10, "output_tokens": 4, "reasoning_tokens": 3, "cached_input_tokens": 8})
        ),
    ]));
    let row = only_row(&server, "t", "daily");
    for (column, counted) in [
        ("embeddings_generated", 3),
        ("embeddings_tokens_used", 105),
        ("semantic_searches_performed", 1),
        ("kb_documents_failed", 1),
        ("total_tokens_used", 159),
        ("input_tokens", 10),
        ("output_tokens", 4),
        ("reasoning_tokens", 3),
        ("api_calls_total", 8),
    ] {
        assert_eq!(count(&row, column), counted, "{column} in {row}");
    }
    assert_eq!(count(&server.quota("t", "embeddings"), "used"), 2, "below status 400");
    assert_eq!(count(&server.quota("t", "tokens"), "used"), 159, "at any status");
}

#[test]
fn a_denial_of_429_charges_nothing_whatever_it_names() {
    let server = Server::start();
    server.record(&event("t", "chat_message", &json!({"api_status_code": 429, "tokens_consumed": 50})));
    server.record(&event("t", "embedding", &json!({"api_status_code": 429, "tokens_consumed": 50})));
    for quota_type in ["tokens", "api_calls", "chat_messages", "embeddings"] {
        assert_eq!(count(&server.quota("t", quota_type), "used"), 0, "{quota_type}");
    }
}

#[test]
fn latencies_and_the_busiest_second_come_from_the_events_themselves() {
    let server = Server::start();
    let start = midnight_days_ago(1) + Duration::hours(14);
    let mut events: Vec<Value> = (1..=100)
        .map(|ms| {
            // One in every second, seven in the fiftieth.
            let at = rfc3339(start + Duration::seconds(ms));
            json!({"tenant_id": "t", "event_type": "api_call", "api_response_time_ms": ms, "event_timestamp": at})
        })
        .collect();
    for tenth in 1..=6 {
        let at = rfc3339(start + Duration::milliseconds(50_000 + tenth * 100));
        events.push(json!({"tenant_id": "t", "event_type": "api_call", "event_timestamp": at}));
    }
    server.record(&json!(events));
    for aggregated in [false, true] {
        for period in ["hourly", "daily", "monthly"] {
            let row = only_row(&server, "t", period);
            assert_eq!(number(&row, "peak_qps"), 7.0, "{period}, aggregated: {aggregated}");
            assert_eq!(number(&row, "api_latency_avg_ms"), 50.5, "{period}: only over those that name one");
            for (column, exact) in [("api_latency_p95_ms", 95.0), ("api_latency_p99_ms", 99.0)] {
                let shown = number(&row, column);
                assert!((shown - exact).abs() <= exact * 0.01, "{period}, {column}: {shown}");
            }
        }
        server.aggregate();
    }
    let silent = event("silent", "api_call", &json!({}));
    server.record(&silent);
    assert_eq!(number(&only_row(&server, "silent", "daily"), "api_latency_p99_ms"), 0.0);
}

#[test]
fn costs_are_added_exactly_and_an_unknown_one_is_never_zero() {
    let server = Server::start();
    let costs = |tenant: &str, costs: &[&str]| -> Value {
        let parse = |cost: &&str| serde_json::from_str::<Value>(cost).unwrap();
        costs
            .iter()
            .map(|cost| event(tenant, "api_call", &json!({"tokens_consumed": 1, "cost_usd": parse(cost)})))
            .collect()
    };
    server.record(&costs("tenths", &["0.1", "0.2"]));
    server.record(&costs("nanos", &["1e-9", "0.000000001", "\"0.000000001\""]));
    server.record(&costs("mixed", &["0.25"]));
    server.record(&event("mixed", "api_call", &json!({"tokens_consumed": 9, "model": "of-nobody"})));
    server.record(&event("unpriced", "api_call", &json!({"tokens_consumed": 9, "model": "of-nobody"})));
    for aggregated in [false, true] {
        for (tenant, cost, unpriced) in
            [("tenths", Some(0.3), 0), ("nanos", Some(0.000000003), 0), ("mixed", Some(0.25), 1), ("unpriced", None, 1)]
        {
            for period in ["hourly", "daily", "monthly"] {
                let row = only_row(&server, tenant, period);
                assert_eq!(dollars(&row, "estimated_cost_usd"), cost, "{tenant}, {period}, aggregated: {aggregated}");
                assert_eq!(count(&row, "unpriced_events"), unpriced, "{tenant}, {period}");
            }
        }
        server.aggregate();
    }
    let body = server.get("/api/admin/usage?metric=cost&limit=2").expect(200);
    let top: Vec<_> = body["topConsumers"].as_array().unwrap().iter().map(|row| row["tenant_id"].clone()).collect();
    assert_eq!(top, ["tenths", "mixed"]);
}

#[test]
fn a_denied_reserve_or_enforce_is_counted_in_the_day() {
    let server = Server::start();
    server.record(&json!({"tenant_id": "t", "event_type": "api_call"}));
    let item = json!({"tenant_id": "t", "quota_type": "tokens", "amount": 10_001});
    for _ in 0..3 {
        assert_eq!(server.reserve("t", &[("tokens", 10_001)]).status, 429);
    }
    assert_eq!(server.post("/api/quota/enforce", &item).json()["allowed"], json!(false));
    assert_eq!(server.post("/api/quota/check", &item).json()["allowed"], json!(false), "a check is not counted");
    wait_for("four denials are counted", 5, || {
        let rows = period_rows(&server, "t", "daily");
        let denials: u64 = rows.iter().map(|row| count(row, "quota_exceeded_count")).sum();
        assert!(denials <= 4, "{denials}");
        (denials == 4).then_some(())
    });
    let body = server.get("/api/admin/usage").expect(200);
    assert_eq!(body["exceedingQuota"][0]["tenant_id"], json!("t"), "{body}");
}

/// An event that happens now, so that it is charged to the open windows.
fn event(tenant: &str, event_type: &str, more: &Value) -> Value {
    let mut event = json!({"tenant_id": tenant, "event_type": event_type});
    for (name, value) in more.as_object().expect("an object") {
        event[name] = value.clone();
    }
    event
}

/// The only row of this period.
#[track_caller]
fn only_row(server: &Server, tenant: &str, period: &str) -> Value {
    let mut rows = period_rows(server, tenant, period);
    assert_eq!(rows.len(), 1, "one {period} row of {tenant}: {rows:?}");
    rows.remove(0)
}

/// Two days that follow each other, both a few days ago and in one month.
fn two_days_of_one_month() -> (DateTime<Utc>, DateTime<Utc>) {
    let days = (2..6).map(|ago| (midnight_days_ago(ago + 1), midnight_days_ago(ago)));
    days.into_iter().find(|(earlier, later)| earlier.month() == later.month()).expect("a month has more than one day")
}
