//! One retry contract: the same id and content counts once, whenever and however it comes again; other content changes nothing.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::sync::Barrier;

use serde_json::{Value, json};

use support::client::is_counted;
use support::{Answer, Server, count, midnight_days_ago, period_rows, rfc3339};

const EVENTS: &str = "/api/usage/events";
const NDJSON: &str = "application/x-ndjson";
/// One word for one thing: alone or in a batch.
const CONFLICT: &str = "conflict";

#[test]
fn the_same_id_twice_in_one_batch_counts_once() {
    let server = Server::start();
    let answer = server.post(EVENTS, &json!([event("a", 5), event("b", 7), event("a", 5)])).expect(200);
    is_counted(&answer, 2, 1);
    assert_eq!(totals(&server), (2, 12));
}

#[test]
fn the_same_id_in_two_tenants_is_two_events() {
    let server = Server::start();
    let mut other = event("a", 5);
    other["tenant_id"] = json!("other");
    is_counted(&server.post(EVENTS, &json!([event("a", 5), other])).expect(200), 2, 0);
}

#[test]
fn the_same_ids_in_many_requests_at_once_count_once() {
    const CALLERS: usize = 4;
    const IDS: u64 = 25;
    let server = Server::start();
    let barrier = Barrier::new(CALLERS);
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let caller = || {
            let round = |id: u64| {
                barrier.wait();
                server.post(EVENTS, &event(&format!("id-{id}"), 3)).expect(200)
            };
            (0..IDS).map(round).collect::<Vec<_>>()
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let sum = |name| answers.iter().map(|answer| count(answer, name)).sum::<u64>();
    assert_eq!((sum("accepted"), sum("duplicates")), (IDS, (CALLERS as u64 - 1) * IDS));
    assert_eq!(totals(&server), (IDS, 3 * IDS));
}

#[test]
fn a_retry_is_known_after_filing_and_after_every_kind_of_restart() {
    let mut server = Server::start();
    let batch: Vec<Value> = (0..300).map(|place| event(&format!("id-{place}"), place)).collect();
    let batch = json!(batch);
    is_counted(&server.post(EVENTS, &batch).expect(200), 300, 0);
    let before = totals(&server);
    let again = |server: &Server, when: &str| {
        is_counted(&server.post(EVENTS, &batch).expect(200), 0, 300);
        let conflict = server.post(EVENTS, &event("id-7", 8));
        assert_eq!(conflict.expect_error(409, "event_id")["code"], json!(CONFLICT), "{when}");
        assert_eq!(totals(server), before, "{when}");
    };
    again(&server, "at once");
    server.aggregate();
    again(&server, "filed");
    server.restart();
    again(&server, "restarted");
    server.kill_9();
    server.start_again();
    again(&server, "killed");
}

#[test]
fn other_content_under_a_known_id_is_a_conflict_and_the_rest_of_the_batch_is_kept() {
    let server = Server::start();
    server.record(&event("a", 5));
    let answer = server.post(EVENTS, &json!([event("b", 1), event("a", 6), event("c", 1)])).expect(200);
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(2), &json!(0)), "{answer}");
    is_rejected(&answer, &[(1, CONFLICT)]);
    // Inside one batch the first wins.
    let answer = server.post(EVENTS, &json!([event("d", 1), event("d", 2)])).expect(200);
    assert_eq!(answer["accepted"], json!(1), "{answer}");
    is_rejected(&answer, &[(1, CONFLICT)]);
    assert_eq!(totals(&server), (4, 8));
    let other_type = json!({"tenant_id": "t", "event_type": "search", "event_id": "a", "tokens_consumed": 5});
    assert_eq!(server.post(EVENTS, &other_type).expect_error(409, "event_id")["code"], json!(CONFLICT));
}

#[test]
fn a_retry_that_leaves_the_time_to_the_server_is_the_same() {
    let mut server = Server::start();
    server.record(&event("a", 5));
    is_counted(&server.post(EVENTS, &event("a", 5)).expect(200), 0, 1);
    server.aggregate();
    is_counted(&server.post(EVENTS, &event("a", 5)).expect(200), 0, 1);
    server.restart();
    is_counted(&server.post(EVENTS, &event("a", 5)).expect(200), 0, 1);
    // With a time of its own it is other content, also when that is a time that could have been meant.
    let mut timed = event("a", 5);
    timed["event_timestamp"] = json!(rfc3339(midnight_days_ago(1)));
    server.post(EVENTS, &timed).expect_error(409, "event_id");
}

#[test]
fn an_idempotency_key_gives_ids_to_events_without_one() {
    let mut server = Server::start();
    let bare = |tokens: u64| json!({"tenant_id": "t", "event_type": "api_call", "tokens_consumed": tokens});
    let send = |server: &Server, key: &str, body: &Value| {
        server.post_as("application/json", EVENTS, &[("idempotency-key", key)], body.to_string().as_bytes())
    };
    let batch = json!([bare(1), event("own", 2), bare(3)]);
    is_counted(&send(&server, "request-1", &batch).expect(200), 3, 0);
    is_counted(&send(&server, "request-1", &batch).expect(200), 0, 3);
    server.restart();
    is_counted(&send(&server, "request-1", &batch).expect(200), 0, 3);
    assert_eq!(totals(&server), (3, 6));
    is_counted(&send(&server, "request-2", &json!([bare(1)])).expect(200), 1, 0);
    // The ids are key:index, so that they can be named one by one.
    let mut named = bare(3);
    named["event_id"] = json!("request-1:2");
    is_counted(&server.post(EVENTS, &named).expect(200), 0, 1);
}

#[test]
fn without_any_id_the_same_content_is_two_events() {
    let server = Server::start();
    let bare = json!({"tenant_id": "t", "event_type": "api_call", "tokens_consumed": 1});
    server.record(&bare);
    server.record(&bare);
    assert_eq!(totals(&server), (2, 2));
}

#[test]
fn a_broken_line_in_the_middle_of_a_stream_costs_that_line() {
    let server = Server::start();
    let lines = [
        event("a", 1).to_string(),
        r#"{"tenant_id": "t", "event_type": "api_ca"#.to_owned(),
        event("b", 2).to_string(),
        r#"{"tenant_id": "t"}"#.to_owned(),
        event("a", 1).to_string(),
        event("c", 4).to_string(),
    ];
    let answer = server.post_as(NDJSON, EVENTS, &[], lines.join("\n").as_bytes()).expect(200);
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(3), &json!(1)), "{answer}");
    let rejected: Vec<_> = answer["rejected"].as_array().unwrap().iter().map(|one| one["index"].clone()).collect();
    assert_eq!(rejected, [1, 3], "{answer}");
    assert_eq!(totals(&server), (3, 7));
}

#[test]
fn a_stream_may_be_longer_than_a_batch() {
    let server = Server::start();
    let lines: String = (0..12_000).map(|place| event(&format!("id-{place}"), 1).to_string() + "\n").collect();
    is_counted(&server.post_as(NDJSON, EVENTS, &[], lines.as_bytes()).expect(200), 12_000, 0);
    is_counted(&server.post_as(NDJSON, EVENTS, &[], lines.as_bytes()).expect(200), 0, 12_000);
    assert_eq!(totals(&server), (12_000, 12_000));
}

#[test]
fn at_most_a_hundred_rejections_are_listed() {
    let server = Server::start();
    let lines: String = (0..250).map(|_| "{\"tenant_id\": \"t\"}\n").collect();
    let answer = server.post_as(NDJSON, EVENTS, &[], lines.as_bytes()).expect(200);
    assert_eq!(answer["accepted"], json!(0), "{answer}");
    assert_eq!(answer["rejected"].as_array().map(Vec::len), Some(100));
    assert_eq!(answer["rejected_total"], json!(250), "their number is whole");
}

#[test]
fn ten_thousand_events_are_a_batch_and_one_more_is_refused_whole() {
    let server = Server::start();
    let batch = |events: u64| -> Value { (0..events).map(|place| event(&format!("id-{place}"), 1)).collect() };
    let refused: Answer = server.post(EVENTS, &batch(10_001));
    assert!([400, 413].contains(&refused.status), "{refused:?}");
    assert!(refused.json()["code"].is_string(), "{refused:?}");
    is_counted(&server.post(EVENTS, &batch(10_000)).expect(200), 10_000, 0);
    assert_eq!(totals(&server), (10_000, 10_000));
}

/// An event of tenant `t` that leaves its time to the server.
fn event(id: &str, tokens: u64) -> Value {
    json!({"tenant_id": "t", "event_type": "api_call", "event_id": id, "tokens_consumed": tokens})
}

#[track_caller]
fn is_rejected(answer: &Value, expected: &[(u64, &str)]) {
    let rejected = answer["rejected"].as_array().unwrap_or_else(|| panic!("`rejected` in {answer}"));
    let shown: Vec<_> = rejected.iter().map(|one| (count(one, "index"), one["code"].as_str().unwrap())).collect();
    assert_eq!(shown, expected, "{answer}");
    assert!(rejected.iter().all(|one| one["error"].as_str().is_some_and(|error| !error.is_empty())), "{answer}");
}

/// (calls, tokens) of tenant `t`; its quota must have been charged the same.
#[track_caller]
fn totals(server: &Server) -> (u64, u64) {
    let rows = period_rows(server, "t", "daily");
    let sum = |column| rows.iter().map(|row| count(row, column)).sum::<u64>();
    let shown = (sum("api_calls_total"), sum("total_tokens_used"));
    assert_eq!(count(&server.quota("t", "tokens"), "used"), shown.1, "the quota's own count");
    shown
}
