//! The documented utilities as a Rust program uses them: the tracker of one call, and enforce before it.

use metergate::Metergate;
use metergate::clock::Clock;
use metergate::domain::event::{EventOutcome, RecordedEvent};
use metergate::domain::quota::QuotaType;
use metergate::domain::time::Timestamp;
use metergate::tracker::{EventQuery, PendingOutcomes, Success};
use serde_json::{Map, Value, json};

use crate::{NOON, at, open, rows, tenant, tokens};

fn object(value: Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

fn accepted(receipt: Option<PendingOutcomes>) {
    assert_eq!(receipt.unwrap().wait().unwrap(), [EventOutcome::Accepted]);
}

/// The tenant's only event.
fn only_event(engine: &Metergate, name: &str) -> RecordedEvent {
    let query = EventQuery { from: Timestamp::default(), to: Timestamp::MAX, event_type: None, limit: 10, after: None };
    let mut page = engine.usage_tracker().get_tenant_events(&tenant(name), &query).unwrap();
    assert_eq!(page.events.len(), 1);
    page.events.remove(0)
}

fn metadata(event: &RecordedEvent) -> Value {
    serde_json::from_str(event.event.metadata.as_ref().unwrap()).unwrap()
}

fn engine() -> (tempfile::TempDir, Metergate, Clock) {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    (folder, engine, clock)
}

#[test]
fn a_success_records_200_and_the_time_since_the_tracker_was_made() {
    let (_folder, engine, clock) = engine();
    let call = engine.usage_tracker().track_usage(tenant("acme"), "api_call", object(json!({"a": 1, "b": 1})));
    clock.advance(1_234_567);
    accepted(call.record_success(Success {
        tokens_used: Some(42),
        metadata: object(json!({"b": 2})),
        ..Success::default()
    }));
    let event = only_event(&engine, "acme");
    assert_eq!(event.event.api_status_code, Some(200));
    assert_eq!(event.event.api_response_time_ms, Some(1_234));
    assert_eq!(event.event.tokens_consumed, Some(42));
    assert_eq!(metadata(&event), json!({"a": 1, "b": 2}), "the later word counts");
}

#[test]
fn a_success_records_what_it_is_told_instead() {
    let (_folder, engine, clock) = engine();
    let call = engine.usage_tracker().track_usage(tenant("acme"), "api_call", None);
    clock.advance(1_000_000);
    accepted(call.record_success(Success { response_time_ms: Some(7), status_code: Some(201), ..Success::default() }));
    let event = only_event(&engine, "acme");
    assert_eq!((event.event.api_status_code, event.event.api_response_time_ms), (Some(201), Some(7)));
    assert_eq!(event.event.metadata, None);
}

#[test]
fn a_failure_records_its_status_its_error_and_the_tokens_that_are_known() {
    let (_folder, engine, _clock) = engine();
    let mut call = engine.usage_tracker().track_usage(tenant("acme"), "api_call", object(json!({"a": 1})));
    call.event_mut().unwrap().input_tokens = Some(12);
    // Longer than an event's metadata may be: it is cut, and the event is kept.
    accepted(call.record_failure(&format!("the model is gone: {}", "x".repeat(5_000)), 500));
    let event = only_event(&engine, "acme");
    assert_eq!((event.event.api_status_code, event.event.input_tokens), (Some(500), Some(12)));
    let metadata = metadata(&event);
    assert_eq!(metadata["a"], 1);
    assert!(metadata["error"].as_str().unwrap().starts_with("the model is gone: xxx"));
    assert_eq!(tokens(&engine, "acme").1, 12, "tokens are charged at any status");
}

#[test]
fn a_rate_limit_records_429_and_charges_nothing() {
    let (_folder, engine, _clock) = engine();
    accepted(engine.usage_tracker().track_usage(tenant("acme"), "api_call", None).record_rate_limit());
    assert_eq!(only_event(&engine, "acme").event.api_status_code, Some(429));
    let day = engine.usage_tracker().get_today_usage(&tenant("acme")).unwrap();
    assert_eq!((day.api_calls_total, day.api_calls_rate_limited, day.error_count), (1, 1, 0));
    let calls = engine.quota_enforcer().get_quota_status(&tenant("acme")).unwrap();
    assert_eq!(calls.primary(QuotaType::ApiCalls).unwrap().used, 0);
}

#[test]
fn a_tracker_that_is_dropped_records_499() {
    let (folder, engine, clock) = engine();
    let call = engine.usage_tracker().track_usage(tenant("acme"), "api_call", None);
    clock.advance(5_000);
    drop(call);
    // Nobody waits for its receipt: closing commits what was queued.
    engine.close();
    drop(engine);
    let (engine, _clock) = open(folder.path(), at("2026-11-24T12:00:01Z"));
    let event = only_event(&engine, "acme");
    assert_eq!((event.event.api_status_code, event.event.api_response_time_ms), (Some(499), Some(5)));
}

#[test]
fn a_tracker_never_fails_its_caller() {
    let (_folder, engine, _clock) = engine();
    let usage = engine.usage_tracker();
    let call = usage.track_usage(tenant("acme"), "api_call", None);
    engine.close();
    assert!(call.record_success(Success::default()).is_none_or(|receipt| receipt.wait().is_err()));
}

#[test]
fn the_quick_start_checks_first_records_later_and_charges_once() {
    let (_folder, engine, _clock) = engine();
    let (usage, quota, acme) = (engine.usage_tracker(), engine.quota_enforcer(), tenant("acme"));
    let answer = quota.enforce_quota(&acme, QuotaType::Tokens, 1_500).unwrap();
    assert_eq!((answer.allowed, answer.tokens_remaining, answer.quota_limit), (true, Some(8_500), Some(10_000)));
    let call = usage.track_usage(acme.clone(), "chat_message", None);
    accepted(call.record_success(Success { tokens_used: Some(1_200), ..Success::default() }));
    assert_eq!(tokens(&engine, "acme"), (Some(10_000), 1_200, 0));
    let denied = quota.enforce_quota(&acme, QuotaType::Tokens, 8_801).unwrap();
    assert!(!denied.allowed && denied.error.is_some());
    assert_eq!(denied.tokens_remaining, Some(8_800));
    assert_eq!(rows(&engine, "acme", metergate::domain::time::PeriodType::Daily)[0].total_tokens_used, 1_200);
}
